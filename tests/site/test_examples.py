"""The Python of documents and docstrings is right by its types, as a user's own checker sees it."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

pytestmark = pytest.mark.site

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"::\n\n((?:[ \t]+\S.*\n|\n)+)")
#: What examples take as given: things of the reader.
GIVEN = """\
import json
import time
from pathlib import Path

import atha
from atha import Classifier

clf: atha.Classifier
images: list[Path]
photos: list[Path]
labels: list[str]
deadline: float
"""


def pages() -> Iterator[tuple[str, str]]:
    """Name and code of each document: its blocks, one after the other."""
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if blocks := _BLOCK.findall(path.read_text("utf-8")):
            yield re.sub(r"\W", "_", path.relative_to(ROOT).as_posix()), "\n\n".join(blocks)


def docstrings() -> Iterator[tuple[str, str]]:
    """The same of each module, of the examples in its docstrings."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        found = [
            dedent(example)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            for example in _EXAMPLE.findall((ast.get_docstring(node) or "") + "\n")
        ]
        code = [example for example in found if _is_python(example)]
        if code:
            yield re.sub(r"\W", "_", path.relative_to(ROOT).as_posix()), "\n\n".join(code)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return "(" in text


def mypy(folder: Path) -> str:
    """What the type checker says of the files in a folder, by the strict rules."""
    cache = os.environ.get("MYPY_CACHE_DIR", str(ROOT / ".mypy_cache"))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    command += ["--cache-dir", cache, "--no-error-summary", str(folder)]
    found = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    return found.stdout + found.stderr


def test_examples_pass_the_type_checker(tmp_path: Path) -> None:
    made = dict([*pages(), *docstrings()])
    assert {"README_md", "docs_concepts_conventions_md", "src_atha_classifier_py"} <= set(made)
    for name, code in made.items():
        (tmp_path / f"{name}.py").write_text(f"{GIVEN}\n{code}", "utf-8")
    (tmp_path / "wrong.py").write_text(f"{GIVEN}\nclf.predict(3).lower()\n", "utf-8")
    said = mypy(tmp_path).splitlines()
    assert any("wrong.py" in line for line in said), f"a mistake is not seen: {said}"
    wrong = [line.removeprefix(f"{tmp_path}/") for line in said if "wrong.py" not in line]
    assert not wrong, "\n".join(wrong)
