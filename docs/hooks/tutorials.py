"""Runs a tutorial: the commands and the Python of a page, as they stand, and compares what they print with the page.

``python docs/hooks/tutorials.py PAGE ...`` runs pages in a new folder and writes what was printed into them. Where a
page ends what a command prints with a line ``...``, the rest is left out.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from atha.cli import app

PAGES = sorted((Path(__file__).parents[1] / "tutorials").glob("*.md"))
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:[.,]\d+)*|\d+(?:[.,]\d+)*")
#: How far a number may be from the page's: processors differ in last bits, and one image more or less may be right.
_POINTS, _SHARE = 4.0, 0.25
_REST = "..."


@dataclass(frozen=True)
class Step:
    """One command, or one block of Python.

    Attributes:
        code: as the page has it.
        shown: what the page says it prints.
        printed: what it printed, on stdout.
    """

    code: str
    shown: str
    printed: str


def run(page: Path) -> list[Step]:
    """Run all of a page in the working directory.

    Raises:
        AssertionError: a command failed.
    """
    names: dict[str, Any] = {}
    return [step for block in _BLOCK.finditer(page.read_text("utf-8")) for step in _run(block, names)]


def _run(block: re.Match[str], names: dict[str, Any]) -> Iterator[Step]:
    if block[1] == "python":
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(block[2], "page", "exec"), names)  # noqa: S102 - our own page
        yield Step(block[2], block[3] or "", said.getvalue())
        return
    for part in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        while line.endswith("\\"):
            more, _, shown = shown.partition("\n")
            line = f"{line[:-1]}{more}"
        yield Step(f"$ {line}", shown, _command(shlex.split(line, comments=True)))


def _command(words: list[str]) -> str:
    if words[0] == "mv":
        shutil.move(words[1], words[2])
        return ""
    if words[0] == "python":
        return subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, text=True).stdout
    assert words[0] == "atha", f"a tutorial may run atha, mv and python, not {words[0]}"
    with warnings.catch_warnings():
        found = CliRunner().invoke(app, words[1:], env={"COLUMNS": "100"})
    assert found.exit_code == 0, f"{shlex.join(words)}: {found.stderr[-2000:]} {found.exception!r}"
    return found.stdout


def differs(shown: str, printed: str) -> str:
    """The first line of what was printed that the page has otherwise; empty if there is none."""
    expected, found = _lines(shown), _lines(printed)
    if expected[-1:] == [_REST]:
        expected = expected[:-1]
        found = found[: len(expected)]
    for one, other in zip(expected, found, strict=False):
        if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
            return f"'{other}' where the page has '{one}'"
        for mine, given in zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True):
            wanted, got = float(mine.replace(",", "")), float(given.replace(",", ""))
            if abs(wanted - got) > max(_POINTS, _SHARE * abs(wanted)):
                return f"'{other}' where the page has '{one}'"
    return "" if len(expected) == len(found) else f"{len(found)} lines where the page has {len(expected)}"


def _lines(text: str) -> list[str]:
    """Lines without what depends on the width of numbers: frames of tables, and space."""
    plain = (re.sub(r"[\s─━┏┓┗┛┡┩┳┻╇┴└┘├┤┼│┃┬╭╮╰╯╞╡╪═|]+", " ", line).strip() for line in text.splitlines())
    return [line for line in plain if line]


def write(page: Path) -> None:
    """Put what is printed into a page."""
    names: dict[str, Any] = {}

    def renew(block: re.Match[str]) -> str:
        steps = list(_run(block, names))
        if block[1] == "python":
            printed = steps[0].printed
            return f"```python\n{block[2]}```\n" + (f"\n```text\n{printed}```\n" if printed else "")
        commands = re.split(r"^(?=\$ )", block[2], flags=re.MULTILINE)[1:]
        heads = [re.match(r"(?:.*\\\n)*.*\n", command) for command in commands]
        body = "".join(f"{head[0]}{_cut(step)}" for head, step in zip(heads, steps, strict=True) if head)
        return f"```console\n{body}```\n"

    page.write_text(_BLOCK.sub(renew, page.read_text("utf-8")), "utf-8")


def _cut(step: Step) -> str:
    """What was printed, as far as the page shows it."""
    shown = step.shown.rstrip().splitlines()
    if shown[-1:] != [_REST]:
        return step.printed
    return "\n".join([*step.printed.splitlines()[: len(shown) - 1], _REST, ""])


if __name__ == "__main__":
    for given in [Path(argument).resolve() for argument in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            os.environ["ATHA_CACHE"] = f"{folder}/cache"
            write(given)
