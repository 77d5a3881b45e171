"""A support set drawn from a full one."""

from pathlib import Path

import pytest
from PIL import Image

import atha
from atha.data import read_labelled
from atha.data.drawing import draw
from atha.errors import AthaWarning, DataError


def folders(root: Path, counts: dict[str, int]) -> Path:
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (2, 2), (index, 0, 0)).save(root / label / f"{index:02}.png")
    return root


def names(images) -> list[str]:
    return [f"{sample.label}/{Path(sample.image).name}" for sample in images.samples]


def test_draw(tmp_path):
    full = folders(tmp_path / "full", {"cat": 9, "dog": 7})
    drawn, rest = atha.draw(full, 3, seed=1)
    assert drawn.counts == {"cat": 3, "dog": 3} and rest.counts == {"cat": 6, "dog": 4}
    assert sorted(names(drawn) + names(rest)) == names(read_labelled(full))
    assert (drawn.drawn.describe(), rest.drawn) == ("up to 3 a class, drawn from 16 images by seed 1", None)
    assert names(draw(str(full), 3, seed=1)[0]) == names(drawn) != names(draw(full, 3, seed=2)[0])
    # Neither other classes nor the place of the data change what is drawn of a class, on any machine.
    elsewhere = folders(tmp_path / "other", {"cat": 9, "newt": 4})
    assert names(draw(elsewhere, 3, seed=1)[0])[:3] == names(drawn)[:3] == ["cat/02.png", "cat/04.png", "cat/07.png"]


def test_few_images(tmp_path):
    full = folders(tmp_path, {"cat": 4, "dog": 2})
    (full / "cat" / "notes.txt").write_text("no image")
    (full / "cat" / "02.5.png").write_bytes(b"")
    with pytest.warns(AthaWarning, match=r"fewer than 4 images of dog \(2\): all are taken"):
        drawn, rest = draw(full, 4)
    assert drawn.counts == {"cat": 4, "dog": 2} and names(rest) == ["cat/02.5.png", "cat/notes.txt"]
    for shot, seed in ((0, 0), (1, -1)):
        with pytest.raises(DataError, match=f"shot is {shot} and the seed {seed}"):
            draw(full, shot, seed)


def test_the_rest_shares_no_patient(tmp_path):
    folders(tmp_path, {"cat": 8, "dog": 8})
    rows = [f"{label}/{index:02}.png,{label},{index // 2}" for label in ("cat", "dog") for index in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,patient", *rows]))
    drawn, rest = draw(tmp_path / "t.csv", 1)
    assert drawn.groups and not set(drawn.groups) & set(rest.groups)
    assert len(rest.samples) == 16 - 4 * len(set(drawn.groups))
