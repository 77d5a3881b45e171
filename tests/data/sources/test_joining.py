"""Paths that a table has in two columns, and words that it has beside numbers."""

from pathlib import Path

import pytest

from atha.data.selection import Selection
from atha.data.sources.table import read_table
from atha.errors import DataError

THERE = ("d0/a.png", "d0/b.png", "d1/a.png", "train/c.png", "test/c.png", "red/x.png", "blue/x.png", "t.png")


@pytest.fixture(autouse=True)
def images(tmp_path: Path) -> None:
    for name in THERE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()


def pairs(folder: Path, content: str, **selection: str) -> tuple[list[tuple[str, str]], str]:
    (folder / "t.csv").write_text(content)
    read = read_table(folder / "t.csv", Selection(**selection))  # type: ignore[arg-type]
    found = [(Path(str(one.image)).relative_to(folder).as_posix(), one.label) for one in read.samples]
    return found, " ".join(read.ignored)


@pytest.mark.parametrize(
    "table",
    [
        "dir,filename,label\nd0,a.png,x\nd0,b.png,y\nd1,a.png,y\n",
        "filename,directory,label\na.png,d0/,x\nb.png,d0,y\na.png,d1,y\n",
        "id,label,place\na,x,d0\nb,y,d0\na,y,d1\n",
        "path,name,label\nd0,a.png,x\nd0,b.png,y\nd1,a.png,y\n",
    ],
)
def test_folders_in_a_column_of_their_own(tmp_path: Path, table: str) -> None:
    found, said = pairs(tmp_path, table)
    assert found == [("d0/a.png", "x"), ("d0/b.png", "y"), ("d1/a.png", "y")]
    assert "the paths of images are made of columns" in said


def test_the_label_may_be_the_folder(tmp_path: Path) -> None:
    assert pairs(tmp_path, "label,filename\nred,x.png\nblue,x.png\n")[0] == [
        ("blue/x.png", "blue"),
        ("red/x.png", "red"),
    ]


def test_folders_that_are_parts_divide(tmp_path: Path) -> None:
    table = "dir,filename,label\ntrain,c.png,x\ntest,c.png,x\n"
    assert pairs(tmp_path, table, use="fit")[0] == [("train/c.png", "x")]
    assert pairs(tmp_path, table, use="test")[0] == [("test/c.png", "x")]


def test_what_one_column_finds_is_left_alone(tmp_path: Path) -> None:
    found, said = pairs(tmp_path, "filename,dir,label\nt.png,d0,x\n")
    assert found == [("t.png", "x")] and "made of columns" not in said
    with pytest.raises(DataError, match="none of its 2 images is there"):
        pairs(tmp_path, "dir,filename,label\nd0,a.png,x\nd1,b.png,x\n")


@pytest.mark.parametrize("header", ["label,label_name", "class,class_name", "class_id,class_name", "target,label_name"])
def test_words_beside_numbers_are_the_labels(tmp_path: Path, header: str) -> None:
    found, _ = pairs(tmp_path, f"image,{header}\nd0/a.png,0,cat\nd0/b.png,1,dog\n")
    assert found == [("d0/a.png", "cat"), ("d0/b.png", "dog")]
    column = header.partition(",")[0]
    found, _ = pairs(tmp_path, f"image,{header}\nd0/a.png,0,cat\nd0/b.png,1,dog\n", label_column=column)
    assert found == [("d0/a.png", "0"), ("d0/b.png", "1")]


def test_a_label_of_several_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 3 has the label 'Mass\|Nodule', which is 2 labels"):
        pairs(tmp_path, "image,label\nd0/a.png,Mass\nd0/b.png,Mass|Nodule\n")
    assert len(pairs(tmp_path, 'image,label\nd0/a.png,Tomato\nd0/b.png,"Tomato, green"\n')[0]) == 2


@pytest.mark.parametrize("word", ["nan", "NaN", "<NA>"])
def test_words_for_nothing_are_missing_values(tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError, match="row 2 has no value in column 'label'"):
        pairs(tmp_path, f"image,label\nd0/a.png,{word}\nd0/b.png,x\n")
