"""Tables, and their forms for people and programs: terminal, Markdown, LaTeX, CSV; pages show them as HTML."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from atha.documents import escaping
from atha.documents.escaping import latex, markdown, terminal

if TYPE_CHECKING:
    from rich.table import Table as Drawn


@dataclass(frozen=True)
class Table:
    """Headers and rows of text, with a title and notes.

    Attributes:
        title: above the table.
        headers: of the columns, the first of which names the rows; all empty where none is needed.
        rows: of cells.
        notes: sentences below the table.
        numbers: whether all columns but the first are numbers rather than words.
    """

    kind: ClassVar[str] = "table"
    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    numbers: bool = True


def to_terminal(table: Table) -> "Drawn":
    """For a console of rich; the notes are left to it."""
    from rich.table import Table as Drawn
    from rich.text import Text

    made = Drawn(
        title=Text(terminal(table.title), style="bold") if table.title else None,
        title_justify="left",
        show_header=any(table.headers),
    )
    for index, header in enumerate(table.headers):
        made.add_column(Text(terminal(header)), justify="right" if table.numbers and index else "left", overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(terminal(cell)) for cell in row))
    return made


def to_markdown(table: Table) -> str:
    """A pipe table; text is escaped."""
    side = "---:" if table.numbers else "---"
    lines = [f"**{markdown(table.title)}**", ""] if table.title else []
    lines.append("| " + " | ".join(map(markdown, table.headers)) + " |")
    lines.append("|" + "|".join(["---"] + [side] * (len(table.headers) - 1)) + "|")
    lines += ["| " + " | ".join(map(markdown, row)) + " |" for row in table.rows]
    lines += ["", *map(markdown, table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """A table for the package booktabs; text is escaped."""
    side = "r" if table.numbers else "l"
    lines = [
        r"\begin{table}",
        rf"\caption{{{' '.join(latex(text.rstrip('.')) + '.' for text in (table.title, *table.notes) if text)}}}",
        rf"\begin{{tabular}}{{l{side * (len(table.headers) - 1)}}}",
        r"\toprule",
        " & ".join(map(latex, table.headers)) + r" \\",
        r"\midrule",
        *(" & ".join(map(latex, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Comma-separated values with a header; numbers unrounded, nothing for what is not known, no formulas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(escaping.csv, headers))
    writer.writerows(["" if cell is None else escaping.csv(cell) for cell in row] for row in rows)
    return text.getvalue()
