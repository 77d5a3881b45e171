"""The SQLite file of a store: its tables and its mark, opened, locked and written whole or not at all."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atha.errors import AthaError

#: In the file's header: says that it is a store ("atha"), and of which version.
APPLICATION_ID = 0x61746861
VERSION = 1
#: Seconds to wait for another process that is writing.
TIMEOUT = 60.0

_SCHEMA = """
CREATE TABLE experiments (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,       -- SHA-256 of the definition
    method TEXT NOT NULL,
    model TEXT NOT NULL,             -- as it was called; which weights it is, the definition says
    definition TEXT NOT NULL         -- JSON
);
CREATE TABLE episodes (
    sequence TEXT NOT NULL,          -- key of the episode set
    episode INTEGER NOT NULL,
    content TEXT NOT NULL,           -- JSON: classes, support, query
    PRIMARY KEY (sequence, episode)
) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    started REAL NOT NULL,           -- seconds since 1970, UTC
    environment TEXT NOT NULL        -- JSON: versions, device, command
);
CREATE TABLE results (
    experiment INTEGER NOT NULL REFERENCES experiments (id),
    episode INTEGER NOT NULL,
    hash TEXT NOT NULL,              -- of the episode's content
    accuracy REAL NOT NULL,
    brier REAL NOT NULL,
    calibration BLOB NOT NULL,       -- float64 (3, bins): count, confidence, correct
    classes BLOB NOT NULL,           -- int16 (way): indices into the data set's classes
    correct BLOB NOT NULL,           -- int16 (way): query images of each class that were classified right
    seconds REAL NOT NULL,           -- fit and predict
    memory INTEGER,                  -- peak bytes of the process, or of the device
    run INTEGER NOT NULL REFERENCES runs (id),
    PRIMARY KEY (experiment, episode)
) WITHOUT ROWID;
CREATE TABLE probabilities (
    experiment INTEGER NOT NULL,
    episode INTEGER NOT NULL,
    probabilities BLOB NOT NULL,     -- float32 (way * query, way), query images class by class, columns as classes
    PRIMARY KEY (experiment, episode)
);
"""


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
        self._path, self._timeout = path, timeout
        if path.is_dir():
            raise StoreError(f"{path} is a folder, a store is a file: give a name such as {path / 'results.db'}")
        if not create and not (path.is_file() and path.stat().st_size):
            raise StoreError(f"there is no store {path}, make one with atha bench run --store {path}")
        with self.errors():
            # A log beside the file needs a folder that can be written; what lies in an archive is only read.
            archived = not create and not os.access(path.resolve().parent, os.W_OK)
            place = f"{path.resolve().as_uri()}?mode=ro&immutable=1" if archived else path
            self.connection = sqlite3.connect(place, timeout=timeout, isolation_level=None, uri=archived)
            try:
                self._prepare(create)
            except BaseException:
                self.connection.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def _prepare(self, create: bool) -> None:
        if self._check() == APPLICATION_ID and not create:
            return  # readers leave the file as it is
        self._use_log()
        self.connection.execute("PRAGMA synchronous = FULL")
        with self.transaction():  # several may be making the same store
            if self._check() != APPLICATION_ID:
                for statement in _SCHEMA.split(";\n"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {VERSION}")
                self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

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
        return int(application)

    def _use_log(self) -> None:
        """Switch to the write-ahead log. SQLite does not wait for others that are just doing the same."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
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
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(_sentence(self._path, error, self._timeout)) from error


def _sentence(path: Path, error: sqlite3.Error, timeout: float) -> str:
    reason = str(error)
    if "locked" in reason or "busy" in reason:
        return f"{path} is locked by another program for over {timeout:g} s: end that program, then run this again"
    if "not a database" in reason or "malformed" in reason:
        return f"{path} is no store ({reason}), it is left alone: use another --store"
    if "full" in reason or "disk I/O" in reason:
        return f"cannot write {path} ({reason}): free space and run this again, what was written before is kept"
    if "readonly" in reason or "unable to open" in reason:
        return f"cannot open {path} for writing ({reason}): check the folder and its permissions"
    return f"{path} cannot be used ({reason})"
