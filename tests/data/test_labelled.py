"""The one door to labelled images."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atha.data import LabelledImages, Sample, read_labelled
from atha.errors import DataError


@pytest.fixture
def support(tmp_path):
    for name in ("support/nevus/a.jpg", "support/melanoma/b.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(path)
    return tmp_path / "support"


def message(source) -> str:
    with pytest.raises(DataError) as caught:
        read_labelled(source)
    return str(caught.value)


def test_folder(support):
    images = read_labelled(support)
    assert images == read_labelled(str(support))
    assert images.labels == ("melanoma", "nevus")
    assert [sample.image for sample in images.samples] == [support / "melanoma" / "b.jpg", support / "nevus" / "a.jpg"]


@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ","), ("t.tsv", "\t"), ("T.CSV", ";")])
def test_table(tmp_path, name, delimiter):
    path = tmp_path / name
    (tmp_path / "a.jpg").touch()
    path.write_text(f"path{delimiter}label\na.jpg{delimiter}x\n")
    assert read_labelled(path).samples == (Sample(tmp_path / "a.jpg", "x"),)


def test_pairs():
    image = Image.new("RGB", (2, 2))
    pairs = [("a.jpg", "x"), (Path("b.jpg"), "y"), [image, "x"], ("c.jpg", 3), ("d.jpg", np.int64(4))]
    images = read_labelled(pairs)
    assert [sample.label for sample in images.samples] == ["x", "y", "x", "3", "4"]
    assert images.samples[0].image == "a.jpg" and images.samples[2].image is image
    assert images.counts == {"3": 1, "4": 1, "x": 2, "y": 1}
    assert images.source == "a list of pairs"
    assert read_labelled(pair for pair in pairs) == images
    assert all(type(sample.label) is str for sample in images.samples)


def test_labelled_images_pass_through():
    images = LabelledImages((Sample("a.jpg", "x"),), "here")
    assert read_labelled(images) is images
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.source = "there"


def test_labels_are_sorted_as_strings():
    images = read_labelled([("a", "b"), ("b", "B"), ("c", "a10"), ("d", "a9"), ("e", "é")])
    assert images.labels == ("B", "a10", "a9", "b", "é") == tuple(images.counts)


def test_missing_path_suggests_a_neighbour(support):
    text = message(support.parent / "suport")
    assert "no file or folder" in text and "suport" in text and f"did you mean '{support}'" in text
    assert "one sub-folder of images per class" in text and ".csv" in text
    assert f"did you mean '{support}'" in message(support.parent / "suport" / "nevus")
    assert "did you mean" not in message(support.parent / "zzz")
    assert "no file or folder ''" in message("")
    assert "no file or folder" in message("a\0b")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("data.zip", ["archive", "unpack it first"]),
        ("data.tar.gz", ["archive", "unpack it first"]),
        ("data.TGZ", ["archive", "unpack it first"]),
        ("x.jpg", ["single image", "one sub-folder of images per class"]),
        ("x.xlsx", ["a spreadsheet", "'CSV UTF-8'"]),
        ("x.docx", ["not a source of labelled images", ".csv"]),
    ],
)
def test_files_of_other_kinds(tmp_path, name, parts):
    (tmp_path / name).write_bytes(b"x")
    text = message(tmp_path / name)
    for part in [str(tmp_path / name), *parts]:
        assert part in text


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ([], ["empty", "at least one pair"]),
        (3, ["3 (int)", "pairs of image and label"]),
        (None, ["None", "pairs of image and label"]),
        ([("a.jpg", "x"), "b.jpg"], ["item 1", "'b.jpg'", "(image, label)"]),
        ([("a.jpg", "x", "y")], ["item 0", "('a.jpg', 'x', 'y')", "(image, label)"]),
        (["ab"], ["item 0", "'ab'"]),
        ({"a.jpg": "x"}, ["item 0", "'a.jpg'", "(image, label)"]),
        ([("a.jpg", "")], ["label of item 0", "''", "not empty"]),
        ([("a.jpg", " ")], ["label of item 0", "not empty"]),
        ([("a.jpg", None)], ["label of item 0", "None", "string"]),
        ([("a.jpg", True)], ["label of item 0", "True", "string"]),
        ([("a.jpg", 1.5)], ["label of item 0", "1.5", "string"]),
        ([(object(), "x")], ["image of item 0", "object", "PIL image", "array"]),
        ([(b"a.jpg", "x")], ["image of item 0", "bytes", "path"]),
    ],
)
def test_bad_pairs(source, parts):
    text = message(source)
    for part in parts:
        assert part in text
    assert len(text) < 300
