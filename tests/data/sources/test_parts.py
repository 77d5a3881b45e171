"""Tables that are divided into parts by a column, or by the folders of their paths."""

from pathlib import Path

import pytest

from atha.data.selection import Selection
from atha.data.sources.table import read_table
from atha.errors import DataError


@pytest.fixture
def table(tmp_path):
    """Makes a table of rows and the files that they name."""

    def make(header: str, *rows: str) -> Path:
        for row in rows:
            path = tmp_path / row.split(",")[0]
            path.parent.mkdir(exist_ok=True, parents=True)
            path.touch()
        (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
        return tmp_path / "t.csv"

    return make


def taken(path: Path, use: str, **selection) -> tuple[list[str], tuple[str, ...]]:
    images = read_table(path, Selection(use, **selection))
    return [Path(sample.image).stem for sample in images.samples], images.ignored


def refusal(path: Path, use: str, **selection) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, Selection(use, **selection))
    return str(caught.value)


@pytest.mark.parametrize(
    ("column", "train", "test"),
    [
        ("split", "train", "test"),
        ("Set", "Training", "TEST"),
        ("fold", "train", "testing"),
        ("data set", "trn", "valid"),
        ("whatever", "train", "validation"),
        ("Usage", "Training", "PrivateTest"),
        ("is_valid", "False", "True"),
        ("is_train", "1.0", "0.0"),
    ],
)
def test_each_use_takes_its_part(table, column, train, test):
    path = table(f"path,label,{column}", f"a.jpg,x,{train}", f"b.jpg,y,{train}", f"c.jpg,x,{test}")
    found, (note,) = taken(path, "fit")
    assert found == ["a", "b"]
    assert note.startswith(f"column '{column}': rows of '{train}' (2) are taken, and not those of '{test}' (1)")
    found, (note,) = taken(path, "test")
    assert found == ["c"]
    assert f"rows of '{test}' (1) are taken, and not those of '{train}' (2)" in note
    assert ("there is no test part" in note) == (column in ("data set", "whatever", "is_valid"))
    assert taken(path, "predict") == (["a", "b", "c"], ())
    found, (note,) = taken(path, "all")
    assert (len(found), note) == (3, f"column '{column}' has '{train}' (2), '{test}' (1): rows of all are taken")


def test_a_part_is_named(table):
    path = table("path,label,fold", "a.jpg,x,0", "b.jpg,y,1.0", "c.jpg,x,2", "d.jpg,y,")
    for use, doing in (("fit", "to learn from"), ("test", "to test on")):
        text = refusal(path, use, split_option="--eval-split")
        assert "column 'fold' has '0' (1), '1.0' (1), '2' (1), nothing (1)" in text
        assert f"which rows are {doing}; name them with --eval-split" in text
    assert taken(path, "fit", split="0, 1")[0] == ["a", "b"]
    assert taken(path, "test", split="2")[0] == ["c"]
    assert taken(path, "fit", split="all") == (["a", "c", "b", "d"], ())
    assert "and not '7'; name parts" in refusal(path, "fit", split="7")
    assert "and not '2', 'x'" in refusal(path, "fit", split="2,x")


def test_the_column_that_says_so_counts(table):
    path = table("path,label,fold,split", "a.jpg,x,0,train", "b.jpg,y,1,train", "c.jpg,x,1,val", "d.jpg,y,1,test")
    assert taken(path, "fit")[0] == ["a", "b"]
    assert taken(path, "fit", split="1")[0] == ["c", "b", "d"]
    assert taken(path, "test")[0] == ["d"]
    assert taken(path, "test", split="validation")[0] == ["c"]


def test_a_part_that_is_not_there(table):
    path = table("path,label,split", "a.jpg,x,train", "b.jpg,y,train")
    assert taken(path, "fit") == (["a", "b"], ())
    assert "has 'train' (2), which does not say which rows are to test on" in refusal(path, "test")
    path = table("path,label,split", "a.jpg,x,train", "b.jpg,y,holdback")
    assert "'holdback' (1)" in refusal(path, "fit")
    path = table("path,label", "a.jpg,x", "b.jpg,y")
    assert "no column says which rows are of 'test'" in refusal(path, "fit", split="test")
    assert taken(path, "fit", split="all")[0] == ["a", "b"]


def test_labels_of_other_parts_are_not_needed(table):
    path = table("path,label,split", "a.jpg,x,train", "b.jpg,y,train", "c.jpg,,test")
    assert taken(path, "fit")[0] == ["a", "b"]
    assert "row 4 has no value in column 'label'" in refusal(path, "test")


def test_folders_of_paths(table):
    rows = ["data/train/x/a.jpg,x", "data/train/y/b.jpg,y", "data/test/x/c.jpg,x"]
    path = table("path,label", *rows)
    found, (note,) = taken(path, "fit")
    assert found == ["a", "b"]
    assert note.startswith("the folders of its paths: rows of 'train' (2) are taken")
    assert taken(path, "test")[0] == ["c"]
    assert taken(table("path,label", *rows[:2]), "test")[0] == ["a", "b"]
    assert taken(table("path,label", *rows, "data/more/x/d.jpg,x"), "fit")[0] == ["d", "c", "a", "b"]
