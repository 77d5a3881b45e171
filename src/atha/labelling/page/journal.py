"""Labels on disk: a journal that is only appended to, and the table that is made of it.

Beside ``labels.csv`` there are ``labels.csv.journal``, a line of JSON for each press, and ``.labels.csv.lock``, held by
the process that writes. A press is in the journal, and on the disk, before anybody is told that it was taken. The table
follows: a row is appended, or where something was corrected all of it is replaced in one step. What a kill leaves of
either is mended from the journal; a table that somebody else wrote, or has changed, is not touched.
"""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from atha.documents.tables import to_csv
from atha.errors import AthaError, DataError
from atha.files import check_free, write_bytes
from atha.labelling.page.marks import Event, Mark, Marks

HEADER = ("path", "label", "chosen")
_FORMAT = 1
#: Bytes of a journal: of a million presses.
_LONGEST = 512 << 20


class Journal:
    """Labels of one table, which no other process writes meanwhile.

    Args:
        table: the table; it is made where there is none.
        classes: labels that there are in any case.
        seed: of all that is random; None: as it was, or 0.

    Attributes:
        table: with links resolved.
        marks: what the journal says.
        seed: of all that is random, as it was at first.
        trouble: why the table is not as the journal says; empty where it is.

    Raises:
        DataError: the table is of somebody else's making, was changed, or is being written; the journal is damaged; or
            the seed was another one.
    """

    def __init__(self, table: Path, classes: Sequence[str] = (), seed: int | None = None) -> None:
        if table.suffix.lower() != ".csv":
            raise DataError(f"--out is {table}, give a name that ends in .csv")
        check_free(table, overwrite=True, option="--out")
        self.table = table.resolve()
        self._file = self.table.with_name(f"{self.table.name}.journal")
        self.trouble = ""
        self._broken, self._foreign = "", False
        self._stamp: tuple[int, int, int] | None = None
        self._lock = FileLock(self.table.with_name(f".{self.table.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f"{table} is being labelled by another process: use its page, or end it first") from None
        try:
            self._open(classes, seed)
        except BaseException:
            self._unlock()
            raise

    def write(self, event: Event) -> None:
        """Put an event on the disk, and let it take effect.

        Raises:
            AthaError: it cannot be written; it has no effect then.
        """
        if self._broken:
            raise AthaError(self._broken)
        before = self.marks.of(event.path)
        self._append(event)
        self.marks.apply(event)
        labelled = before is not None and before.kind == "label"
        if labelled or event.kind == "label":
            self._follow(None if labelled else self.marks.of(event.path))

    def close(self) -> None:
        """Let others have the table."""
        if self._lock.is_locked:
            with suppress(OSError):
                os.close(self._opened)
            self._unlock()

    def _unlock(self) -> None:
        with suppress(OSError):  # Windows removes no file that is open
            Path(self._lock.lock_file).unlink()
        self._lock.release()

    def _open(self, classes: Sequence[str], seed: int | None) -> None:
        if not self._file.exists():
            if self.table.exists():
                raise DataError(
                    f"{self.table} is there and was not made by atha label: it is not touched, choose another --out"
                )
            head = {"atha labels": _FORMAT, "seed": seed or 0}
            write_bytes(self._file, _line(head))
        self.seed, events, self.marks, whole = _read(self._file)
        if seed not in (None, self.seed):
            raise DataError(f"{self.table} was begun with --seed {self.seed}: leave --seed out")
        self._check_table(events)
        self._opened = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(self._opened, whole)
        self._length = whole
        self._replace()  # first: what a kill left is only known of the last event
        for label in classes:
            if label not in self.marks.classes:
                self.write(self.marks.new_class(os.urandom(8).hex(), label))

    def _check_table(self, events: Sequence[Event]) -> None:
        """The table is as the journal says, or as it said at some time: a kill leaves it in the middle of the last
        event, and a full disk in the middle of an earlier one.

        Raises:
            DataError: it is not.
        """
        if not self.table.exists():
            return
        content = b"" if self.table.stat().st_size > _LONGEST else self.table.read_bytes()
        if content == _rendered(self.marks):
            return
        marks, labels, lines = Marks(), 0, content.count(b"\n") - 1
        for event in events:
            before = marks.of(event.path)
            old = _rendered(marks) if labels == lines else None
            marks.apply(event)
            labels += (event.kind == "label") - (before is not None and before.kind == "label")
            if old is not None and (
                content == old or (content.startswith(old) and _rendered(marks).startswith(content))
            ):
                return
        raise DataError(
            f"{self.table} was changed by another program since it was labelled, and is not touched: move it away, "
            f"and it is made again as {self._file.name} says, or choose another --out"
        )

    def _append(self, event: Event) -> None:
        line = _line(event.to_dict())
        try:
            written = 0
            while written < len(line):
                written += os.write(self._opened, line[written:])
            os.fsync(self._opened)
        except OSError as error:
            why = f"this was not saved ({error.strerror or error})"
            try:
                os.ftruncate(self._opened, self._length)
            except OSError:
                self._broken = f"nothing more can be saved in {self._file} ({error.strerror or error}): start again"
            raise AthaError(f"{why}: make room on the disk of {self._file}, and press again") from None
        self._length += len(line)

    def _follow(self, added: Mark | None) -> None:
        """Let the table say what the journal says.

        Args:
            added: a label that is the last row; None: something else has changed.
        """
        if not self.trouble and self._stamp != _stamp(self.table):
            self.trouble = (
                f"{self.table.name} was changed by another program and is not touched: labels are saved in "
                f"{self._file.name}; move the table away and start again, and it is made of that"
            )
            self._foreign = True
        if self._foreign:
            return
        if added is None or self.trouble:
            self._replace()
            return
        try:
            opened = os.open(self.table, os.O_WRONLY | os.O_APPEND)
            try:
                row = _rows([added])
                if os.write(opened, row) < len(row):
                    raise OSError("the disk is full")
                os.fsync(opened)
            finally:
                os.close(opened)
            self._stamp = _stamp(self.table)
        except OSError:
            self._replace()

    def _replace(self) -> None:
        try:
            content = _rendered(self.marks)
            if not self.table.exists() or self.table.read_bytes() != content:
                write_bytes(self.table, content, overwrite=True)
            self.trouble = ""
        except (AthaError, OSError) as error:
            self.trouble = (
                f"{self.table.name} could not be written ({error}): labels are saved in {self._file.name}, and are "
                "written here with the next one"
            )
        self._stamp = _stamp(self.table)


def _read(file: Path) -> tuple[int, list[Event], Marks, int]:
    """The seed, all events and what they say, and bytes that are whole.

    Raises:
        DataError: it is no journal, or is damaged before its last line.
    """
    if file.stat().st_size > _LONGEST:
        raise DataError(f"{file} has more than {_LONGEST:,} bytes: choose another --out")
    content = file.read_bytes()
    lines = content.split(b"\n")
    events: list[Event] = []
    marks, whole = Marks(), 0
    seed = -1
    for number, line in enumerate(lines[:-1]):
        try:
            found = json.loads(line)
            if number == 0:
                if set(found) != {"atha labels", "seed"} or found["atha labels"] != _FORMAT:
                    raise ValueError("this is no head")
                seed = int(found["seed"])
            else:
                event = Event.of(found)
                marks.apply(event)
                events.append(event)
        except (ValueError, TypeError, RecursionError):
            if seed >= 0 and number == len(lines) - 2:
                break  # what a loss of power leaves of a line that nobody was told of
            raise DataError(
                f"{file} is damaged in line {number + 1}: choose another --out, or put a copy of it there"
            ) from None
        whole += len(line) + 1
    if seed < 0:
        raise DataError(f"{file} is no journal of atha label: choose another --out")
    return seed, events, marks, whole


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode("ascii") + b"\n"


def _rendered(marks: Marks) -> bytes:
    return to_csv(HEADER, []).encode() + _rows(marks)


def _rows(marks: Iterable[Mark]) -> bytes:
    rows = [[mark.path, mark.label, mark.how] for mark in marks if mark.kind == "label"]
    return to_csv(HEADER, rows).partition("\n")[2].encode()


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
