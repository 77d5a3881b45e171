"""The cache on disk: what it keeps, what it drops, and that trouble with its file costs time and nothing else."""

import sqlite3
import subprocess
import sys
import warnings

import pytest

from atha.data.cache import Cache
from atha.errors import AthaWarning


def key(number: int) -> bytes:
    return Cache.key("test", str(number))


def entries(file) -> dict[bytes, bytes]:
    with sqlite3.connect(file) as connection:
        # The first eight bytes are a hash of the others.
        found = {key: value[8:] for key, value in connection.execute("SELECT key, value FROM entries")}
    connection.close()
    return found


def total(file) -> int:
    with sqlite3.connect(file) as connection:
        (size,) = connection.execute("SELECT coalesce(sum(size), 0) FROM entries").fetchone()
    connection.close()
    return size


def test_get_and_put(tmp_path):
    file = tmp_path / "not" / "there" / "cache.db"
    cache = Cache(file)
    assert cache.get([key(1)]) == {}
    cache.put({key(1): b"one", key(2): b"", key(3): bytes(range(256))})
    assert cache.get([key(3), key(1), key(1), key(4), key(2)]) == {
        key(1): b"one",
        key(2): b"",
        key(3): bytes(range(256)),
    }
    cache.put({key(1): b"other"})
    assert cache.get([key(1)]) == {key(1): b"one"}  # what is there stays: by its key it is the same
    cache.put({})
    assert cache.get([]) == {}
    cache.close()
    again = Cache(file)
    assert again.get([key(1), key(3)]) == {key(1): b"one", key(3): bytes(range(256))}
    again.close()


def test_more_keys_than_one_statement_takes(tmp_path):
    cache = Cache(tmp_path / "cache.db")
    values = {key(number): str(number).encode() for number in range(1234)}
    cache.put(values)
    assert cache.get(iter([*values, key(-1)])) == values
    cache.close()


def test_keys_do_not_run_into_each_other():
    assert len({Cache.key("a", "bc"), Cache.key("ab", "c"), Cache.key("abc"), Cache.key("a", "b", "c")}) == 4
    assert Cache.key("caf\udce9")  # a file name that is not UTF-8


def test_size_is_bounded(tmp_path):
    file = tmp_path / "cache.db"
    cache = Cache(file, limit=20_000)
    for number in range(100):
        cache.put({key(number): bytes(1000)})
        assert total(file) <= 20_000
    assert 10 <= len(entries(file)) < 20
    assert cache.get([key(99)])  # the newest is there
    assert not cache.get([key(0)])
    cache.put({key(1000): bytes(50_000)})  # more than there is place for
    assert total(file) <= 20_000
    cache.put({key(1001): b"x"})
    assert cache.get([key(1001)])
    cache.close()


def test_least_recently_used_go_first(tmp_path):
    file = tmp_path / "cache.db"
    cache = Cache(file, limit=12_000)
    for number in range(10):
        cache.put({key(number): bytes(1000)})
    cache.get([key(0), key(3)])  # the oldest, but used
    for number in range(10, 14):
        cache.put({key(number): bytes(1000)})
    kept = set(entries(file))
    assert {key(0), key(3)} <= kept
    assert key(1) not in kept
    assert key(13) in kept
    cache.close()


def test_use_is_remembered_by_the_file(tmp_path):
    file = tmp_path / "cache.db"
    first = Cache(file, limit=12_000)
    for number in range(10):
        first.put({key(number): bytes(1000)})
    first.get([key(0)])
    first.close()
    second = Cache(file, limit=12_000)
    for number in range(10, 14):
        second.put({key(number): bytes(1000)})
    kept = set(entries(file))
    assert key(0) in kept
    assert key(1) not in kept
    second.close()


def test_a_smaller_limit_holds_from_the_next_entry(tmp_path):
    file = tmp_path / "cache.db"
    cache = Cache(file)
    cache.put({key(number): bytes(1000) for number in range(50)})
    cache.close()
    cache = Cache(file, limit=10_000)
    cache.put({key(100): bytes(1000)})
    assert total(file) <= 10_000
    assert cache.get([key(100)])
    cache.close()


def test_writing_what_is_there_drops_nothing(tmp_path):
    """Two workers compute the same feature: what is in the cache must not shrink by it."""
    file = tmp_path / "cache.db"
    cache = Cache(file, limit=20_000)
    values = {key(number): bytes(1000) for number in range(18)}
    cache.put(values)
    for _ in range(5):
        cache.put(values)
    assert set(entries(file)) == set(values)
    cache.close()


def test_two_connections_see_each_other(tmp_path):
    file = tmp_path / "cache.db"
    one, two = Cache(file), Cache(file)
    one.put({key(1): b"one"})
    two.put({key(2): b"two", key(1): b"late"})
    assert one.get([key(1), key(2)]) == two.get([key(1), key(2)]) == {key(1): b"one", key(2): b"two"}
    one.close()
    two.close()


def test_size_is_bounded_with_several_connections(tmp_path):
    """Each writes less than the limit, all together three times that."""
    file = tmp_path / "cache.db"
    caches = [Cache(file, limit=20_000) for _ in range(4)]
    for turn in range(15):
        for which, cache in enumerate(caches):
            cache.put({key(100 * which + turn): bytes(1000)})
    assert total(file) <= 1.5 * 20_000
    for cache in caches:
        cache.close()


WRITER = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
from atha.data.cache import Cache
which, limit = int(sys.argv[2]), int(sys.argv[3])
cache = Cache(Path(sys.argv[1]), limit)
for turn in range(150):
    cache.put({Cache.key("own", str(which), str(turn)): f"{which} {turn}".encode(), Cache.key("all", str(turn)): b"x"})
    cache.get([Cache.key("own", str(1 - which), str(turn)), Cache.key("all", str(turn))])
cache.close()
"""


@pytest.mark.parametrize("limit", [1 << 30, 5000])
def test_two_processes_at_once(tmp_path, limit):
    file = tmp_path / "cache.db"
    command = [sys.executable, "-c", WRITER, str(file)]
    running = [
        subprocess.Popen([*command, str(which), str(limit)], stderr=subprocess.PIPE, text=True) for which in (0, 1)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    found = entries(file)
    if limit == 1 << 30:
        assert len(found) == 450
        for which in (0, 1):
            for turn in range(150):
                assert found[Cache.key("own", str(which), str(turn))] == f"{which} {turn}".encode()
    else:
        assert total(file) <= 2 * limit


def test_no_file_keeps_nothing(tmp_path):
    for cache in (Cache(None), Cache(tmp_path / "cache.db", limit=0)):
        cache.put({key(1): b"one"})
        assert cache.get([key(1)]) == {}
        cache.close()
        cache.close()
    assert list(tmp_path.iterdir()) == []


def works_without(cache: Cache) -> None:
    """No further warning, no error: as if there were none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put({key(1): b"one"})
        assert cache.get([key(1)]) == {}
        cache.close()


def foreign_database(file):
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE entries (name TEXT, place TEXT)")
    connection.close()


def half_a_cache(file):
    cache = Cache(file)
    cache.put({key(number): bytes(3000) for number in range(50)})
    cache.close()
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 20_000)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file.write_bytes(b"no database at all, but long enough to be looked at" * 40),
        foreign_database,
        half_a_cache,
        lambda file: file.mkdir(),
    ],
    ids=["no database", "another database", "damaged", "folder"],
)
def test_a_file_that_cannot_be_used_warns_once(tmp_path, spoil):
    file = tmp_path / "cache.db"
    spoil(file)
    with pytest.warns(AthaWarning, match="the cache of features and images is not used .* set ATHA_CACHE") as caught:
        cache = Cache(file)
    assert len(caught) == 1
    works_without(cache)


def test_a_place_that_cannot_be_written_warns(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(AthaWarning, match="is not used"):
        cache = Cache(tmp_path / "file" / "cache.db")
    works_without(cache)


def test_a_foreign_file_is_left_as_it_is(tmp_path):
    file = tmp_path / "cache.db"
    file.write_bytes(before := b"the only copy of something else" * 100)
    with pytest.warns(AthaWarning):
        Cache(file)
    assert file.read_bytes() == before


def test_damage_while_it_is_used(tmp_path):
    file = tmp_path / "cache.db"
    cache = Cache(file)
    cache.put({key(number): bytes(3000) for number in range(200)})
    with sqlite3.connect(file) as other:
        other.execute("DROP TABLE entries")
    other.close()
    with pytest.warns(AthaWarning, match="is not used"):
        assert cache.get([key(1)]) == {}
    works_without(cache)


def test_a_full_disk(tmp_path):
    cache = Cache(tmp_path / "cache.db")
    cache.put({key(1): b"one"})
    (pages,) = cache._connection.execute("PRAGMA page_count").fetchone()
    cache._connection.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.warns(AthaWarning, match="full"):
        cache.put({key(2): bytes(1_000_000)})
    works_without(cache)
    again = Cache(tmp_path / "cache.db")  # and what was there still is
    assert again.get([key(1), key(2)]) == {key(1): b"one"}
    again.close()


def test_a_file_that_another_process_holds(tmp_path):
    file = tmp_path / "cache.db"
    cache = Cache(file)
    cache.put({key(1): b"one"})
    cache._connection.execute("PRAGMA busy_timeout=50")
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert cache.get([key(1)]) == {key(1): b"one"}  # reading goes on
    with pytest.warns(AthaWarning, match="locked"):
        cache.put({key(2): b"two"})
    works_without(cache)
    holder.close()
