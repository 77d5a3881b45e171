"""Tables of paths and labels."""

import contextlib
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atha.data.selection import Selection
from atha.data.sources.columns import IMAGE_COLUMNS, LABEL_COLUMNS
from atha.data.sources.table import read_table
from atha.errors import DataError

THERE = ("a.jpg", "b.jpg", "c.png", "d.jpg", "b/x.jpg", "a, b.jpg", "x.y.tif", "twin.jpg", "twin.png")


@pytest.fixture(autouse=True)
def images(tmp_path):
    """Names are looked at, and no content."""
    for name in THERE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs(path: Path, **selection) -> list[tuple[str, str]]:
    return [
        (Path(sample.image).relative_to(path.parent).as_posix(), sample.label)
        for sample in read_table(path, Selection(**selection)).samples
    ]


def message(tmp_path: Path, content: str | bytes, **selection) -> str:
    path = write(tmp_path / "t.csv", content)
    with pytest.raises(DataError) as caught:
        read_table(path, Selection(**selection))
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_forms(tmp_path, code):
    for delimiter, end in product(",;\t|", ["\n", "\r\n", "\r"]):
        check_form(tmp_path, delimiter, end, code)


def check_form(tmp_path, delimiter, end, code):
    rows = [("path", "age", "label"), ("b/x.jpg", "3", "nevus"), ("a.jpg", "", "Ménière")]
    text = end.join(delimiter.join(row) for row in rows) + end
    path = write(tmp_path / "t.csv", text.encode(code))
    assert pairs(path) == [("a.jpg", "Ménière"), ("b/x.jpg", "nevus")]
    images = read_table(path)
    assert (images.source, images.ignored, images.labels) == (str(path), (), ("Ménière", "nevus"))


def test_column_names(tmp_path):
    for image, label in product(IMAGE_COLUMNS, LABEL_COLUMNS):
        shown = image.title().replace("_", " ")
        path = write(tmp_path / "t.tsv", f"{label.upper()}\tn\t{shown}\nx\t1\ta.jpg\n")
        assert pairs(path) == [("a.jpg", "x")]


def test_quotes_spaces_and_blank_lines(tmp_path):
    text = '\n"path","label"\n\n"a, b.jpg","big; ""red"""\n  c.png ,  nevus \n , \nd.jpg,nevus,,\n'
    path = write(tmp_path / "t.csv", text)
    assert pairs(path) == [("a, b.jpg", 'big; "red"'), ("c.png", "nevus"), ("d.jpg", "nevus")]


def test_delimiter_is_that_of_the_header_and_not_of_the_values(tmp_path):
    assert pairs(write(tmp_path / "t.csv", "path;label\na, b.jpg;x, y\n")) == [("a, b.jpg", "x, y")]
    assert pairs(write(tmp_path / "t.csv", "sep=|\nid,path|label\na.jpg|x\n"), image_column="1") == [("a.jpg", "x")]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("cat,nan", "row 3 has no value in column 'label'"),
        ("1,1.0", "row 3 has the label '1.0', and row 2 has '1', which is the same number"),
        ("36.6,40", "row 2 has 36.6 in column 'label', which is measured and no class"),
    ],
)
def test_labels_that_are_none(tmp_path, labels, said):
    first, second = labels.split(",")
    assert said in message(tmp_path, f"path,label\na.jpg,{first}\nb.jpg,{second}\n")


def test_numbers_may_be_labels(tmp_path):
    path = write(tmp_path / "t.csv", "path,version\na.jpg,1.5\nb.jpg,2.0\n")
    assert pairs(path, label_column="version") == [("a.jpg", "1.5"), ("b.jpg", "2.0")]
    assert pairs(write(path, "path,label\na.jpg,0.0\nb.jpg,1.0\n")) == [("a.jpg", "0.0"), ("b.jpg", "1.0")]


def test_absolute_paths_stay(tmp_path):
    sub = tmp_path / "sub"
    sub.mkdir()
    images = read_table(write(sub / "t.csv", f"path,label\n{tmp_path / 'a.jpg'},x\n../b.jpg,y\n"))
    assert [sample.image for sample in images.samples] == [tmp_path / "a.jpg", sub / ".." / "b.jpg"]


def test_the_order_of_rows_does_not_matter(tmp_path):
    rows = ["d.jpg,x", "a.jpg,y", "b.jpg,x", "b/x.jpg,x"]
    paths = [write(tmp_path / f"{n}.csv", "\n".join(["path,label", *rows[n:], *rows[:n]])) for n in range(4)]
    assert [pairs(path) for path in paths] == [[("b.jpg", "x"), ("b/x.jpg", "x"), ("d.jpg", "x"), ("a.jpg", "y")]] * 4


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
    assert pairs(path, label_column="diagnosis") == pairs(path, label_column="1") == [("a.jpg", "nevus")]


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("id,diagnosis\na,x\n", ()),
        ("Image Index,Finding Labels\na.jpg,x\n", ()),
        ("lesion_id,image_id,dx,age\n1,a,x,30\n", ()),
        ("id,Path,ClassId\n7,a.jpg,x\n", ()),
        ("image_id,path,label\n7,a.jpg,x\n", ()),
        ("Unnamed: 0,photo,age,kind\n0,a.jpg,3,x\n", None),
        (",photo,kind\n0,a.jpg,x\n", ("the image is read from column 'photo'", "the label is read from column 'kind'")),
        ("breed of dog,scan\nx,a\n", ("the image is read from column 'scan'", "the label is read from column")),
        ("id,scan,label\n7,a.jpg,x\n", ("the image is read from column 'scan'",)),
        ("a.jpg,x\n", ("the image is read from column '1'", "the label is read from column '2'")),
        ("x;a\n", ("the image is read from column '2'", "the label is read from column '1'")),
    ],
)
def test_columns_of_other_names_and_none(tmp_path, text, noted):
    path = write(tmp_path / "t.csv", text)
    assert pairs(path, **({"label_column": "kind"} if noted is None else {})) == [("a.jpg", "x")]
    notes = read_table(path, Selection(label_column="kind" if noted is None else None)).ignored
    expected = ("the image is read from column 'photo'",) if noted is None else noted
    assert len(notes) == len(expected) and all(map(str.startswith, notes, expected))


def test_names_without_an_ending(tmp_path):
    assert pairs(write(tmp_path / "t.csv", "image,label\na,x\nx.y,y\nb/x,z\n")) == [
        ("a.jpg", "x"), ("x.y.tif", "y"), ("b/x.jpg", "z")
    ]  # fmt: skip
    text = message(tmp_path, "image,label\na,x\ntwin,y\n")
    assert "row 3: 'twin' can be twin.jpg or twin.png" in text and "write the ending" in text


def test_paths_of_another_system(tmp_path):
    assert pairs(write(tmp_path / "t.csv", "path,label\nb\\x.jpg,x\n.\\a,y\n")) == [("b/x.jpg", "x"), ("a.jpg", "y")]


def test_images_of_a_folder(tmp_path):
    path = write(tmp_path / "b" / "t.csv", "id,label\na,x\nb/x,y\n")
    images = read_table(path, Selection(images=tmp_path)).samples
    assert [sample.image for sample in images] == [tmp_path / "a.jpg", tmp_path / "b" / "x.jpg"]
    path = write(tmp_path / "b" / "t.csv", "path,label\n/kaggle/input/set/a.jpg,x\n/kaggle/input/set/b/x.jpg,y\n")
    assert [sample.image for sample in read_table(path, Selection(images=tmp_path)).samples] == [
        tmp_path / "a.jpg", tmp_path / "b" / "x.jpg"
    ]  # fmt: skip
    path = write(tmp_path / "b" / "t.csv", "path,label\nC:\\set\\a.jpg,x\nC:\\set\\b\\x.jpg,y\n")
    assert len(read_table(path, Selection(images=tmp_path)).samples) == 2
    with pytest.raises(DataError, match=r"--images .*none is no folder; give the one"):
        read_table(path, Selection(images=tmp_path / "none"))


def test_images_in_folders_of_a_folder(tmp_path):
    for name in ("deep/part_1/m.jpg", "deep/part_2/n.jpg", "deep/part_1/o.jpg", "deep/part_2/o.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    text = "image_id,age,dx\nm,1,x\nn,2,y\n"
    assert "did you mean --images" in message(tmp_path, text)
    path = tmp_path / "t.csv"
    images = read_table(path, Selection(images=tmp_path / "deep")).samples
    assert [Path(sample.image).name for sample in images] == ["m.jpg", "n.jpg"]
    path.write_text("image_id,dx\nm,x\no,y\n")
    with pytest.raises(DataError, match=r"row 3: 'o' can be .*part_1/o\.jpg' or .*part_2/o\.jpg'; write more"):
        read_table(path, Selection(images=tmp_path / "deep"))
    path.write_text("image_id,dx\nm,x\nC:\\data\\part_2\\o.jpg,y\n")
    assert len(read_table(path, Selection(images=tmp_path / "deep")).samples) == 2


def test_to_predict_rows_keep_their_order(tmp_path):
    path = write(tmp_path / "t.csv", "image\nd\na\nb\n")
    assert [Path(one.image).stem for one in read_table(path, Selection("predict")).samples] == ["d", "a", "b"]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("path,label\nq/e.jpg,x\nq/a.jpg,x\n", ["none of its 2 images", "row 2, 'q/e.jpg'", "q/e.jpg' was looked for"]),
        ("path,label\nq/e.jpg,x\nq/a.jpg,x\n", ["give the folder that they are relative to with --images DIR"]),
        ("path,label\na.bmp,x\n", ["none of its 1 images", "there is a.jpg: correct the ending"]),
        ("path,label\nhttps://x.org/a.jpg,x\n", ["download the images"]),
        ("id,label\nx,x\n", ["did you mean --images '", "/b'?"]),
        ("x,nevus\n", ["no image column", "only 'x', 'nevus'", "--image-column"]),
        ("id,label\nset/x,x\n", ["did you mean --images '", "/b'?"]),
    ],
)
def test_paths_that_lead_nowhere(tmp_path, content, parts, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    text = message(tmp_path, content)
    for part in parts:
        assert part in text


def test_some_paths_that_lead_nowhere(tmp_path):
    path = write(tmp_path / "t.csv", "path,label\na.jpg,x\nq.jpg,x\nb.jpg,y\nr.jpg,x\n")
    (note,) = read_table(path, Selection("fit")).ignored
    assert "2 of its 4 images are not there; of row 3, 'q.jpg'" in note
    assert len(read_table(path, Selection("fit")).samples) == 2
    assert len(read_table(path).samples) == 4, "who looks at all finds out later"
    content = "path,label\na.jpg,x\nq.jpg,y\n"
    assert "no image of class 'y' is left" in message(tmp_path, content, use="fit")
    assert pairs(write(tmp_path / "t.csv", content), use="test") == [("a.jpg", "x")]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["empty", "path,label"]),
        ("\ufeff \n\n", ["empty", "path,label"]),
        ("path,label\n", ["no rows", "add one row per image"]),
        ("path,label\n\n,\n", ["no rows"]),
        (",,,\n", ["no image column"]),
        ("path,label\nMénière.jpg,x\n".encode("latin-1"), ["not UTF-8", "byte 12", "CSV UTF-8"]),
        (b"\xff\xfep\0a\0t", ["not UTF-16", "CSV UTF-8"]),
        ("path,label\na.jpg,x\n".encode("utf-16-le"), ["NUL bytes", "CSV UTF-8"]),
        ("u.v,nevus\nw.v,x\n", ["no image column", "'u.v', 'nevus'", "filepath", "--image-column"]),
        ("path;kind;sort\na.jpg;x;y\n", ["no label column", "one of label, class", "'path', 'kind'", "--label-column"]),
        ("scan,photo\na.jpg,b\n", ["columns 'scan', 'photo' could each be", "--image-column"]),
        ("path,label\na.jpg,x\nb.jpg,\n", ["row 3", "no value", "'label'", "fill it or delete"]),
        ("path,label\n\n,x\n", ["row 3", "no value", "'path'"]),
        ("path,label\na.jpg\n", ["row 2", "no value", "'label'"]),
        ("path,label\na,b.jpg,x\n", ["row 2", "3 values", "2 columns", "double quotes"]),
        ("path,label\na.jpg,x\nb.jpg,x\n./a.jpg,y\n", ["row 4", "a.jpg", "'x'", "'y'", "keep one"]),
        ('path,label\n"a.jpg,x\nb.jpg,y\n', ["not valid CSV", "check its quotes"]),
        ('"path,label\na.jpg,x\n', ["header is not valid CSV", "path,label"]),
        ("path,label\n" + "x" * 200_000 + ",y\n", ["line 2", "not valid CSV", "field limit"]),
        (",".join(f"c{n}" for n in range(20_000)) + "\n", ["has 20,000 columns, and the most is 10,000"]),
        ("path,label\n" + "x" * 9_000_000, ["a line of more than 8,388,608 characters"]),
    ],
)
def test_bad_tables(tmp_path, content, parts):
    text = message(tmp_path, content)
    for part in parts:
        assert part in text
    assert len(text) < 600


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"label_column": "lable"}, ["no column 'lable', only 'path', 'label'", "did you mean 'label'?"]),
        ({"image_column": "3"}, ["no column '3'", "--image-column"]),
    ],
)
def test_columns_that_are_not_there(tmp_path, options, parts):
    text = message(tmp_path, "path,label\na.jpg,x\n", **options)
    for part in parts:
        assert part in text


def test_table_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"no\.csv: the table cannot be read .*check the path"):
        read_table(tmp_path / "no.csv")
    with pytest.raises(DataError, match="no plain file"):
        read_table(Path("/dev/null"))


HEADERS = ["path,label\n", "label;path\n", "id\tx\ty\n", "a.jpg,x\n", "\ufeffsep=,\n", ""]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.sampled_from(HEADERS),
    body=st.text(st.sampled_from('a,;\t"\n\r x\0é/\\.01|'), max_size=30),
    code=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "latin-1"]),
    options=st.fixed_dictionaries(
        {},
        optional={
            "use": st.sampled_from(["fit", "test"]),
            "image_column": st.sampled_from(["1", "path", "²", ""]),
            "label_column": st.sampled_from(["2", "label", "0"]),
        },
    ),
)
def test_any_text_gives_a_table_or_a_data_error(tmp_path, header, body, code, options):
    path = write(tmp_path / "t.csv", (header + body).encode(code, "ignore"))
    with contextlib.suppress(DataError):
        assert read_table(path, Selection(**options)).samples
