"""Labelled images from a table of paths and labels."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atha.data import LabelledImages, Sample
from atha.data.finding import kind_of
from atha.data.sources.layout import Layout
from atha.errors import DataError
from atha.texts import LISTS, TextError, read_bytes

IMAGE_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "filepath")
"""Names of the column of paths, in any case; an earlier one wins."""

LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "diagnosis")
"""Names of the column of labels, in any case; an earlier one wins."""

GROUP_COLUMNS = ("group", "patient", "patient_id", "lesion", "lesion_id")
"""Names of the column that says what an image is of, in any case; an earlier one wins."""

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class _Columns:
    """Where the two columns are, and what else could have been meant."""

    header: list[str]
    image: int
    label: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class GroupedTable:
    """A table's images, and what each is of.

    Attributes:
        images: the images, as `read_table` gives them.
        groups: the group of each image; None if the table has no such column.
        kind: ``patient``, ``lesion`` or ``group``, by the column's name; empty without one.
    """

    images: LabelledImages
    groups: tuple[str, ...] | None = None
    kind: str = ""


def read_rows(path: Path, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Reads a table as it is.

    Args:
        path: The table, UTF-8 text with or without a byte order mark, lines ended in any way.
        delimiter: What stands between values.

    Returns:
        The rows that hold anything, the header first, numbered as a spreadsheet does; spaces around values dropped.

    Raises:
        DataError: The table cannot be read, is empty or is not valid CSV.
    """
    return _rows(path, _read_text(path), delimiter)


def read_grouped_table(path: Path) -> GroupedTable:
    """Reads a table as `read_table` does, and its column of groups if it has one.

    Args:
        path: The table.

    Returns:
        The images with their groups.

    Raises:
        DataError: As for `read_table`, or a row of an image has no group.
    """
    text = _read_text(path)
    delimiter, columns = _find_columns(path, text)
    matching = _matching(columns.header, GROUP_COLUMNS)
    images, rows = _samples(path, _rows(path, text, delimiter)[1:], columns, delimiter)
    if not matching:
        return GroupedTable(images)
    name = columns.header[matching[0]]
    groups: list[str] = []
    for number, row in rows:
        group = row[matching[0]] if matching[0] < len(row) else ""
        if not group:
            raise DataError(
                f"{path}: row {number} has no value in column '{name}'; fill it, or rename the column if it says "
                "nothing of what an image is of"
            )
        groups.append(group)
    notes = _other_columns("group", columns.header, matching)
    kind = name.casefold().removesuffix("_id")
    return GroupedTable(replace(images, ignored=images.ignored + notes), tuple(groups), kind)


def read_table(path: Path) -> LabelledImages:
    """Reads a CSV or TSV table with a header, a column of image paths and a column of labels.

    The text is UTF-8; the delimiter (comma, semicolon or tab) is found from the header. Paths are relative to the
    table's folder. Spaces around values are dropped and blank lines passed over.

    Args:
        path: The table.

    Returns:
        The images in the order of the rows. Rows given twice, and columns that could have been meant too, are in
        ``ignored``.

    Raises:
        DataError: The table cannot be read or is empty, a column or a value is missing, or an image has two labels.
    """
    text = _read_text(path)
    delimiter, columns = _find_columns(path, text)
    return _samples(path, _rows(path, text, delimiter)[1:], columns, delimiter)[0]


def _samples(
    path: Path, rows: list[tuple[int, list[str]]], columns: _Columns, delimiter: str
) -> tuple[LabelledImages, list[tuple[int, list[str]]]]:
    """The images of the rows, each once, and the row of each."""
    samples: dict[str, Sample] = {}
    used: list[tuple[int, list[str]]] = []
    repeated: list[int] = []
    for number, row in rows:
        image, label = _values(path, number, row, columns, delimiter)
        sample = Sample(path.parent / image, label)
        # "a.jpg" and "./a.jpg" are one image.
        key = os.path.normpath(image)
        known = samples.setdefault(key, sample)
        if known.label != label:
            raise DataError(
                f"{path}: row {number} gives '{image}' the label '{label}', and an earlier row the label "
                f"'{known.label}'; keep one of the two"
            )
        if known is not sample:
            repeated.append(number)
        else:
            used.append((number, row))
    if not samples:
        raise DataError(f"{path}: the table has a header but no rows; add one row per image")
    return LabelledImages(tuple(samples.values()), str(path), columns.notes + _repetition(repeated)), used


def _read_text(path: Path) -> str:
    try:
        content = read_bytes(path, LISTS)
    except TextError as error:
        raise DataError(f"{path}: the table {error}; {error.mend}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (at byte {error.start}); save the table as 'CSV UTF-8'") from error
    if "\0" in text:
        raise DataError(f"{path}: holds NUL bytes, so it is not UTF-8 text; save the table as 'CSV UTF-8'")
    if not text.strip():
        raise DataError(f"{path}: the table is empty; give a header such as 'path,label' and one row per image")
    return text


def _rows(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The rows that hold anything, the header first, numbered as a spreadsheet does."""
    # Strict, because otherwise a quote that is never closed swallows the rest of the table without a word.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [[value.strip() for value in row] for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num} is not valid CSV ({error}); check its quotes") from error
    return [(number, row) for number, row in enumerate(rows, start=1) if any(row)]


def _find_columns(path: Path, text: str) -> tuple[str, _Columns]:
    """The delimiter under which the header has the needed columns, and where they are."""
    headers: list[list[str]] = []
    for delimiter in _DELIMITERS:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            header = next([name.strip() for name in row] for row in rows if "".join(row).strip())
        except (csv.Error, StopIteration):
            continue
        images, labels = _matching(header, IMAGE_COLUMNS), _matching(header, LABEL_COLUMNS)
        if images and labels:
            notes = _other_columns("image", header, images) + _other_columns("label", header, labels)
            return delimiter, _Columns(header, images[0], labels[0], notes)
        headers.append(header)
    if not headers:
        raise DataError(f"{path}: the header is not valid CSV; give one such as 'path,label'")
    found = max(headers, key=len)
    missing = [
        f"no {kind} column (one of {', '.join(names)})"
        for kind, names in (("image", IMAGE_COLUMNS), ("label", LABEL_COLUMNS))
        if not _matching(found, names)
    ]
    columns = ", ".join(f"'{name}'" for name in found)
    raise DataError(f"{path}: the header has {' and '.join(missing)}, only {columns}; rename or add the column")


def _matching(header: list[str], names: Sequence[str]) -> list[int]:
    """Positions of the columns that have one of the names, in the order of the names."""
    return [index for name in names for index, column in enumerate(header) if column.casefold() == name]


def _other_columns(kind: str, header: list[str], matching: list[int]) -> tuple[str, ...]:
    if len(matching) == 1:
        return ()
    used, *others = (header[index] for index in matching)
    listed = ", ".join(f"'{name}'" for name in others)
    return (f"the {kind} is read from column '{used}'; {listed} could have been meant too and is not used",)


def _values(path: Path, number: int, row: list[str], columns: _Columns, delimiter: str) -> tuple[str, str]:
    """The path and the label of a row."""
    header = columns.header
    if len(row) > len(header) and any(row[len(header) :]):
        raise DataError(
            f"{path}: row {number} has {len(row)} values and the header has {len(header)} columns; "
            f"put values that hold a {delimiter!r} in double quotes"
        )
    image, label = (row[index] if index < len(row) else "" for index in (columns.image, columns.label))
    for value, index in ((image, columns.image), (label, columns.label)):
        if not value:
            raise DataError(f"{path}: row {number} has no value in column '{header[index]}'; fill it or delete the row")
    return image, label


def _repetition(numbers: list[int], limit: int = 5) -> tuple[str, ...]:
    if not numbers:
        return ()
    listed = ", ".join([str(number) for number in numbers[:limit]] + ["..."] * (len(numbers) > limit))
    if len(numbers) == 1:
        return (f"1 row repeats an earlier one and is not used: row {listed}",)
    return (f"{len(numbers)} rows repeat earlier ones and are not used: rows {listed}",)


LAYOUT = Layout(
    "a .csv or .tsv table",
    lambda source: kind_of(Path(source)) == "file" and Path(source).suffix.lower() in (".csv", ".tsv"),
    lambda source: read_table(Path(source)),
)
