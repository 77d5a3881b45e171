"""Writing whole files, and where what can be made again is kept."""

from pathlib import Path

import pytest

from atha.errors import DataError
from atha.files import cache_folder, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_utf8_with_plain_line_ends_and_makes_folders(tmp_path):
    file = tmp_path / "a" / "b" / "text.json"
    write_whole(file, "é\nß\n")
    assert file.read_bytes() == "é\nß\n".encode()
    assert file.stat().st_mode & 0o777 == 0o644
    assert names(file.parent) == ["text.json"]


def test_keeps_what_is_there(tmp_path):
    file = tmp_path / "text"
    write_whole(file, "one")
    with pytest.raises(DataError, match=r"text is there already, give another name or --overwrite"):
        write_whole(file, "two")
    assert file.read_text() == "one"
    write_whole(file, "two", overwrite=True)
    assert file.read_text() == "two"
    assert names(tmp_path) == ["text"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "text"
    write_whole(file, "one")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_whole(file, "two", overwrite=True)
    assert file.read_text() == "one"
    assert names(tmp_path) == ["text"]


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "text"
    write_whole(file, "one")

    def interrupted(self, mode):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "chmod", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, "two", overwrite=True)
    assert file.read_text() == "one"
    assert names(tmp_path) == ["text"]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "file" / "below", tmp_path / "folder"):
        with pytest.raises(DataError):
            write_whole(place, "text", overwrite=True)
    assert names(tmp_path / "folder") == []
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_name_that_no_file_can_have(tmp_path, overwrite):
    with pytest.raises(DataError):
        write_whole(tmp_path / ("x" * 300), "text", overwrite)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("ATHA_CACHE", "~/own")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("ATHA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "atha"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "atha"
