"""Tables of paths and labels."""

import contextlib
import random
from pathlib import Path

import pytest

from atha.data.sources.table import IMAGE_COLUMNS, LABEL_COLUMNS, read_table
from atha.errors import DataError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs(path: Path) -> list[tuple[str, str]]:
    return [
        (Path(sample.image).relative_to(path.parent).as_posix(), sample.label) for sample in read_table(path).samples
    ]


def message(tmp_path: Path, content: str | bytes) -> str:
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_forms(tmp_path, delimiter, end, start):
    rows = [("path", "age", "label"), ("b/x.jpg", "3", "nevus"), ("a.jpg", "", "Ménière")]
    text = end.join(delimiter.join(row) for row in rows) + end
    path = write(tmp_path / "t.csv", start + text.encode())
    assert pairs(path) == [("b/x.jpg", "nevus"), ("a.jpg", "Ménière")]
    images = read_table(path)
    assert (images.source, images.ignored, images.labels) == (str(path), (), ("Ménière", "nevus"))


@pytest.mark.parametrize("image", IMAGE_COLUMNS)
@pytest.mark.parametrize("label", LABEL_COLUMNS)
def test_column_names(tmp_path, image, label):
    assert pairs(write(tmp_path / "t.tsv", f"{label.upper()}\tn\t{image.title()}\nx\t1\ta.jpg\n")) == [("a.jpg", "x")]


def test_quotes_spaces_and_blank_lines(tmp_path):
    text = '\n"path" , "label"\n\n"a, b.jpg","big; ""red"""\n  c.jpg ,  nevus \n , \nd.jpg,nevus,,\n'
    path = write(tmp_path / "t.csv", text.replace('"path" , "label"', '"path","label"'))
    assert pairs(path) == [("a, b.jpg", 'big; "red"'), ("c.jpg", "nevus"), ("d.jpg", "nevus")]


def test_delimiter_is_that_of_the_header_and_not_of_the_values(tmp_path):
    assert pairs(write(tmp_path / "t.csv", "path;label\na,b.jpg;x, y\n")) == [("a,b.jpg", "x, y")]


def test_absolute_paths_stay(tmp_path):
    image = tmp_path / "elsewhere" / "a.jpg"
    sub = tmp_path / "sub"
    sub.mkdir()
    images = read_table(write(sub / "t.csv", f"path,label\n{image},x\n../b.jpg,y\n"))
    assert [sample.image for sample in images.samples] == [image, sub / ".." / "b.jpg"]


def test_repeated_rows_are_kept_once_and_reported(tmp_path):
    path = write(tmp_path / "t.csv", "path,label\na.jpg,x\na.jpg,x\n")
    assert pairs(path) == [("a.jpg", "x")]
    assert read_table(path).ignored == ("1 row repeats an earlier one and is not used: row 3",)
    path = write(tmp_path / "t.csv", "path,label\n" + "a.jpg,x\n./a.jpg,x\n" * 5)
    assert pairs(path) == [("a.jpg", "x")]
    assert read_table(path).ignored == ("9 rows repeat earlier ones and are not used: rows 3, 4, 5, 6, 7, ...",)


def test_other_columns_that_could_have_been_meant_are_reported(tmp_path):
    path = write(tmp_path / "t.csv", "diagnosis,path,label\nnevus,a.jpg,0\n")
    assert pairs(path) == [("a.jpg", "0")]
    (note,) = read_table(path).ignored
    assert "column 'label'" in note and "'diagnosis'" in note


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["empty", "path,label"]),
        ("\ufeff \n\n", ["empty", "path,label"]),
        ("path,label\n", ["no rows", "add one row per image"]),
        ("path,label\n\n,\n", ["no rows"]),
        (",,,\n", ["no image column", "no label column", "',,,'"]),
        ("path,label\nMénière.jpg,x\n".encode("latin-1"), ["not UTF-8", "byte 12", "CSV UTF-8"]),
        ("path,label\na.jpg,x\n".encode("utf-16"), ["not UTF-8", "CSV UTF-8"]),
        ("path,label\na.jpg,x\n".encode("utf-16-le"), ["NUL bytes", "CSV UTF-8"]),
        ("a.jpg,nevus\nb.jpg,x\n", ["no image column", "no label column", "'a.jpg', 'nevus'", "filepath", "diagnosis"]),
        ("path;kind\na.jpg;x\n", ["no label column", "one of label, class", "'path', 'kind'", "rename or add"]),
        ("id,label\na.jpg,x\n", ["no image column", "one of path, file", "'id', 'label'"]),
        ("path,label\na.jpg,x\nb.jpg,\n", ["row 3", "no value", "'label'", "fill it or delete"]),
        ("path,label\n\n,x\n", ["row 3", "no value", "'path'"]),
        ("path,label\na.jpg\n", ["row 2", "no value", "'label'"]),
        ("path,label\na,b.jpg,x\n", ["row 2", "3 values", "2 columns", "double quotes"]),
        ("path,label\na.jpg,x\nb.jpg,x\n./a.jpg,y\n", ["row 4", "a.jpg", "'x'", "'y'", "keep one"]),
        ('path,label\n"a.jpg,x\nb.jpg,y\n', ["not valid CSV", "check its quotes"]),
        ('"path,label\na.jpg,x\n', ["header is not valid CSV", "path,label"]),
        ("path,label\n" + "x" * 200_000 + ",y\n", ["line 2", "not valid CSV", "field limit"]),
    ],
)
def test_bad_tables(tmp_path, content, parts):
    text = message(tmp_path, content)
    for part in parts:
        assert part in text


def test_table_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"no\.csv: the table cannot be read .*check the path"):
        read_table(tmp_path / "no.csv")


def test_any_text_gives_a_table_or_a_data_error(tmp_path):
    generator = random.Random(0)
    for _ in range(500):
        body = "".join(generator.choices('a,;\t"\n\r x\0é', k=generator.randrange(30)))
        path = write(tmp_path / "t.csv", generator.choice(["path,label\n", "label;path\n", ""]) + body)
        with contextlib.suppress(DataError):
            assert read_table(path).samples
