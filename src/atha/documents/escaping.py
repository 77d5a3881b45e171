"""Text from files and users, shown as it is: each output's special letters are escaped here and nowhere else.

HTML needs nothing of it, since the page's template escapes by itself; nor does the terminal, where text is handed to
rich as `rich.text.Text`, which is never read as markup.
"""


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    escaped = "".join(f"\\{letter}" if letter in "\\`*_[]~|" else letter for letter in escaped)
    return " ".join(escaped.split())


def markdown_code(text: str) -> str:
    """Text as code within a line of Markdown; a backtick, which would end it, becomes an apostrophe."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": "$<$", ">": "$>$", "|": r"\textbar{}",
    "[": "{[}", "*": "{*}",
}  # fmt: skip


def latex(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return " ".join("".join(_LATEX.get(letter, letter) for letter in text).split())
