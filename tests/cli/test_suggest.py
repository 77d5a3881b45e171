"""``atha suggest``: a choice, a table to fill in, and the estimate that comes of it."""

import csv
import json
import shutil
from pathlib import Path

import pytest

import atha
from atha.errors import DataError
from commands import run
from conftest import COLOURS, write_images


@pytest.fixture
def pile(tmp_path: Path, tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny").symlink_to(tiny_clip)
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "cache"))
    return write_images(tmp_path / "pile", COLOURS, 8)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "chosen"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row | {"label": Path(row["path"]).parent.name} for row in rows)


TINY = ["suggest", "pile", "--model", "tiny"]


def test_from_nothing_to_an_estimate(pile: Path) -> None:
    shutil.copy(next(pile.glob("*/*.png")), pile / "copy.png")
    (pile / "broken.png").write_bytes(b"no image")
    first = run(*TINY, "--classes", ",".join(COLOURS), "--count", 8, "--csv", "next.csv")
    assert first.exit_code == 0, first.output
    assert "8 photos to label in next.csv" in first.stdout and "0 photos are labelled, of 24" in first.stdout
    assert "broken.png" in first.stderr
    chosen = rows_of(Path("next.csv"))
    assert [row["chosen"] for row in chosen].count("random") == 2
    assert not any(row["label"] or row["guess"] for row in chosen)
    assert {Path(row["path"]).parent.name for row in chosen} >= {*COLOURS}
    refused = run(*TINY, "--labels", "next.csv")
    assert refused.exit_code == 2 and "no value in column 'label'" in refused.stderr
    fill(Path("labels.csv"), chosen)
    told = json.loads(run(*TINY, "--labels", "labels.csv", "--count", 4, "--json").stdout)
    assert told["labelled"] == 8 and told["estimate"]["random_images"] == 2
    assert not {str(Path(one["file"])) for one in told["photos"]} & {row["path"] for row in chosen}
    assert all(one["guess"] in COLOURS for one in told["photos"])
    assert json.loads(run(*TINY, "--labels", "labels.csv", "--count", 4, "--json").stdout) == told
    Path("one.csv").write_text("path,label\npile/red_thing/0_0.png,red_thing\n")
    refused = run(*TINY, "--labels", "one.csv")
    assert refused.exit_code == 2 and "at least two classes" in refused.stderr
    Path("wrong.csv").write_text(Path("labels.csv").read_text().replace("random", "<luck>"))
    refused = run(*TINY, "--labels", "wrong.csv")
    assert refused.exit_code == 2 and "has '<luck>' in column 'chosen'" in refused.stderr


def test_with_an_adapter_its_images_are_known_and_not_offered(pile: Path) -> None:
    support = write_images(pile.parent / "support", COLOURS, 2)
    for number, file in enumerate(sorted(support.glob("*/*.png"))):
        shutil.copy(file, pile / f"again_{number}.png")
    made = run("fit", "support", "--out", "adapter", "--model", "tiny", "--recipe", "prototypes")
    assert made.exit_code == 0, made.output
    told = json.loads(run("suggest", "pile", "--adapter", "adapter", "--json").stdout)
    assert told["labelled"] == 6 and told["estimate"]["accuracy"] is None
    assert {one["chosen"] for one in told["photos"]} == {"unsure", "random"}
    refused = run("suggest", "pile", "--adapter", "adapter", "--classes", "a,b")
    assert refused.exit_code == 2 and "leave --classes out" in refused.stderr
    bare = run("fit", "support", "--out", "bare", "--model", "tiny", "--recipe", "prototypes", "--no-keep-support")
    assert bare.exit_code == 0
    refused = run("suggest", "pile", "--adapter", "bare")
    assert refused.exit_code == 2 and "give the labelled images with --labels" in refused.stderr


def test_in_python(pile: Path) -> None:
    classifier = atha.Classifier.from_pretrained("tiny", recipe="probes")
    found = atha.suggest(pile, classifier, count=5)
    assert len(found.photos) == 5 and found.pool == 24 and found.labelled == 0
    labels = [(file, file.parent.name) for file in sorted(pile.glob("*/*.png"))[::2]]
    found = atha.suggest(pile, classifier, labels, count=5)
    assert found.labelled == 12 and found.estimate.images == 0 and "Nothing is known" in found.advice
    with pytest.raises(DataError, match="count is 0"):
        atha.suggest(pile, classifier, count=0)
    with pytest.raises(DataError, match="random share is 2"):
        atha.suggest(pile, classifier, share=2)


def test_a_pile_of_which_nothing_can_be_read(pile: Path) -> None:
    (pile.parent / "broken").mkdir()
    (pile.parent / "broken" / "a.png").write_bytes(b"no image at all, but a text")
    refused = run("suggest", "broken", "--model", "tiny")
    assert refused.exit_code == 2 and "none of the 1 photos can be read" in refused.stderr
