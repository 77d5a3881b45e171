"""Tables with a column of 1 and 0 for each class."""

from pathlib import Path

import pytest

from atha.data.selection import Selection
from atha.data.sources.table import read_table
from atha.errors import DataError


@pytest.fixture(autouse=True)
def images(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.jpg").touch()


def pairs(path: Path, text: str, **selection) -> str:
    path.write_text(text)
    found = read_table(path, Selection(**selection))
    assert not found.ignored
    return " ".join(f"{Path(sample.image).stem}={sample.label}" for sample in found.samples)


@pytest.mark.parametrize(
    "text",
    [
        "image,MEL,NV\na,1.0,0.0\nb,0.0,1.0\nc,0,1\n",
        "filename, MEL, NV, unused \na.jpg, 1, 0, 0\nb.jpg, 0, 1, 0\nc.jpg, 0, 1, 0\n",
        "image;age;MEL;NV\na;33;1,0;0,0\nb;2,5e1;0,0;1,0\nc;;0,0;1,0\n".replace(",5e1", "5"),
        "image_id,MEL,NV,split\na,True,False,train\nb,False,True,train\nc,,1,train\n",
        ",image,lesion_id,MEL,NV\n0,a,x1,1,0\n1,b,x2,0,1\n2,c,x3,0,1\n",
    ],
)
def test_forms(tmp_path, text):
    assert pairs(tmp_path / "t.csv", text, use="fit") == "a=MEL b=NV c=NV"


def test_a_class_that_is_called_as_groups_are(tmp_path):
    text = "image,patient_id,lesion,healthy\na,p1,1,0\nb,p2,0,1\n"
    assert pairs(tmp_path / "t.csv", text) == "b=healthy a=lesion"
    assert read_table(tmp_path / "t.csv").groups == ("p2", "p1")


def test_columns_that_are_named(tmp_path):
    text = "image,hairy,MEL,NV,site\na,1,1,0,x\nb,1,0,1,y\n"
    assert pairs(tmp_path / "t.csv", text, label_column="MEL, NV") == "a=MEL b=NV"
    assert pairs(tmp_path / "t.csv", text, label_column="site") == "a=x b=y"
    with pytest.raises(DataError, match="'site', or is the one that holds 1, of 'hairy', 'MEL', 'NV'; say which with"):
        pairs(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match="row 2 has 'x' in column 'site', and a column for a class holds 1 or 0"):
        pairs(tmp_path / "t.csv", text, label_column="MEL,site")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,MEL,NV\na,1,0\nb,0,0\n", r"row 3 has 1 in none of the columns 'MEL', 'NV', and an image has one label"),
        ("image,MEL,NV\na,1,0\nb,1,1\n", r"row 3 has 1 in 2 columns, 'MEL', 'NV', and .*keep one of them"),
        ("image,MEL,NV\n" + "a,1,0\n" * 300 + "b,0,0.7\n", r"row 302 has '0\.7' in column 'NV'"),
        ("Image Index,Finding Labels\na,Mass\nb,Mass|Nodule\nc,Nodule\n", r"row 3 has the label .*which is 2 labels"),
        ("a.jpg,1,0\nb.jpg,0,1\n", "that of the labels cannot be told"),
    ],
)
def test_rows_without_one_label(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        pairs(tmp_path / "t.csv", text)
