"""Names that mean harm to what shows them, and what is seen where text stayed text."""

import re

#: Of classes; a folder can be called each of them.
CLASSES = (
    "\x1b]0;owned\x07\x1b[2Jcat",
    "=cmd|' calc'!A0",
    "@SUM(1+1)*cmd",
    "<script>alert(1)<b",
    "[x](javascript:alert(1))",
    "tab\there\nError: line\rreturn",
    "\u202egnp.\x9b2J\u2028",
    "[bold red]${7*7}{{7*7}}\\input{x}",
)
#: Of files, the last of which is no text.
FILES = ("=1+1.png", "\x1b[2J\t\n.png", "\udce9.png")
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def obeyed(text: str) -> list[str]:
    """Letters of a text, but tabs and ends of lines, that a terminal, a spreadsheet or a parser obeys."""
    return _OBEYED.findall(text)
