"""An audit of images with planted faults: flipped labels, copies, broken, tiny and blank files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atha
from atha.auditing.doubtful import ask
from atha.data import read_labelled
from atha.errors import DataError
from atha.labelling.model import Texts
from commands import run
from conftest import COLOURS, write_images


def patterned(path: Path, seed: int) -> None:
    """A picture with structure, so that its copies can be told."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC).save(path)


def test_flipped_labels_come_first():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 32))
    truth = np.repeat(np.arange(4), 40)
    rows = centres[truth] + 0.6 * rng.normal(size=(160, 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    flipped = rng.choice(160, 8, replace=False)
    labels = truth.copy()
    labels[flipped] = (labels[flipped] + 1) % 4
    texts = Texts(np.eye(4, 32), 10.0)
    found = ask(rows, labels, np.arange(160), texts, 0).doubtful(labels)
    assert len({place for place, _ in found[:8]} & set(flipped.tolist())) >= 7
    assert all(other == truth[place] for place, other in found[:8] if place in flipped)


def test_copies_of_an_image_do_not_speak_for_it():
    """Of three copies with one wrong label, none is held up by the others."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2, 32))
    labels = np.repeat([0, 1], 20)
    rows = centres[labels] + 0.3 * rng.normal(size=(40, 32))
    rows[1] = rows[2] = rows[0]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    wrong = labels.copy()
    wrong[:3] = 1
    groups = np.arange(40)
    groups[:3] = 0
    answers = ask(rows, wrong, groups, Texts(np.eye(2, 32), 10.0), 0)
    assert {place for place, _ in answers.doubtful(wrong)} >= {0, 1, 2}
    assert not set(answers.neighbours[0].tolist()) & {0, 1, 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("audit")
    folder = write_images(root / "data", COLOURS, 10)
    (folder / "red_thing" / "0_0.png").rename(folder / "blue thing" / "flipped.png")
    (folder / "red_thing" / "<b>broken.png").write_bytes(b"not an image")
    Image.new("RGB", (80, 80), (9, 9, 9)).save(folder / "GreenThing" / "blank.png")
    patterned(folder / "red_thing" / "one.png", 1)
    Image.open(folder / "red_thing" / "one.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        folder / "red_thing" / "mirrored.jpg", quality=80
    )
    patterned(folder / "red_thing" / "two.png", 2)
    (folder / "GreenThing" / "same.png").write_bytes((folder / "red_thing" / "two.png").read_bytes())
    return root


def test_what_was_planted_is_found(data, tiny_clip, monkeypatch):
    monkeypatch.chdir(data)
    monkeypatch.setenv("ATHA_CACHE", str(data / "cache"))
    before = {path: path.read_bytes() for path in (data / "data").glob("*/*")}
    command = ["data", "audit", "data", "--model", tiny_clip]
    done = run(*command, "--html", "a.html", "--csv", "a.csv", "--write", "left.csv")
    assert done.exit_code == 0, done.output
    assert "1 with several labels" in done.stdout and "flipped.png" in done.stdout
    told = json.loads(run(*command, "--json").stdout)
    assert Path(told["doubtful"][0]["file"]).name == "flipped.png" and told["doubtful"][0]["suggested"] == "red_thing"
    assert [near["label"] for near in told["doubtful"][0]["neighbours"]].count("red_thing") >= 3
    groups = {tuple(sorted(Path(file).name for file in one["files"])): one for one in told["copies"]}
    assert groups["mirrored.jpg", "one.png"]["exact"] is False
    assert groups["same.png", "two.png"]["labels"] == ["GreenThing", "red_thing"]
    odd = {Path(one["file"]).name: one["kind"] for one in told["odd"]}
    assert odd["<b>broken.png"] == "broken" and odd["blank.png"] == "blank" and odd["0_1.png"] == "tiny"
    page = (data / "a.html").read_text()
    assert "&lt;b&gt;broken.png" in page and "<b>broken" not in page and "data:image/jpeg" in page
    with (data / "a.csv").open(newline="") as file:
        assert {row["finding"] for row in csv.DictReader(file)} == {"label", "copy", "broken", "blank", "tiny"}
    left = read_labelled(data / "left.csv")
    names = {Path(str(sample.image)).name for sample in left.samples}
    assert not names & {"<b>broken.png", "blank.png", "same.png", "two.png"} and "flipped.png" in names
    assert len(names & {"one.png", "mirrored.jpg"}) == 1
    with (data / "left.csv").open(newline="") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert rows["flipped.png"]["label"] == "blue thing" and rows["flipped.png"]["suggested"] == "red_thing"
    assert before == {path: path.read_bytes() for path in (data / "data").glob("*/*")}


def test_copies_across_parts(data, tiny_clip, monkeypatch):
    monkeypatch.chdir(data)
    monkeypatch.setenv("ATHA_CACHE", str(data / "cache"))
    lines = ["path,label,split", "data/red_thing/one.png,red,train", "data/red_thing/mirrored.jpg,red,test"]
    lines += [f"data/GreenThing/0_{number}.png,green,train" for number in range(4)]
    Path("table.csv").write_text("\n".join(lines))
    classifier = atha.Classifier.from_pretrained(tiny_clip, recipe="probes")
    found = atha.audit("table.csv", classifier)
    assert [sorted(one.parts) for one in found.copies] == [["test", "train"]]
    kept = {Path(file).name: part for file, _, part, _ in found.cleaned()}
    assert kept["mirrored.jpg"] == "test" and "one.png" not in kept
    Path("first.csv").write_text("\n".join(lines[:2] + lines[3:]).replace(",split", "").replace(",train", ""))
    Path("second.csv").write_text("path,label\ndata/red_thing/mirrored.jpg,red\n")
    found = atha.audit("first.csv", classifier, "second.csv")
    assert sorted(found.copies[0].parts) == ["test", "train"]
    names = [line.split(",")[:2] for line in lines[1:]]
    more = [f"{path},random,,{label},of {Path(path).name}" for path, label in names]
    Path("more.csv").write_text("\n".join(["file,chosen,split,label,Patient Name", *more]))
    done = run("data", "audit", "more.csv", "--model", tiny_clip, "--write", "more.csv", "--overwrite")
    assert done.exit_code == 0, done.output
    with Path("more.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "suggested", "chosen", "Patient Name"]
    assert {row["chosen"] for row in rows} == {"random"}
    assert all(row["Patient Name"] == f"of {Path(row['path']).name}" for row in rows) and len(rows) == 5
    with pytest.raises(DataError, match="no file"):
        atha.audit([(np.zeros((40, 40, 3), dtype=np.uint8), "a")], classifier)
