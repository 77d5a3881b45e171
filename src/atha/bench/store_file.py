"""The SQLite file of a store: its tables and its mark, opened, locked and written whole or not at all.

While somebody writes, what is new is in a log beside the file, and the file says so. Who closes it last puts all of it
into the file. A file that says so and has no log beside it was copied without it.
"""

import os
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from atha.data.finding import kind_of
from atha.errors import AthaError, AthaWarning

#: In the file's header: says that it is a store ("atha"), and of which version.
APPLICATION_ID = 0x61746861
VERSION = 2
#: Since this one, whoever closes a store last leaves no log.
_CLOSED = 2
#: Seconds to wait for another process that is writing.
TIMEOUT = 60.0

#: Tables, each column with what is in it; the reference shows it as it is.
SCHEMA = """
CREATE TABLE experiments (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,       -- SHA-256 of the definition
    method TEXT NOT NULL,            -- as reports call it
    model TEXT NOT NULL,             -- as it was called; which weights it is, the definition says
    definition TEXT NOT NULL         -- JSON
);
CREATE TABLE episodes (
    sequence TEXT NOT NULL,          -- key of the episode set
    episode INTEGER NOT NULL,        -- index within the sequence, from 0
    content TEXT NOT NULL,           -- JSON: classes, support, query
    PRIMARY KEY (sequence, episode)
) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started REAL NOT NULL,           -- seconds since 1970, UTC
    environment TEXT NOT NULL        -- JSON: versions, device, command
);
CREATE TABLE results (
    experiment INTEGER NOT NULL REFERENCES experiments (id),  -- that it is of
    episode INTEGER NOT NULL,
    hash TEXT NOT NULL,              -- of the episode's content
    accuracy REAL NOT NULL,          -- share of query images classified right, 0 to 1
    brier REAL NOT NULL,             -- mean Brier score, 0 to 2
    calibration BLOB NOT NULL,       -- float64 (3, bins): count, confidence, correct
    classes BLOB NOT NULL,           -- int16 (way): indices into the data set's classes
    correct BLOB NOT NULL,           -- int16 (way): query images of each class that were classified right
    seconds REAL NOT NULL,           -- fit and predict
    memory INTEGER,                  -- peak bytes of the process, or of the device
    run INTEGER NOT NULL REFERENCES runs (id),  -- that wrote it
    PRIMARY KEY (experiment, episode)
) WITHOUT ROWID;
CREATE TABLE probabilities (
    experiment INTEGER NOT NULL,
    episode INTEGER NOT NULL,
    probabilities BLOB NOT NULL,     -- float32 (way * query, way), query images class by class, columns as classes
    PRIMARY KEY (experiment, episode)
);
"""

# Steps of SQLite's between two looks at how many there were: for each byte of a file there are a few.
_STEPS = 1_000_000


class StoreError(AthaError):
    """A store cannot be opened, read or written."""


class StoreFile:
    """The file, open.

    Args:
        path: see `atha.bench.store.Store`.
        create: the same.
        timeout: the same.

    Attributes:
        connection: SQLite's, for statements within `errors` or `transaction`.

    Raises:
        StoreError: no such file, a file of another kind or of a newer version, or it cannot be read or written.
    """

    def __init__(self, path: Path, create: bool, timeout: float) -> None:
        self._path, self._timeout, self._steps = path, timeout, 0
        kind = kind_of(path)
        if kind == "folder":
            raise StoreError(f"{path} is a folder, a store is a file: give a name such as {path / 'results.db'}")
        if kind and not path.is_file():
            raise StoreError(f"{path} is no plain file but a pipe, a device or the like: give another name")
        if not create and not (kind and path.stat().st_size):
            raise StoreError(f"there is no store {path}, make one with atha bench run --store {path}")
        lacks_log = _lacks_log(path)
        with self.errors():
            # A log beside the file needs a folder that can be written; what lies in an archive is only read.
            archived = not create and not os.access(path.resolve().parent, os.W_OK)
            if archived and _log(path).exists() and _log(path).stat().st_size:
                raise StoreError(
                    f"{path} has a log beside it, in a folder that cannot be written to: copy both to another folder"
                )
            place = f"{path.resolve().as_uri()}?mode=ro&immutable=1" if archived else path
            self.connection = sqlite3.connect(place, timeout=timeout, isolation_level=None, uri=archived)
            try:
                self.connection.execute("PRAGMA trusted_schema = OFF")
                self.connection.text_factory = lambda text: text.decode("utf-8", "replace")
                self.connection.set_progress_handler(self._goes_on, _STEPS)
                self._prepare(create)
            except BaseException:
                self.connection.close()
                raise
        if lacks_log:
            warnings.warn(
                f"{path} may lack results, it was copied while a run wrote to it and without {_log(path).name}: copy "
                "it again with atha bench copy, or run what is missing",
                AthaWarning,
                stacklevel=3,
            )

    def close(self) -> None:
        """Close the file; if nobody else has it open, without a log."""
        with suppress(sqlite3.Error):  # somebody has, or it cannot be written to
            if self.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                self.connection.execute("PRAGMA busy_timeout = 0")
                self.connection.execute("PRAGMA journal_mode = DELETE")
        self.connection.close()

    def copy(self, path: Path) -> None:
        """Write all that there is now to another file, which needs no log.

        Args:
            path: of a file that is empty, or not there.

        Raises:
            StoreError: the file cannot be read or written.
        """
        try:
            made = sqlite3.connect(path)
            try:
                self.connection.backup(made)
                made.execute("PRAGMA journal_mode = DELETE")
            finally:
                made.close()
        except sqlite3.Error as error:
            raise StoreError(_sentence(path, error, self._timeout)) from error

    def _prepare(self, create: bool) -> None:
        application = self._check()
        if not create:
            if application != APPLICATION_ID:
                raise StoreError(f"{self._path} is no store yet, make one with atha bench run --store {self._path}")
            return  # readers leave the file as it is
        self._use_log()
        self.connection.execute("PRAGMA synchronous = FULL")
        with self.transaction():  # several may be making the same store
            if self._check() != APPLICATION_ID:
                for statement in SCHEMA.split(";\n"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            if self.connection.execute("PRAGMA user_version").fetchone() != (VERSION,):
                self.connection.execute(f"PRAGMA user_version = {VERSION}")
        # The file itself now says which version it is, and that there is a log.
        self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _check(self) -> int:
        """The mark in the file's header: ours, or 0 of an empty file."""
        # One statement, so that both are of one moment.
        application, tables, version = self.connection.execute(
            "SELECT (SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_master), "
            "(SELECT user_version FROM pragma_user_version)"
        ).fetchone()
        if application != APPLICATION_ID and (application or tables):
            raise StoreError(f"{self._path} is a database of another program, it is left alone: use another --store")
        if version > VERSION:
            raise StoreError(f"{self._path} has format {version} and this version reads {VERSION}: update atha")
        if application == APPLICATION_ID:
            self._check_tables()
        return int(application)

    def _check_tables(self) -> None:
        """See to it that there are our tables with their columns, and nothing that acts or has no end."""
        if _tables(self.connection) != _own_tables():
            raise StoreError(f"{self._path} has other tables than a store, it is left alone: use another --store")

    def _use_log(self) -> None:
        """Switch to the write-ahead log. SQLite does not wait for others that are just doing the same."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise  # it will never be writable
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written within is written whole or not at all; raises `StoreError`, as `errors` does."""
        with self.errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # SQLite itself rolls back on some errors
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """What SQLite cannot do is said in a sentence.

        Raises:
            StoreError: the file cannot be read or written.
        """
        self._steps = 0
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(_sentence(self._path, error, self._timeout)) from error
        except UnicodeDecodeError as error:  # of SQLite's own message, which names what is damaged
            raise StoreError(f"{self._path} is no store (damaged), it is left alone: use another --store") from error

    def _goes_on(self) -> bool:
        """Ends what takes more steps than a file of this size can: damaged pages may lead to each other."""
        self._steps += 1
        size = sum(path.stat().st_size for path in (self._path, _log(self._path)) if path.exists())
        return self._steps * _STEPS > 10 * _STEPS + 20 * size


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _lacks_log(path: Path) -> bool:
    """Whether a file says that there is a log, and there is none."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
        log = _log(path)
        logged = header[18:20] == b"\2\2" and int.from_bytes(header[60:64]) >= _CLOSED
        return logged and not (log.exists() and log.stat().st_size)
    except OSError:
        return False


@cache
def _own_tables() -> Mapping[tuple[str, str], list[tuple[object, ...]]]:
    with sqlite3.connect(":memory:") as pattern:
        pattern.executescript(SCHEMA)
        found = _tables(pattern)
    pattern.close()
    return found


def _tables(connection: sqlite3.Connection) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    """Columns by what there is: name, type, whether it is generated, and its place in the key."""
    # SQLite's own are there for keys, and where somebody had it look at what is in the tables.
    there = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE NOT (type = 'index' AND name GLOB 'sqlite_autoindex_*') "
        "AND NOT (type = 'table' AND name GLOB 'sqlite_stat[0-9]')"
    ).fetchall()
    return {
        (kind if str(sql).startswith("CREATE TABLE") else str(sql), name): connection.execute(
            "SELECT name, type, hidden, pk FROM pragma_table_xinfo(?)", (name,)
        ).fetchall()
        for kind, name, sql in there
    }


def _sentence(path: Path, error: sqlite3.Error, timeout: float) -> str:
    reason = str(error)
    if "locked" in reason or "busy" in reason:
        return f"{path} is locked by another program for over {timeout:g} s: end that program, then run this again"
    if "not a database" in reason or "malformed" in reason:
        return f"{path} is no store ({reason}), it is left alone: use another --store"
    if "interrupted" in reason:
        return f"{path} is damaged, its pages lead to each other: use another --store, or a copy of it"
    if "full" in reason or "disk I/O" in reason:
        return f"cannot write {path} ({reason}): free space and run this again, what was written before is kept"
    if "readonly" in reason or "unable to open" in reason:
        return f"cannot open {path} for writing ({reason}): check the folder and its permissions"
    return f"{path} cannot be used ({reason})"
