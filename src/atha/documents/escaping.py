"""Text from files and users, shown as it is: each medium's special letters are escaped here and nowhere else.

Of all media, letters that nobody sees but a program obeys become visible escapes: a class name or a file name moves no
cursor, sets no title, turns no line round and ends no file's parser.
"""

import re
from json import dumps, loads

#: First and last of the letters that nobody sees: control characters, separators of lines, changes of direction,
#: letters without width (but the two joiners, which words of many languages and emoji are made with), halves of letters
#: (of names that are no text), and what no XML may hold.
UNSEEN = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x61C, 0x61C), (0x180E, 0x180E), (0x200B, 0x200B), (0x200E, 0x200F),
    (0x2028, 0x202E), (0x2060, 0x206F), (0xD800, 0xDFFF), (0xFDD0, 0xFDEF), (0xFEFF, 0xFEFF), (0xFFF9, 0xFFFB),
    (0xFFFE, 0xFFFF), (0xE0000, 0xE007F),
)  # fmt: skip
_UNSEEN = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in UNSEEN)}]")


def visible(text: str, but: str = "") -> str:
    """Text on one line without letters that are obeyed instead of shown, which become escapes such as ``\\x1b``.

    Args:
        text: of any kind.
        but: letters to leave alone.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in but else _escape(found[0]), text)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def terminal(text: str) -> str:
    """Text that a terminal shows on one line. Where rich prints it, it is to be a `rich.text.Text`: no markup then."""
    return visible(text)


def tsv(text: str) -> str:
    """Text as a value between tabs."""
    return visible(text)


def svg(text: str) -> str:
    """Text for a figure, with its lines; matplotlib escapes what is special to SVG."""
    return visible(text, but="\n")


def html(text: str) -> str:
    """Text for a page, with its lines; the page's template escapes what is special to HTML."""
    return visible(text, but="\n\t")


def json(made: str) -> str:
    """JSON, as it was made, that a terminal shows and a file can hold; it reads back as what it was."""
    return _UNSEEN.sub(lambda found: found[0] if found[0] == "\n" else dumps(found[0])[1:-1], made)


# What a spreadsheet takes for the start of a formula, in East Asian width too.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def csv(value: object) -> object:
    """A value for a cell. Text that a spreadsheet would compute, or not show as it is, becomes a JSON string.

    `from_csv` gives it back.
    """
    if not isinstance(value, str):
        return value
    plain = visible(value) == value == value.strip() and not value.startswith((*_FORMULA, '"'))
    return value if plain else json(dumps(value, ensure_ascii=False))


def from_csv(cell: str) -> str:
    """The text of a cell that `csv` made."""
    if not cell.startswith('"'):
        return cell
    try:
        return str(loads(cell))
    except ValueError:
        return cell


def yaml(text: str) -> str:
    """Text as a value in the header of a model card: YAML has JSON's strings, and escapes for longer letters."""
    return visible(dumps(text, ensure_ascii=False))


def javascript() -> str:
    """A regular expression of JavaScript for the letters that `visible` escapes."""
    ranges = "".join(rf"\u{{{first:x}}}-\u{{{last:x}}}" for first, last in UNSEEN)
    return f"/[{ranges}]/gu"


# Letters that begin something within a line, links among them, which hubs make of addresses that stand for themselves.
_INLINE = re.compile(r"[\\`*_\[\]~|@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
# At the start of a line: a list, a heading, a line across; numbers of a list have the letter to escape behind them.
_START = re.compile(r"(?P<number>\d{0,9})(?=[-+]\s|#{1,6}(?:\s|$)|-{2,}$|=+$|[.)]\s)")


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = _INLINE.sub(r"\\\g<0>", _line(text))
    if found := _START.match(line):
        line = f"{found['number']}\\{line[found.end() :]}"
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(text: str) -> str:
    """Text as code within a line of Markdown; a backtick, which would end it, becomes an apostrophe."""
    return f"`{_line(text).replace('`', chr(39))}`"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": "$<$", ">": "$>$", "|": r"\textbar{}",
    "[": "{[}", "*": "{*}",
}  # fmt: skip


def latex(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return "".join(_LATEX.get(letter, letter) for letter in _line(text))


def _line(text: str) -> str:
    return visible(" ".join(text.split()))
