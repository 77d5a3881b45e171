"""Finding image files: what is meant by paths, folders and patterns, and what is said where nothing is."""

import io
from pathlib import Path

import pytest
from PIL import Image

from atha.data import Selection
from atha.data.finding import find_images, is_hidden
from atha.errors import AthaWarning, DataError

pytestmark = pytest.mark.filterwarnings("ignore::atha.errors.AthaWarning")


def test_is_hidden():
    for name in (".DS_Store", ".git", "Thumbs.db", "THUMBS.DB", "desktop.ini", "Desktop.ini", "__MACOSX", "._a.jpg"):
        assert is_hidden(name)
    for name in ("a.jpg", "thumbs", "macosx", "a.b", ""):
        assert not is_hidden(name)


@pytest.fixture
def album(tmp_path):
    for name in (
        "b.jpg",
        "a.PNG",
        "sub/c.tif",
        "notes.txt",
        ".hidden.jpg",
        ".cache/d.jpg",
        "__MACOSX/e.jpg",
        "a[1].jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def found(album, *inputs):
    return [path.relative_to(album).as_posix() for path in find_images([album / item for item in inputs])]


def test_find_images_in_a_folder(album):
    assert found(album, "") == ["a.PNG", "a[1].jpg", "b.jpg", "sub/c.tif"]


def test_find_images_by_name(album):
    (album / "notes.md").write_bytes(b"x")
    assert found(album, "notes.md", "b.jpg") == ["notes.md", "b.jpg"]
    assert found(album, ".hidden.jpg") == [".hidden.jpg"]
    assert find_images(str(album / "b.jpg")) == [album / "b.jpg"]


def test_find_images_by_pattern(album):
    assert found(album, "*") == ["a.PNG", "a[1].jpg", "b.jpg"]
    assert found(album, "**/*.tif") == ["sub/c.tif"]
    assert found(album, "**/*") == ["a.PNG", "a[1].jpg", "b.jpg", "sub/c.tif"]
    assert found(album, "*.txt") == ["notes.txt"]
    assert found(album, ".cache/*.jpg") == [".cache/d.jpg"]


def test_a_file_named_like_a_pattern_wins(album):
    (album / "a1.jpg").write_bytes(b"x")
    assert found(album, "a[1].jpg") == ["a[1].jpg"]
    (album / "a[1].jpg").unlink()
    assert found(album, "a[1].jpg") == ["a1.jpg"]


def test_find_images_keeps_order_and_drops_twins(album, monkeypatch):
    assert found(album, "sub", "b.jpg", "", "sub/../b.jpg") == ["sub/c.tif", "b.jpg", "a.PNG", "a[1].jpg"]
    monkeypatch.chdir(album)
    assert find_images(["b.jpg", album / "b.jpg", "./b.jpg"]) == [Path("b.jpg")]


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ("bb.jpg", ["no file or folder", "bb.jpg", "did you mean", "b.jpg", "check the path"]),
        ("*.gif", ["the pattern", "*.gif", "gives no image; check it", "**"]),
        ("empty", ["the folder", "empty' gives no image (but notes.txt, paper (is a PDF document", "give a folder"]),
    ],
)
def test_find_images_finds_nothing(album, item, parts):
    (album / "empty").mkdir()
    (album / "empty" / "notes.txt").write_text("x")
    (album / "empty" / "paper").write_text("%PDF-1.7")
    with pytest.raises(DataError) as caught:
        find_images([album / "b.jpg", album / item])
    for part in parts:
        assert part in str(caught.value)


def test_find_images_of_nothing():
    for inputs in ([], [""]):
        with pytest.raises(DataError, match=r"give at least one|check the path"):
            find_images(inputs)


def test_links_in_a_circle_end(album):
    try:
        (album / "sub" / "loop").symlink_to(album, target_is_directory=True)
    except OSError:
        pytest.skip("no links on this system")
    assert found(album, "") == ["a.PNG", "a[1].jpg", "b.jpg", "sub/c.tif"]


def test_images_are_found_without_an_ending(tmp_path):
    photo, dicom, heic = io.BytesIO(), bytes(128) + b"DICM", b"\0\0\0\x18ftypheic" + bytes(20)
    Image.new("RGB", (8, 8)).save(photo, "JPEG")
    for name, content in {
        "IM0001": dicom, "1.2.840.113619": dicom, "sub/scan": dicom, "DICOMDIR": dicom, ".hidden": dicom,
        "photo": photo.getvalue(), "photo.bak": photo.getvalue(), "phone": heic, "empty.HEIC": b"",
        "notes": b"no picture, but a text", "a.txt": b"", "drawing.psd": b"8BPS" + bytes(20),
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.warns(AthaWarning) as caught:
        found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["1.2.840.113619", "IM0001", "empty.HEIC", "phone", "photo", "photo.bak", "sub/scan"]
    (told,) = (str(warning.message) for warning in caught)
    assert "3 files are no images and are passed over: a.txt, drawing.psd (is a Photoshop file" in told
    assert len(find_images([f"{tmp_path}/*"])) == 6


def test_lists(album, tmp_path, monkeypatch):
    (album / "new").mkdir()
    (album / "new" / "own.jpg").write_bytes(b"x")
    listed = album / "new" / "list.txt"
    listed.write_text(
        "\ufeff../b.jpg\r\n\n  sub\\c.tif \r\n'own.jpg' \nown 3\n../a[1].jpg 0 \nlost.jpg\nb.jpg\n", "utf-8"
    )
    monkeypatch.chdir(album)
    expected = ["b.jpg", "sub/c.tif", "new/own.jpg", "a[1].jpg"]
    with pytest.warns(AthaWarning, match="1 image is not there; 'lost.jpg' was looked for in"):
        assert [path.resolve() for path in find_images([listed])] == [(album / name).resolve() for name in expected]
    (album / "table.csv").write_text("id,site\nb,arm\nsub/c,leg\nlost,leg\n")
    with pytest.warns(AthaWarning, match="1 of its 3 images is not there"):
        assert found(album, "table.csv", "b.jpg") == ["b.jpg", "sub/c.tif"]
    elsewhere = Selection("predict", images=album / "sub")
    (album / "new" / "t.csv").write_text("c\n")
    assert [path.name for path in find_images([album / "new" / "t.csv"], elsewhere)] == ["c.tif"]
    with pytest.raises(DataError, match="--images is for tables, and"):
        find_images([album], elsewhere)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"lost.jpg\nx.jpg", "2 images are not there; 'lost.jpg' was"),
        (b"\xff\xfe\0", "UTF-16"),
        (b"no list at all, but\na text", "no line names an image"),
    ],
)
def test_lists_of_nothing(tmp_path, content, said):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=said):
        find_images([tmp_path / "list.txt"])


def test_an_image_that_is_called_a_list(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.txt", "PNG")
    assert find_images([tmp_path / "x.txt"]) == [tmp_path / "x.txt"]
