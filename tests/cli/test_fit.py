"""What ``atha fit`` makes of labelled images: some of them, and what it says of them."""

import json
import re
import shutil
from pathlib import Path

import pytest

from commands import run
from conftest import COLOURS, write_images


@pytest.fixture
def full(tmp_path: Path, tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny").symlink_to(tiny_clip)
    return write_images(tmp_path / "full", COLOURS, 3)


FIT = ["fit", "full", "--out", "adapter", "--model", "tiny", "--recipe", "prototypes"]


def test_some_of_each_class(full: Path) -> None:
    done = run(*FIT, "--shot", 2, "--eval", "rest", "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "up to 2 a class, drawn from 9 images by seed 3" in done.stderr
    assert "3 test images" in done.stdout
    told = json.loads(run("info", "adapter", "--json").stdout)
    assert told["support images"] == "up to 2 a class, drawn from 9 images by seed 3"
    assert told["evaluation"]["images"] == 3
    assert "drawn from 9 images" in (full.parent / "adapter" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--eval", "rest"], "draw with --shot N"),
        (["--eval", "rest", "--shot", 3], "--shot 3 leaves nothing of full"),
        (["--eval", "full"], "all 9 images of --eval full are learned from"),
        (["--eval-split", "test"], "give these with --eval"),
        (["--split", "train"], "--split is for tables, and 'full' is a folder"),
    ],
)
def test_no_rest(full: Path, options: list[object], said: str) -> None:
    refused = run(*FIT, *options)
    assert refused.exit_code == 2 and said in re.sub(r"\s+", " ", refused.stderr)
    assert not Path("adapter").exists()


def test_an_evaluation_that_fails_costs_no_adapter(full: Path) -> None:
    shutil.copytree(full, "again")
    refused = run(*FIT, "--eval", "again")
    assert refused.exit_code == 2 and "Trained" in refused.stderr
    said = re.sub(r"\s+", " ", refused.stderr)
    assert "the same image is in the support set" in said and "the adapter is saved in adapter: evaluate it" in said
    assert run("info", "adapter").exit_code == 0


def test_a_table_that_is_divided(full: Path) -> None:
    rows = [
        f"{path.parent.name}\\{path.stem};{path.parent.name};{'test' if path.stem == '0_2' else 'train'}"
        for path in full.glob("*/*.png")
    ]
    Path("t.csv").write_text("\n".join(["Image ID;kind;Set", *rows]))
    done = run(*[FIT[0], "t.csv", *FIT[2:]], "--eval", "t.csv", "--images", "full")
    assert done.exit_code == 0, done.output
    assert "rows of 'train' (6) are taken, and not those of 'test' (3)" in done.stderr
    assert "3 test images" in done.stdout
    tested = run("evaluate", "adapter", "t.csv", "--images", "full", "--split", "test", "--json")
    assert len(json.loads(tested.stdout)["per_class"]) == 3
    listed = run("predict", "adapter", "t.csv", "--images", "full")
    assert [line.split("\t")[2] for line in listed.stdout.splitlines()] == [
        f"full/{row.split(';')[0]}.png".replace("\\", "/") for row in rows
    ]


def test_classes_without_words(full: Path) -> None:
    (full / "red_thing").rename(full / "0")
    (full / "GreenThing").rename(full / "n03891332")
    done = run(*FIT)
    assert done.exit_code == 0, done.output
    said = "the text of 2 classes such as '0' tell the model nothing: give words by --classes FILE"
    assert done.stderr.count(said) == 1 and done.stderr.index(said) < done.stderr.index("Loading")
    assert said in run("data", "check", "full", "--no-duplicates").stdout
    made = run("data", "classes", "full", "--out", "classes.json")
    assert made.exit_code == 0 and "2 of 3 texts are empty" in made.stderr
    texts = json.loads(Path("classes.json").read_text())
    assert texts == {"0": "", "blue thing": "blue thing", "n03891332": ""}
    assert run("data", "classes", "full").stdout == Path("classes.json").read_text()
    again = [*FIT, "--overwrite", "--classes", "classes.json"]
    unfilled = run(*again)
    assert unfilled.exit_code == 2 and "of label '0' is ''" in unfilled.stderr
    Path("classes.json").write_text(json.dumps(texts | {"0": "zero", "n03891332": "parking meter"}))
    filled = run(*again)
    assert filled.exit_code == 0 and "nothing: give words" not in filled.stderr
    assert run("data", "classes", "full", "--out", "classes.json").exit_code == 2
