"""Tables beside folders of images."""

from pathlib import Path

import pytest

from atha.data import read_labelled
from atha.errors import DataError


@pytest.fixture
def root(tmp_path) -> Path:
    for name in ("part_1/a.jpg", "part_1/b.jpg", "part_2/c.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "image_id,dx\na,x\nb,y\nc,x\n"),
        ("t.csv", "image,MEL,NV\na,1,0\nb,0,1\nc,1,0\n"),
        ("t.jsonl", '{"id": "a", "label": "x"}\n{"id": "b", "label": "y"}\n'),
    ],
)
def test_labels_of_a_table_make_folders_doubtful(root, name, text):
    (root / name).write_text(text)
    doubt = read_labelled(root).doubt
    assert f"'{root / name}' gives images in '{root / 'part_1'}' several labels" in doubt
    assert f"atha fit {root / name} --images {root}" in doubt


@pytest.mark.parametrize(
    "text",
    [
        "image_id,dx\na,x\nb,x\nc,y\n",  # names for the folders
        "image,camera\na,x\nb,y\nc,x\n",  # no labels by name
        "image,label\nd,x\ne,y\n",  # other images
        "label,probability,file\nx,0.9,part_1/a.jpg\ny,0.8,part_1/b.jpg\n",  # predictions
        "image,label\n",
        '"image\n',
        "image,MEL,NV\na,1,1\nb,0,1\n",
    ],
)
def test_other_tables_leave_class_folders_what_they_are(root, text):
    (root / "t.csv").write_text(text)
    images = read_labelled(root)
    assert (images.doubt, images.labels) == ("", ("part_1", "part_2"))


def test_images_without_folders(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "_classes.csv").write_text("filename,x,y\na.jpg,1,0\n")
    with pytest.raises(DataError, match=r"give the table of their labels, such as '.*_classes\.csv', or put them"):
        read_labelled(tmp_path)
