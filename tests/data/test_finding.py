"""Finding image files: what is meant by paths, folders and patterns, and what is said where nothing is."""

from pathlib import Path

import pytest

from atha.data.finding import find_images, is_hidden
from atha.errors import DataError


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
    assert found(album, "notes.txt", "b.jpg") == ["notes.txt", "b.jpg"]
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
        ("*.gif", ["no image matches the pattern", "*.gif", "**"]),
        ("empty", ["empty", "holds no image", "give a folder"]),
    ],
)
def test_find_images_finds_nothing(album, item, parts):
    (album / "empty").mkdir()
    (album / "empty" / "notes.txt").write_text("x")
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


def test_dicom_is_found_without_an_ending(tmp_path):
    dicom = bytes(128) + b"DICM"
    for name in ("IM0001", "1.2.840.113619", "sub/scan", "DICOMDIR", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(dicom)
    for name in ("notes", "a.txt", "short"):
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "photo.HEIC").write_bytes(b"")
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["1.2.840.113619", "IM0001", "photo.HEIC", "sub/scan"]
    assert len(find_images([f"{tmp_path}/*"])) == 3
