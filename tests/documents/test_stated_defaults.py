"""Every default that the documents state is the code's."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from atha import defaults
from atha.cli import app
from atha.recipe import PromptRecipe, TrainingRecipe
from atha.reports.benchmark import _BASELINES

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Statements, and what the code has in their place.
CLAIMS = {
    r"^\W*`(?:atha:)?([\w-]+)`.*default of `atha fit`": defaults.RECIPE,
    r"`--recipe` is `([\w-]+)` \(the default": defaults.RECIPE,
    r"by default `([^`]+\{\}[^`]*)`": PromptRecipe().template,
    r"by default the first there is of ((?:`[\w-]+`(?:, )?)+)": ", ".join(f"`{name}`" for name in _BASELINES),
}
# The word where nothing is stated that has a value.
NO_CLAIMS = (
    r"^By default, a label \(folder name or table value\) is cleaned",
    r"\*\*Bands\.\*\*.*By default they are those that the file says",
    r"creates that table with its defaults",
    r"Leave out the key where null is the default",
    r"The switch that selects ATHA defaults to none, and both ratios default to 0",  # of the released code
    r"one per core by default \(on a GPU: 1\)",
    r"and the default on a GPU\).*which is the default",
)


@dataclass(frozen=True)
class Table:
    """A table of a document: its heading, what its columns are called, and its rows."""

    heading: str
    header: list[str]
    rows: list[list[str]]

    def column(self, name: str) -> list[str]:
        return [row[self.header.index(name)] for row in self.rows]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def tables(document: Path) -> Iterator[Table]:
    heading, lines = "", document.read_text("utf-8").splitlines()
    for place, line in enumerate(lines):
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", line):
            rows = []
            for row in lines[place + 1 :]:
                if not row.startswith("|"):
                    break
                rows.append(cells(row))
            yield Table(heading, cells(lines[place - 1]), rows)


def named(folder: str, name: str) -> list[Table]:
    return list(tables(ROOT / "docs" / folder / name))


def test_optimisers():
    (table,) = (table for table in named("concepts", "method.md") if "Default optimiser" in table.header)
    assert table.column("Group") == ["`lora`", "`context`", "`strengths`"]
    for group, text in zip(table.column("Group"), table.column("Default optimiser"), strict=True):
        name, *numbers = text.partition(";")[0].split(", ")
        stated = {words.rpartition(" ")[0]: float(words.rpartition(" ")[2]) for words in numbers}
        expected = getattr(TrainingRecipe(), group.strip("`"))
        assert name.casefold() == expected.name
        assert stated["lr"] == expected.lr and stated["weight decay"] == expected.weight_decay
        assert stated.get("momentum", 0.0) == expected.momentum


def test_options_of_fit():
    (table,) = (table for table in named("how-to", "own-images.md") if table.header[:2] == ["Option", "Default"])
    command = typer.main.get_command(app).commands["fit"]
    options = {name: one for one in command.params for name in (*one.opts, *one.secondary_opts)}
    stated = [option.strip("`").split()[0] for option in table.column("Option")]
    for name, text in zip(stated, table.column("Default"), strict=True):
        option = options[name]
        help_says = re.search(r"\(default: (.*)\)", option.help or "")
        if option.required:
            expected = "required"
        elif help_says:
            expected = help_says[1]
        elif option.default is None or option.default is False or name in option.secondary_opts:
            expected = ""
        else:
            expected = f"{option.default:,}" if isinstance(option.default, int) else option.default
        assert text.strip("`") == expected, name
    left = {one.name for one in options.values() if not {*one.opts, *one.secondary_opts} & {*stated}}
    assert left == {"support", "debug"}


def test_the_help_names_workers():
    run = typer.main.get_command(app).commands["bench"].commands["run"]
    (workers,) = (one for one in run.params if one.name == "workers")
    assert workers.default is None and "(default: one per core, on a GPU 1)" in workers.help


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_all_else(document):
    """A sentence with the word is one of those above, so that none is stated that nobody looks at."""
    headers = [table.header for table in tables(document)]
    for line in document.read_text("utf-8").splitlines():
        if not re.search(r"default", line, re.IGNORECASE):
            continue
        if line.startswith("|") and cells(line) in headers:
            continue
        found = [(match[1], expected) for claim, expected in CLAIMS.items() if (match := re.search(claim, line))]
        assert found or any(re.search(phrase, line) for phrase in NO_CLAIMS), line
        for stated, expected in found:
            assert stated.rstrip(", ") == expected, line
