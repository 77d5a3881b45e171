"""Rows of tables, read as they are wanted: of CSV and its relatives in the encodings that spreadsheets write."""

import codecs
import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

from atha.documents.escaping import from_csv
from atha.errors import DataError
from atha.texts import TextError, read_bytes

Row = tuple[int, list[str]]
"""A row's number, as a spreadsheet counts, and its values."""

DELIMITERS = (",", ";", "\t", "|")

# Bytes of a table, and of what is looked at of it at once.
_MOST, _CHUNK = 1 << 28, 1 << 20
_MOST_COLUMNS = 10_000
# A longer text of a table of many types, such as a description, is left out.
_LONGEST_VALUE = 4096
# Bytes of a line. Those of tables are short, and a line is in memory as a whole.
_LONGEST = 1 << 23
_SAVE = "save the table as 'CSV UTF-8'"
# What Excel writes, and reads, before the header.
_SEPARATOR = re.compile(r'\ufeff?"?sep=(.)"?\s*', re.IGNORECASE)


LOOKED_AT = 200
"""So many rows are looked at to tell what is in which column."""


@dataclass(frozen=True)
class Records:
    """A table, wherever it is from.

    Attributes:
        path: its file, for messages.
        base: what its paths are relative to.
        header: the names of its columns; numbers from 1, where it has no header.
        rows: gives its rows, each time from the first; none is longer than the header.
        first: the first of them, to tell what is in which column.
        named: whether it has a header.
        inside: whether it came with its images, so that its paths may not lead elsewhere.
    """

    path: Path
    base: Path
    header: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]
    first: tuple[Row, ...]
    named: bool = True
    inside: bool = False


@dataclass(frozen=True)
class TextFile:
    """A text that can be read line by line.

    Attributes:
        path: its file.
        content: of the file.
        encoding: of the text.
        delimiter: what stands between values, where the file itself says so; else empty.
    """

    path: Path
    content: bytes = field(repr=False)
    encoding: str
    delimiter: str = ""

    @classmethod
    def open(cls, path: Path) -> "TextFile":
        """Looks whether a file is text: UTF-8, or UTF-16 with a byte order mark.

        Raises:
            DataError: it cannot be read, is empty, or is not such text.
        """
        try:
            content = read_bytes(path, _MOST)
        except TextError as error:
            raise DataError(f"{path}: the table {error}; {error.mend}") from error
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        _check(path, content, "utf-16" if marked else "utf-8")
        table = cls(path, content, "utf-16" if marked else "utf-8-sig")
        with table.lines() as text:
            said = _SEPARATOR.fullmatch(text.readline())
        return replace(table, delimiter=said[1]) if said else table

    def rows(self, delimiter: str) -> Iterator[Row]:
        """The rows that hold anything, numbered as a spreadsheet does; spaces around values dropped.

        What `atha.documents.escaping.csv` made of a name is the name again.

        Raises:
            DataError: it is not valid CSV.
        """
        with self.lines() as text:
            if self.delimiter:
                text.readline()
            # Strict, because otherwise a quote that is never closed swallows the rest of the table without a word.
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            try:
                for number, row in enumerate(reader, start=1):
                    values = [from_csv(value.strip()) for value in row]
                    if any(values):
                        yield number, values
            except csv.Error as error:
                raise DataError(
                    f"{self.path}: line {reader.line_num} is not valid CSV ({error}); check its quotes"
                ) from error

    def first(self, delimiter: str, count: int) -> list[Row]:
        """So many rows, as far as they are valid CSV."""
        found: list[Row] = []
        try:
            # Appended one by one: those before what is wrong are wanted.
            for row in islice(self.rows(delimiter), count):
                found.append(row)  # noqa: PERF402
        except DataError:
            pass
        return found

    def lines(self) -> TextIOWrapper:
        """The text from its beginning."""
        # Decoded as it is read: all of it as text would take four times the memory.
        return TextIOWrapper(BytesIO(self.content), self.encoding, newline="")


def check_width(path: Path, header: Sequence[str]) -> None:
    """See that a table has no more columns than can be looked at.

    Raises:
        DataError: it has more.
    """
    if len(header) > _MOST_COLUMNS:
        raise DataError(f"{path}: has {len(header):,} columns, and the most is {_MOST_COLUMNS:,}; give fewer")


def as_text(value: Any) -> str:
    """A value of a table of many types, as a table of text has it; nothing of what is no label and no path."""
    if value is None or isinstance(value, dict | list | bytes) or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).strip()
    return text if len(text) <= _LONGEST_VALUE else ""


def read_rows(path: Path, delimiter: str = ",") -> list[Row]:
    """Reads a table as it is.

    Args:
        path: The table, lines ended in any way.
        delimiter: What stands between values.

    Returns:
        The rows that hold anything, the header first, numbered as a spreadsheet does; spaces around values dropped.

    Raises:
        DataError: The table cannot be read, is empty or is not valid CSV.
    """
    return list(TextFile.open(path).rows(delimiter))


def _check(path: Path, content: bytes, encoding: str) -> None:
    """See that all of it is text that can be read line by line."""
    decoder = codecs.getincrementaldecoder(encoding)()
    length = 0
    empty = True
    for start in range(0, len(content) + 1, _CHUNK):
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(content[start : start + _CHUNK], final=start + _CHUNK > len(content))
        except UnicodeDecodeError as error:
            place = start - waiting + error.start
            raise DataError(f"{path}: not {encoding.upper()} text (at byte {place}); {_SAVE}") from error
        if "\0" in text:
            raise DataError(f"{path}: holds NUL bytes, so it is not {encoding.upper()} text; {_SAVE}")
        empty = empty and not text.strip("\ufeff \t\r\n\v\f")
        end = max(text.rfind("\n"), text.rfind("\r"))
        length = length + len(text) if end < 0 else len(text) - end
        if length > _LONGEST:
            raise DataError(f"{path}: has a line of more than {_LONGEST:,} characters, so it is no table; give another")
    if empty:
        raise DataError(f"{path}: the table is empty; give a header such as 'path,label' and one row per image")
