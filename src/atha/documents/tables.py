"""Tables as text for people and programs: markdown, LaTeX, CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Format = Literal["table", "markdown", "latex", "csv", "json"]


@dataclass(frozen=True)
class Table:
    """Headers and rows of text, with a title and notes.

    Attributes:
        title: above the table.
        headers: of the columns; the first column is words, the others are mostly numbers.
        rows: of cells.
        notes: sentences below the table.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def to_markdown(table: Table) -> str:
    """A pipe table; text is escaped."""
    lines = [f"**{escape_markdown(table.title)}**", ""] if table.title else []
    lines.append("| " + " | ".join(map(escape_markdown, table.headers)) + " |")
    lines.append("|" + "|".join(["---"] + ["---:"] * (len(table.headers) - 1)) + "|")
    lines += ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in table.rows]
    lines += ["", *map(escape_markdown, table.notes)] if table.notes else []
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """A table for the package booktabs; text is escaped."""
    lines = [
        r"\begin{table}",
        rf"\caption{{{' '.join(_latex(text.rstrip('.')) + '.' for text in (table.title, *table.notes) if text)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.headers) - 1)}}}",
        r"\toprule",
        " & ".join(map(_latex, table.headers)) + r" \\",
        r"\midrule",
        *(" & ".join(map(_latex, row)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Comma-separated values with a header; numbers unrounded, nothing for what is not known."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return text.getvalue()


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]~|" else letter for letter in escaped)
    return " ".join(escaped.split())


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": "$<$", ">": "$>$", "|": r"\textbar{}",
    "[": "{[}", "*": "{*}",
}  # fmt: skip


def _latex(text: str) -> str:
    return " ".join("".join(_LATEX.get(letter, letter) for letter in text).split())
