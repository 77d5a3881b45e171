"""What ``atha fit`` makes of labelled images: some of them, and what it says of them."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atha.cli import app
from conftest import COLOURS, write_images


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_images(tmp_path / "full", COLOURS, 3)


FIT = ["fit", "full", "--out", "adapter", "--model", "nano", "--recipe", "prototypes"]


def test_some_of_each_class(full: Path) -> None:
    done = run(*FIT, "--shot", 2, "--eval", "rest", "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "2 a class, drawn from 9 images by seed 3" in done.stderr
    assert "3 test images" in done.stdout
    told = json.loads(run("info", "adapter", "--json").stdout)
    assert told["support images"] == "2 a class, drawn from 9 images by seed 3"
    assert told["evaluation"]["images"] == 3
    assert "drawn from 9 images" in (full.parent / "adapter" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--eval", "rest"], "draw with --shot N"),
        (["--eval", "rest", "--shot", 3], "--shot 3 leaves nothing of full"),
    ],
)
def test_no_rest(full: Path, options: list[object], said: str) -> None:
    refused = run(*FIT, *options)
    assert refused.exit_code == 2 and said in re.sub(r"\s+", " ", refused.stderr)
    assert not Path("adapter").exists()
