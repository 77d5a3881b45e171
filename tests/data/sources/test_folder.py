"""Class folders."""

from pathlib import Path

import pytest
from PIL import Image

from atha.data.sources.folder import read_folder
from atha.errors import DataError


def tree(root: Path, *names: str) -> Path:
    """Makes files, images where the suffix says so, and folders where the name ends with a slash."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png"):
            Image.new("RGB", (2, 2)).save(path)
        else:
            path.write_text("x")
    return root


def read(root: Path) -> list[tuple[str, str]]:
    return [(Path(sample.image).relative_to(root).as_posix(), sample.label) for sample in read_folder(root).samples]


def message(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_folder(root)
    return str(caught.value)


def test_first_level_folders_are_classes(tmp_path):
    tree(tmp_path, "nevus/b.jpg", "nevus/a.jpg", "melanoma/deep/er/c.png", "melanoma/z.png", "Zoster/x.jpg")
    images = read_folder(tmp_path)
    assert read(tmp_path) == [
        ("Zoster/x.jpg", "Zoster"),
        ("melanoma/deep/er/c.png", "melanoma"),
        ("melanoma/z.png", "melanoma"),
        ("nevus/a.jpg", "nevus"),
        ("nevus/b.jpg", "nevus"),
    ]
    assert images.labels == ("Zoster", "melanoma", "nevus")
    assert images.counts == {"Zoster": 1, "melanoma": 2, "nevus": 2}
    assert (images.source, images.ignored) == (str(tmp_path), ())


def test_order_within_a_class_is_that_of_posix_paths(tmp_path):
    tree(tmp_path, "a/b/x.jpg", "a/b-c.jpg", "a/b.jpg")
    assert [name for name, _ in read(tmp_path)] == ["a/b-c.jpg", "a/b.jpg", "a/b/x.jpg"]


def test_folders_without_images_are_no_classes(tmp_path):
    tree(tmp_path, "images/a.jpg", "images/b.jpg", "labels/a.txt", "labels/b.txt")
    assert "labels' holds no image (but a.txt, b.txt), so it is no class: move it out of" in message(tmp_path)
    (tmp_path / "labels" / "c").write_bytes(bytes(128) + b"DICM")
    assert len(read(tmp_path)) == 5
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "cat.zip").touch()
    assert "holds no class folders, but archives (cat.zip); unpack them first" in message(tmp_path / "packed")


def test_files_are_samples_whatever_their_suffix(tmp_path):
    tree(tmp_path, "a/x.jpg", "a/notes.txt", "a/scan", "b/y.jpg")
    assert [name for name, _ in read(tmp_path)] == ["a/notes.txt", "a/scan", "a/x.jpg", "b/y.jpg"]


def test_hidden_things_are_ignored_silently(tmp_path):
    tree(
        tmp_path, "a/x.jpg", "a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", "a/.cache/y.jpg", "a/__MACOSX/z.jpg",
        "__MACOSX/a/x.jpg", "__pycache__/a.pyc", "a/@eaDir/x.jpg", ".git/config", ".DS_Store", "Desktop.ini",
    )  # fmt: skip
    images = read_folder(tmp_path)
    assert read(tmp_path) == [("a/x.jpg", "a")]
    assert images.ignored == ()


def test_a_hidden_folder_above_the_root_does_not_matter(tmp_path):
    root = tree(tmp_path / ".cache" / "data", "a/x.jpg")
    assert read(root) == [("a/x.jpg", "a")]


def test_files_beside_the_class_folders_are_reported(tmp_path):
    tree(tmp_path, "a/x.jpg", "readme.md")
    assert read_folder(tmp_path).ignored == ("1 file lies beside the class folders and is not used: readme.md",)
    tree(tmp_path, "b.jpg", "a.jpg")
    assert read_folder(tmp_path).ignored == (
        "3 files lie beside the class folders and are not used: a.jpg, b.jpg, readme.md",
    )
    tree(tmp_path, *(f"c{i}.jpg" for i in range(9)))
    assert read_folder(tmp_path).ignored == (
        "12 files lie beside the class folders and are not used: a.jpg, b.jpg, c0.jpg, c1.jpg, c2.jpg, ...",
    )


def test_one_class_is_enough_here(tmp_path):
    assert read_folder(tree(tmp_path, "only/x.jpg")).labels == ("only",)


def test_no_class_folders(tmp_path):
    text = message(tmp_path)
    assert str(tmp_path) in text and "no class folders" in text and str(tmp_path / "melanoma" / "x.jpg") in text
    text = message(tree(tmp_path, "a.jpg", "notes.txt"))
    assert "holds images but no class folders" in text
    assert "one folder per class" in text and str(tmp_path / "melanoma" / "a.jpg") in text


def test_empty_class_folders_are_named(tmp_path):
    tree(tmp_path, "a/x.jpg", "b/.DS_Store", "c/")
    text = message(tmp_path)
    assert "2 class folders" in text and text.count("b, c") == 1 and "add images or remove" in text
    text = message(tree(tmp_path, "b/x.jpg"))
    assert "this class folder holds no image" in text and ": c;" in text


def test_missing_folder(tmp_path):
    text = message(tmp_path / "no")
    assert str(tmp_path / "no") in text and "cannot be listed" in text


def link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("no links on this system")


def test_links_to_folders_are_followed(tmp_path):
    store = tree(tmp_path / "store", "x.jpg", "sub/y.jpg")
    root = tree(tmp_path / "root", "b/z.jpg")
    link(root / "a", store)
    link(root / "b" / "more", store / "sub")
    assert read(root) == [("a/sub/y.jpg", "a"), ("a/x.jpg", "a"), ("b/more/y.jpg", "b"), ("b/z.jpg", "b")]


def test_links_in_a_circle_end(tmp_path):
    tree(tmp_path, "a/x.jpg", "a/sub/y.jpg")
    link(tmp_path / "a" / "sub" / "up", tmp_path / "a")
    link(tmp_path / "a" / "twin", tmp_path / "a" / "sub")
    assert read(tmp_path) == [("a/sub/y.jpg", "a"), ("a/x.jpg", "a")]


def test_broken_link_is_a_sample_to_be_named_at_decoding(tmp_path):
    tree(tmp_path, "a/x.jpg")
    link(tmp_path / "a" / "gone.jpg", tmp_path / "nowhere.jpg")
    assert read(tmp_path) == [("a/gone.jpg", "a"), ("a/x.jpg", "a")]


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    tree(tmp_path, "a/x.jpg")

    def refuse(top, onerror, **options):
        onerror(PermissionError(13, "Permission denied", str(top)))

    monkeypatch.setattr("os.walk", refuse)
    text = message(tmp_path)
    assert str(tmp_path / "a") in text and "Permission denied" in text and "check its permissions" in text
