"""Tables as text: whatever a class or method is called, it reads back as it was."""

import csv
import io
import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from atha.documents.escaping import from_csv, markdown, markdown_code
from atha.documents.tables import Table, to_csv, to_latex, to_markdown, to_terminal

NASTY = [
    "a|b",
    "<script>alert(1)</script>",
    "50%_x",
    "_x_",
    "__init__",
    "*bold*",
    "`code`",
    "[link](http://example.org)",
    "![image](x.png)",
    "~~gone~~",
    "&lt; and &amp;",
    "back\\slash",
    "\\|",
    "C:\\new\\|x",
    "{brace} $5 #1 & ~ ^",
    "é 中 ± \u2212",
    "1. first",
    "# head",
    "- item",
    "[bold]",
    "*star",
    '"quoted", and a comma',
    "x" * 200,
]


def table(*cells, title="", notes=()):
    return Table(title, ["method", "accuracy"], [[cell, "51.83 ± 0.66"] for cell in cells], notes)


# Markdown, read by a parser


def shown(token: Token) -> str:
    """The text that a reader sees; anything but text is a failure."""
    assert {child.type for child in token.children or ()} <= {"text", "text_special"}, token.content
    return "".join(child.content for child in token.children or ())


def parsed(text):
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    rows, inside = [], False
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        inside = token.type in ("th_open", "td_open") or (inside and token.type not in ("th_close", "td_close"))
        if inside and token.type == "inline":
            rows[-1].append(shown(token))
    return tokens, rows


@pytest.mark.parametrize("cell", NASTY)
def test_markdown_shows_what_was_given(cell):
    _, rows = parsed(to_markdown(table(cell)))
    assert rows == [["method", "accuracy"], [cell, "51.83 ± 0.66"]]


def test_markdown_headers_are_escaped_too():
    made = Table("", ["class", "a|b", "<i>"], [["x", "1", "2"]])
    assert parsed(to_markdown(made))[1] == [["class", "a|b", "<i>"], ["x", "1", "2"]]


def test_markdown_of_one_line_cells():
    _, rows = parsed(to_markdown(table("two\nlines", "a\r\n| b |", "  ")))
    assert [row[0] for row in rows[1:]] == ["two lines", "a | b |", ""]


def test_markdown_title_and_notes():
    tokens, rows = parsed(to_markdown(table("x", title="pets | 5-way <b>", notes=["First 1 < 2.", "Second."])))
    assert len(rows) == 2
    lines = [token for token in tokens if token.type == "inline"]
    assert [child.type for child in lines[0].children][:2] == ["text", "strong_open"] or "strong_open" in [
        child.type for child in lines[0].children
    ]
    assert "".join(child.content for child in lines[0].children) == "pets | 5-way <b>"
    after = "\n".join(token.content for token in lines[-2:])
    assert "First 1 &lt; 2." in after
    assert "Second." in after
    assert not [token for token in tokens if token.type.startswith("html")]


def test_markdown_as_it_is():
    made = Table("pets", ["method", "n"], [["lora", "4"], ["tip", "4"]], ["A note."])
    assert to_markdown(made) == ("**pets**\n\n| method | n |\n|---|---:|\n| lora | 4 |\n| tip | 4 |\n\nA note.\n")


def test_markdown_of_words_is_not_aligned_right():
    made = Table("", ["label", "text"], [["a", "b"]], numbers=False)
    assert to_markdown(made) == "| label | text |\n|---|---|\n| a | b |\n"


@pytest.mark.parametrize("text", NASTY)
def test_markdown_within_a_line(text):
    (_, line, _) = MarkdownIt("commonmark", {"html": True}).parse(f"Text: {markdown(text)} and {markdown_code(text)}")
    *words, code = line.children
    assert "".join(child.content for child in words) == f"Text: {text} and "
    assert (code.type, code.content) == ("code_inline", text.replace("`", "'"))


# Terminal


@pytest.mark.parametrize("cell", NASTY[:-1])
def test_terminal_prints_what_was_given(cell):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(to_terminal(Table(cell, [cell, "n"], [[cell, "1"]])))
    assert console.export_text().count(cell) == 3


def test_terminal_leaves_empty_headers_out():
    console = Console(width=40, file=io.StringIO())
    console.print(to_terminal(Table("", ["", ""], [["a", "b"]], numbers=False)))
    assert len(console.file.getvalue().splitlines()) == 3


# LaTeX

_COMMANDS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textbar{}": "|",
    r"$\pm$": "±",
    r"$-$": "\u2212",
    r"$<$": "<",
    r"$>$": ">",
    r"$|$": "|",
    "{[}": "[",
    "{*}": "*",
    **{f"\\{letter}": letter for letter in "{}&%$#_"},
}
_PATTERN = re.compile("|".join(map(re.escape, sorted(_COMMANDS, key=len, reverse=True))))


def unescaped(text: str) -> str:
    """What LaTeX prints; a special letter that is not escaped is a failure."""
    made, place = [], 0
    while place < len(text):
        found = _PATTERN.match(text, place)
        assert found or text[place] not in "\\{}$&#^_%~", f"{text[place]!r} at {place} of {text!r}"
        made.append(_COMMANDS[found[0]] if found else text[place])
        place = found.end() if found else place + 1
    return "".join(made)


def latex_rows(text):
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    return [
        [unescaped(cell) for cell in re.split(r" (?<!\\)& ", line.removesuffix(" \\\\"))] for line in body.splitlines()
    ]


@pytest.mark.parametrize("cell", NASTY)
def test_latex_prints_what_was_given(cell):
    assert latex_rows(to_latex(table(cell))) == [[cell, "51.83 ± 0.66"]]


@pytest.mark.parametrize("cell", ["[bold]", "*star"])
def test_latex_row_does_not_begin_with_an_argument(cell):
    # After \\ and \midrule, LaTeX takes [ and * on the next line as theirs.
    for line in to_latex(table("first", cell)).splitlines():
        assert not line.startswith(("[", "*"))


@pytest.mark.parametrize("cell", ["a|b"])
def test_latex_bar_is_a_bar(cell):
    # In LaTeX's own fonts a bare | is printed as a dash.
    assert not re.search(r"(?<!\$)\|(?!\$)", to_latex(table(cell)).replace("{lr}", ""))


def test_latex_as_it_is():
    made = Table("50% of pets", ["method", "accuracy"], [["a_b", "51.83 ± 0.66"]], ["A note."])
    assert to_latex(made).splitlines() == [
        r"\begin{table}",
        r"\caption{50\% of pets. A note.}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"method & accuracy \\",
        r"\midrule",
        r"a\_b & 51.83 $\pm$ 0.66 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


# CSV


def test_csv_parses_back():
    rows = [[cell, 0.1 + 0.2, 3, None] for cell in [*NASTY, "two\nlines"]]
    text = to_csv(["a,b", "accuracy", "n", "memory"], rows)
    found = list(csv.reader(io.StringIO(text, newline="")))
    assert found[0] == ["a,b", "accuracy", "n", "memory"]
    assert [from_csv(row[0]) for row in found[1:]] == [row[0] for row in rows]
    assert all(float(row[1]) == 0.1 + 0.2 and row[2:] == ["3", ""] for row in found[1:]), "unrounded"
    assert "\r" not in text
