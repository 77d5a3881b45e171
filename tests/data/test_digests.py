"""Digests of files: right, remembered, and never of what a file was before."""

import hashlib
import os

import pytest

from atha.data import digests as module
from atha.data.cache import Cache
from atha.data.digests import combined, digests
from atha.errors import DataError


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / f"{number}.bin" for number in range(5)]
    for number, file in enumerate(made):
        file.write_bytes(bytes([number]) * (1 + number * 100_000))
    return made


@pytest.fixture
def cache(tmp_path):
    made = Cache(tmp_path / "cache" / "cache.db")
    yield made
    made.close()


@pytest.fixture
def read(monkeypatch):
    """The files that were really read."""
    seen = []
    real = module.content_hash

    def watched(file):
        seen.append(file)
        return real(file)

    monkeypatch.setattr(module, "content_hash", watched)
    return seen


def expected(files):
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_sha256_in_order(files, cache):
    assert digests(files, cache) == expected(files)
    assert digests(files[::-1], cache) == expected(files)[::-1]
    assert digests([files[1], files[1]], cache) == [expected(files)[1]] * 2
    assert digests(files, Cache(None)) == expected(files)
    assert digests([], cache) == []


def test_a_file_is_read_once(files, cache, read):
    digests(files[:3], cache)
    assert sorted(read) == files[:3]
    read.clear()
    assert digests(files, cache) == expected(files)
    assert sorted(read) == files[3:]


def test_remembered_between_processes(files, tmp_path, read):
    for _ in range(2):
        cache = Cache(tmp_path / "cache.db")
        assert digests(files, cache) == expected(files)
        cache.close()
    assert len(read) == 5


def test_a_change_is_noticed(files, cache):
    before = digests(files, cache)
    for number, content in ((0, b"longer than before"), (1, bytes([9]) * 100_001)):  # the second of the same size
        stat = files[number].stat()
        files[number].write_bytes(content)
        os.utime(files[number], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = digests(files, cache)
    assert after == expected(files)
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True, True, True]


def test_another_file_at_the_same_size_and_time(files, cache, tmp_path):
    digests(files, cache)
    twin = tmp_path / "elsewhere" / files[1].name
    twin.parent.mkdir()
    twin.write_bytes(bytes([7]) * files[1].stat().st_size)
    os.utime(twin, ns=(files[1].stat().st_atime_ns, files[1].stat().st_mtime_ns))
    assert digests([twin], cache) == expected([twin])


def test_a_link_is_what_it_points_to(files, cache, tmp_path):
    link = tmp_path / "link.bin"
    link.symlink_to(files[0])
    assert digests([link], cache) == expected(files[:1])
    link.unlink()
    link.symlink_to(files[1])
    assert digests([link], cache) == expected(files[1:2])


def test_missing_files(files, cache, tmp_path):
    for bad in (tmp_path / "none.bin", tmp_path, files[0] / "below"):
        with pytest.raises(DataError, match=bad.name):
            digests([*files, bad], cache)
    files[2].unlink()
    with pytest.raises(DataError, match=r"2\.bin"):
        digests(files, cache)


def test_progress_ends_at_all_of_them(files, cache, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 2)
    told = []
    assert digests(files, cache, lambda done, of: told.append((done, of))) == expected(files)
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_combined_says_which_images_and_not_in_what_order():
    one = combined(["a", "b"], ["00", "11"])
    assert one == combined(["b", "a"], ["11", "00"])
    assert (
        len({one, combined(["a", "b"], ["11", "00"]), combined(["a", "c"], ["00", "11"]), combined(["a"], ["00"])}) == 4
    )
    assert combined(["\udcff"], ["00"])
