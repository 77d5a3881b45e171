"""Labelled images from a text table of paths and labels: CSV, TSV and their relatives."""

from collections.abc import Iterator
from pathlib import Path

from atha.data import LabelledImages
from atha.data.selection import Selection
from atha.data.sources.columns import IMAGE_COLUMNS, LABEL_COLUMNS, knows, names_image
from atha.data.sources.layout import Layout, is_file
from atha.data.sources.naming import matching
from atha.data.sources.rows import DELIMITERS, LOOKED_AT, Records, Row, TextFile, check_width
from atha.data.sources.tabular import files_of, read_records
from atha.errors import DataError

SUFFIXES = (".csv", ".tsv")


def read_table(path: Path, selection: Selection = Selection()) -> LabelledImages:  # noqa: B008 - frozen
    """Reads a table of text with a column of images and one of labels.

    The text is UTF-8, or UTF-16 with a byte order mark; the delimiter (comma, semicolon, tab or bar) is found from the
    first rows. Without a header, the first row is itself an image and a label. Paths are relative to the table's
    folder. Spaces around values are dropped and blank lines passed over.

    Args:
        path: The table.
        selection: What is wanted of it.

    Returns:
        See `atha.data.sources.tabular.read_records`.

    Raises:
        DataError: The table cannot be read or is empty, or as of `read_records`.
    """
    return read_records(open_table(path, selection), selection)


def open_table(path: Path, selection: Selection = Selection()) -> Records:  # noqa: B008 - frozen
    """Looks at the first rows of a table to tell how it is written.

    Args:
        path: The table.
        selection: What is wanted of it.

    Raises:
        DataError: The table cannot be read, is empty or is not valid CSV.
    """
    text = TextFile.open(path)
    delimiter, first = _delimiter(text)
    _, header = first[0]
    check_width(path, header)
    start = 1
    if _has_no_header(path.parent, header, selection):
        header, start = [str(number) for number in range(1, len(header) + 1)], 0

    def rows() -> Iterator[Row]:
        for place, (number, row) in enumerate(text.rows(delimiter)):
            if len(row) > len(header) and any(row[len(header) :]):
                raise DataError(
                    f"{path}: row {number} has {len(row)} values and the {'header' if start else 'first row'} has "
                    f"{len(header)} columns; put values that hold a {delimiter!r} in double quotes"
                )
            if place >= start:
                yield number, row

    return Records(path, path.parent, tuple(header), rows, tuple(first[start:]), bool(start))


def _delimiter(text: TextFile) -> tuple[str, list[Row]]:
    """What stands between values, and the first rows: known columns tell, or else that rows are of one length."""
    found: list[tuple[tuple[bool, int], str, list[Row]]] = []
    for delimiter in [text.delimiter] if text.delimiter else DELIMITERS:
        rows = text.first(delimiter, LOOKED_AT)
        if not rows:
            continue
        header = rows[0][1]
        if text.delimiter or (matching(header, IMAGE_COLUMNS) and matching(header, LABEL_COLUMNS)):
            return delimiter, rows
        same = all(len(row) == len(header) for _, row in rows)
        found.append(((same and len(header) > 1, len(header)), delimiter, rows))
    if not found:
        raise DataError(f"{text.path}: the header is not valid CSV; give one such as 'path,label'")
    _, delimiter, rows = max(found, key=lambda one: one[0])
    return delimiter, rows


def _has_no_header(folder: Path, first: list[str], selection: Selection) -> bool:
    """Whether the first row is itself an image and a label."""
    if any(names_image(value) for value in first):
        return True
    if knows(first) or matching(first, LABEL_COLUMNS) or {selection.image_column, selection.label_column} & {*first}:
        return False
    files = files_of(folder, selection, first)
    return any(files.has(value) for value in first if value)


LAYOUT = Layout(
    "a .csv or .tsv table",
    lambda source: is_file(source, SUFFIXES),
    lambda source, selection: read_table(Path(source), selection),
    has_columns=True,
)
