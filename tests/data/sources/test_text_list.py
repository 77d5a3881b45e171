"""Texts with a path and a label on each line."""

from pathlib import Path

import pytest

from atha.data import Selection, read_labelled
from atha.data.finding import find_images
from atha.errors import DataError

THERE = ("a.jpg", "b.png", "my pics/c d.jpg", "0034309.jpg", "7.jpg")


@pytest.fixture(autouse=True)
def images(tmp_path, monkeypatch):
    """Names are looked at, and no content."""
    for name in THERE:
        (tmp_path / "img" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "img" / name).touch()
    monkeypatch.chdir(tmp_path)


def write(content: str | bytes, name: str = "img/list.txt") -> Path:
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs(path: Path, **selection) -> list[tuple[str, str]]:
    found = read_labelled(path, Selection(**selection)).samples
    return [(Path(one.image).relative_to("img").as_posix(), one.label) for one in found]


SPACES = [("a.jpg", "0"), ("my pics/c d.jpg", "1")]
FORMS = {
    "Caffe": ("a.jpg 0\nmy pics/c d.jpg 1\n", SPACES),
    "tabs": ("a.jpg\t0\nmy pics/c d.jpg\t1\n", SPACES),
    "commas": ("a.jpg, 0\r\nmy pics/c d.jpg, 1\r\n", SPACES),
    "semicolons": ("my pics/c d.jpg;1\na.jpg;0\n\n", SPACES),
    "quotes": ("'my pics/c d.jpg'  1\n\"a.jpg\" 0\n", SPACES),
    "UTF-16": ("a.jpg 0\r\nmy pics\\c d.jpg 1\r\n".encode("utf-16"), SPACES),
    "a header": ("filename class\na.jpg 0\nmy pics/c d.jpg 1\n", SPACES),
    "remarks": ("# files of two kinds\na.jpg 0\nmy pics/c d.jpg 1\n", SPACES),
    "no endings": ("0034309 Boeing 737\na A340-300\n", [("a.jpg", "A340-300"), ("0034309.jpg", "Boeing 737")]),
    "labels of words": ("a.jpg cat\nb.png golden retriever\n", [("a.jpg", "cat"), ("b.png", "golden retriever")]),
    "labels first": ("cat a.jpg\ndog b.png\n", [("a.jpg", "cat"), ("b.png", "dog")]),
}


@pytest.mark.parametrize(("content", "expected"), FORMS.values(), ids=FORMS)
def test_forms(content, expected):
    path = write(content)
    assert sorted(pairs(path)) == sorted(expected)
    assert {found.name for found in find_images([path])} == {Path(name).name for name, _ in expected}


def test_where_the_images_are():
    assert pairs(write("img/a.jpg 0\nimg/b.png 1\n")) == [("a.jpg", "0"), ("b.png", "1")], "the working directory"
    elsewhere = {"images": Path("img")}
    assert pairs(write("/data/x/a.jpg 0\n/data/x/b.png 1\n", "l.txt"), **elsewhere) == [("a.jpg", "0"), ("b.png", "1")]
    with pytest.raises(DataError, match=r"did you mean --images 'img'\?"):
        read_labelled(write("/data/x/a.jpg 0\n/data/x/b.png 1\n", "l.txt"))
    assert find_images([write("a", "l.txt")], Selection("predict", images=Path("img"))) == [Path("img/a.jpg")]


@pytest.mark.filterwarnings("ignore:the image is read from column")
def test_columns_of_words():
    path = write("#Image CLASS-ID SPECIES\na 1 2\nb 2 2\n")
    with pytest.raises(DataError, match=r"which of the columns '1', '2', '3' is that of the labels cannot be told"):
        read_labelled(path)
    assert pairs(path, label_column="2") == [("a.jpg", "1"), ("b.png", "2")]
    assert pairs(write("a 1 2\nb 2 2\n"), label_column="3", use="fit") == [("a.jpg", "2"), ("b.png", "2")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a.jpg\nb.png\n", "holds paths and no labels; write the label behind each path, such as 'a.jpg cat'"),
        ("a.jpg 0\nb.png\n", "row 2 has no value in column 'label'"),
        ("1 a.jpg\n2 b.png\n3 7.jpg\n", "that of the labels cannot be told"),
        ("0 0.5 0.5 0.2 0.2\n1 0.1 0.2 0.3 0.4\n", "no line names an image"),
        ("A data set\nof cats, dogs, and more\n", "no line names an image"),
        ("x/a.png 0\nx/c.png 1\n", "none of its 2 images is there"),
        ("a.jpg 0\na.jpg 1 2\n", "row 2 gives 'a.jpg' the label '1 2', and an earlier row the label '0'"),
    ],
)
def test_what_is_no_list(content, said):
    with pytest.raises(DataError, match=said):
        read_labelled(write(content))


def test_a_line_of_other_words_far_below():
    with pytest.raises(DataError, match="line 201 has 5 words and the first line has 3"):
        read_labelled(write("a 1 2\n" * 200 + "my pics/c d.jpg 1 2\n"), Selection(label_column="2"))
