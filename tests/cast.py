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
    "no\u200bwidth\ufeff\u2060\u200e\U000e0041",
)
#: Of files, the last of which is no text.
FILES = ("=1+1.png", "\x1b[2J\t\n.png", "\udce9.png")
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def obeyed(text: str) -> list[str]:
    """Letters of a text, but tabs and ends of lines, that a terminal, a table or a parser obeys, or nobody sees."""
    return _OBEYED.findall(text)
