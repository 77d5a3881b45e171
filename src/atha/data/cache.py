"""A bounded cache on disk: bytes by key, in one SQLite file that several processes may use.

What is in it can always be made again: whatever goes wrong with the file costs time, and never a result.
"""

import sqlite3
import time
import warnings
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from atha.errors import AthaWarning

# In the file's header: says that it is a cache of ours ("athc").
_APPLICATION_ID = 0x61746863
# The sum of sizes is kept up to date by the database itself: other processes write too.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS entries "
    "(key BLOB PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL, value BLOB)",
    "CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY CHECK (id = 0), size INTEGER NOT NULL)",
    "INSERT INTO total SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM total)",
    "CREATE TRIGGER IF NOT EXISTS more AFTER INSERT ON entries BEGIN UPDATE total SET size = size + NEW.size; END",
    "CREATE TRIGGER IF NOT EXISTS less AFTER DELETE ON entries BEGIN UPDATE total SET size = size - OLD.size; END",
)
# Shared by all entries, so that sizes are seen by eviction as they are on disk, roughly.
_OVERHEAD = 88
_CHUNK = 500  # keys in one statement


_MARK = 8  # bytes of a value's own hash in front of it


def _mark(value: bytes) -> bytes:
    return sha256(value).digest()[:_MARK]


class Cache:
    """Bytes by key, the least recently used ones dropped beyond a size.

    Args:
        path: the SQLite file; None keeps nothing.
        limit: bytes.
    """

    def __init__(self, path: Path | None, limit: int = 2 << 30) -> None:
        self._limit = limit
        self._touched: set[bytes] = set()
        self._connection: sqlite3.Connection | None = None
        if path is None or limit <= 0:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            mark, tables = self._connection.execute(
                "SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_master)"
            ).fetchone()
            if mark != _APPLICATION_ID and (mark or tables):
                raise sqlite3.DatabaseError("it is a database of another program")
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")  # see above: losing it is no loss
            for statement in _SCHEMA:
                self._connection.execute(statement)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    @staticmethod
    def key(*parts: str) -> bytes:
        """A key from what a value depends on."""
        return sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values that are there."""
        found: dict[bytes, bytes] = {}
        wanted = list(dict.fromkeys(keys))
        if self._connection is None:
            return found
        try:
            for start in range(0, len(wanted), _CHUNK):
                part = wanted[start : start + _CHUNK]
                places = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT key, value FROM entries WHERE key IN ({places})", part)  # noqa: S608
                for key, value in rows.fetchall():
                    # After a loss of power, or on a network's disk, what is there need not be what was written.
                    if value[:_MARK] == _mark(value[_MARK:]):
                        found[key] = value[_MARK:]
                    else:
                        self._connection.execute("DELETE FROM entries WHERE key = ?", (key,))
        except sqlite3.Error as error:
            self._give_up(error)
        self._touched.update(found)
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Keep values; those that are there already stay as they are."""
        if self._connection is None or not values:
            return
        now = time.time_ns()
        rows = [(key, len(value) + _OVERHEAD, now, _mark(value) + value) for key, value in values.items()]
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?)", rows)
            if self._measure() > self._limit:
                self._evict()
        except sqlite3.Error as error:
            self._give_up(error)

    def close(self) -> None:
        """Note what was used, and close the file."""
        if self._connection is None:
            return
        try:
            self._note_use()
            self._connection.close()
        except sqlite3.Error as error:
            self._give_up(error)
        self._connection = None

    def _measure(self) -> int:
        assert self._connection is not None
        return int(self._connection.execute("SELECT size FROM total").fetchone()[0])

    def _note_use(self) -> None:
        assert self._connection is not None
        now = time.time_ns()
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "UPDATE entries SET used = ? WHERE key = ?", [(now, key) for key in self._touched]
            )
        self._touched.clear()

    def _evict(self) -> None:
        assert self._connection is not None
        self._note_use()
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            excess = self._measure() - self._limit * 9 // 10
            dropped = []
            for key, size in self._connection.execute("SELECT key, size FROM entries ORDER BY used"):
                if excess <= 0:
                    break
                dropped.append((key,))
                excess -= size
            self._connection.executemany("DELETE FROM entries WHERE key = ?", dropped)

    def _give_up(self, error: Exception) -> None:
        self._connection = None
        warnings.warn(
            f"the cache of features and images is not used ({error}): set ATHA_CACHE to another folder, or delete it",
            AthaWarning,
            stacklevel=3,
        )
