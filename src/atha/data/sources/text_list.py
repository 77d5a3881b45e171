"""Labelled images from a list: a text with a path and a label on each line, as Caffe's and ImageNet's lists are."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from atha.data import LabelledImages
from atha.data.finding import IMAGE_SUFFIXES
from atha.data.selection import Selection
from atha.data.sources.columns import has_labels, knows, names_image
from atha.data.sources.layout import Layout, is_file
from atha.data.sources.locating import Files
from atha.data.sources.rows import DELIMITERS, LOOKED_AT, Records, Row, TextFile
from atha.data.sources.table import open_table
from atha.data.sources.tabular import files_of, read_records
from atha.errors import DataError

SUFFIXES = (".txt",)

_QUOTES = "\"'"
_ENDING = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES, key=len, reverse=True))
# As much as ends in the ending of an image, and what stands behind it.
_PATH_AND_MORE = re.compile(rf"(.+(?:{_ENDING})[{_QUOTES}]?)\s+(.+)", re.IGNORECASE)


def read_list(path: Path, selection: Selection) -> LabelledImages:
    """Reads a list of paths and labels, with spaces, a tab, a comma or the like between them.

    Args:
        path: The list, UTF-8 or UTF-16 text. Its paths are relative to its folder or else to the working directory.
        selection: What is wanted of it.

    Returns:
        See `atha.data.sources.tabular.read_records`.

    Raises:
        DataError: The list cannot be read or is empty, or as of `read_records`.
    """
    records = open_list(path, selection)
    if len(records.header) == 1 and selection.use != "predict":
        raise DataError(
            f"{path}: holds paths and no labels; write the label behind each path, such as "
            f"'{records.first[0][1][0][:80]} cat', or give class folders"
        )
    return read_records(records, selection)


def open_list(path: Path, selection: Selection) -> Records:
    """Looks at the first lines of a list to tell how it is written.

    Args:
        path: The list.
        selection: What is wanted of it.

    Raises:
        DataError: The list cannot be read, is empty, or names no image.
    """
    text = TextFile.open(path)
    if text.delimiter or any(_divides(text, delimiter) for delimiter in DELIMITERS):
        records = open_table(path, selection)
    else:
        records = _of_words(text, selection)
    if selection.images is not None:
        return records
    values = [value for _, row in records.first for value in row]
    if any(map(Files(path.parent).has, values)):
        return records
    # Where a list says nothing of a folder, its paths may be those that a program was given, as darknet's are.
    if any(map(Files(Path()).has, values)):
        return replace(records, base=Path())
    if not any(map(names_image, values)):
        raise DataError(
            f"{path}: no line names an image; give a list with a path and a label on each line, such as 'a.jpg cat', "
            "and, where paths have no ending, the folder that they are relative to with --images DIR"
        )
    return records


def _divides(text: TextFile, delimiter: str) -> bool:
    """Whether a delimiter stands in every line, and as often."""
    rows = text.first(delimiter, LOOKED_AT)
    return bool(rows) and len(rows[0][1]) > 1 and len({len(row) for _, row in rows}) == 1


@dataclass(frozen=True)
class _Lines:
    """How the lines of a list are read.

    Attributes:
        text: the list.
        words: how many columns of words there are; 0 where a line is a path and what stands behind it.
        places: where its images may be.
    """

    text: TextFile
    words: int
    places: tuple[Files, ...]

    @classmethod
    def of(cls, text: TextFile, selection: Selection) -> "_Lines":
        """Tells whether the words of the first lines are columns: of three and more, or of a path behind its label."""
        first = [line.split() for _, line in islice(_lines(text), LOOKED_AT)]
        words = [word for row in first for word in row]
        bases = (text.path.parent, Path()) if selection.images is None else (text.path.parent,)
        found = cls(text, 0, tuple(files_of(base, selection, words) for base in bases))
        one = first[0]
        columns = len({len(row) for row in first}) == 1 and len(one) > 1 and not found.is_there(" ".join(one))
        behind = len(one) == 2 and found.is_image(one[1]) and not found.is_image(one[0])
        if columns and (behind or (len(one) > 2 and any(map(found.is_image, one)))):
            return replace(found, words=len(one))
        return found

    def is_image(self, value: str) -> bool:
        """Whether a value is the name of an image by its ending, or because there is one."""
        return names_image(value.strip(_QUOTES)) or self.is_there(value)

    def is_there(self, value: str) -> bool:
        """Whether a value is the name of a file."""
        return any(files.has(value.strip(_QUOTES)) for files in self.places)

    def rows(self) -> Iterator[Row]:
        """The lines, divided.

        Raises:
            DataError: a line has another number of words.
        """
        for number, line in _lines(self.text):
            row = line.split() if self.words else self._divided(line)
            if self.words and len(row) != self.words:
                raise DataError(
                    f"{self.text.path}: line {number} has {len(row)} words and the first line has {self.words}; put a "
                    "tab or a comma between path and label"
                )
            yield number, [value.strip(_QUOTES) for value in row]

    def _divided(self, line: str) -> list[str]:
        """The path on a line, and what stands behind it, if anything does."""
        if self.is_there(line):
            return [line]
        if found := _PATH_AND_MORE.fullmatch(line):
            return [found[1], found[2]]
        return [line] if self.is_image(line) else line.split(maxsplit=1)


def _lines(text: TextFile) -> Iterator[tuple[int, str]]:
    """Lines that hold anything but a remark."""
    with text.lines() as lines:
        for number, line in enumerate(lines, start=1):
            if (stripped := line.strip()) and (not stripped.startswith("#") or _PATH_AND_MORE.match(stripped)):
                yield number, stripped


def _of_words(text: TextFile, selection: Selection) -> Records:
    """A list with nothing but spaces between what it holds."""
    lines = _Lines.of(text, selection)
    first = tuple(islice(lines.rows(), LOOKED_AT))
    header, start = _header(lines, [row for _, row in first])
    return Records(
        text.path,
        text.path.parent,
        header,
        lambda: islice(lines.rows(), start, None),
        first[start:],
        named=not lines.words or start > 0,
    )


def _header(lines: _Lines, rows: Sequence[list[str]]) -> tuple[tuple[str, ...], int]:
    """Names of the columns, and how many lines they take."""
    first, width = rows[0], max(map(len, rows))
    if len(first) == width > 1 and knows(first) and has_labels(first) and not any(map(lines.is_image, first)):
        return tuple(first), 1
    if lines.words:
        return tuple(str(number) for number in range(1, width + 1)), 0
    return ("path", "label")[:width], 0


LAYOUT = Layout(
    "a .txt list",
    lambda source: is_file(source, SUFFIXES),
    lambda source, selection: read_list(Path(source), selection),
    has_columns=True,
)
