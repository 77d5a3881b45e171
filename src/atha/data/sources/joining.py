"""Paths in two columns of a table, one of folders and one of names, as one."""

from collections.abc import Iterator
from dataclasses import replace

from atha.data.selection import Selection
from atha.data.sources.columns import image_column, label_columns
from atha.data.sources.locating import Files
from atha.data.sources.rows import Records, Row
from atha.errors import DataError

# Rows that are looked at, all of which must be found so.
_LOOKED_AT = 20


def with_folders(records: Records, selection: Selection, files: Files) -> tuple[Records, tuple[str, ...]]:
    """A table whose column of images holds whole paths, where folders are in a column of their own.

    So it is read where images are not found by that column alone, and all are found with another one before or behind
    it, such as ``dir`` and ``filename``, or the label itself.

    Args:
        records: the table.
        selection: where it has what.
        files: where its images are.

    Returns:
        The table, and a sentence on the columns that were joined.

    Raises:
        DataError: there is no column of images, or several could be meant.
    """
    image, _ = image_column(records, selection, files)
    rows = [row for _, row in records.first[:_LOOKED_AT]]
    if not rows or all(_is_there(files, _at(row, image)) for row in rows):
        return records, ()
    for other in range(len(records.header)):
        for folder, name in ((other, image), (image, other)):
            if other != image and all(_is_there(files, _joined(row, folder, name)) for row in rows):
                return _view(records, selection, image, folder, name)
    return records, ()


def _view(
    records: Records, selection: Selection, image: int, folder: int, name: int
) -> tuple[Records, tuple[str, ...]]:
    def whole(row: list[str]) -> list[str]:
        return [_joined(row, folder, name) if index == image else value for index, value in enumerate(row)]

    def rows() -> Iterator[Row]:
        return ((number, whole(row)) for number, row in records.rows())

    header = list(records.header)
    note = f"the paths of images are made of columns '{header[folder]}' and '{header[name]}'"
    other = folder if name == image else name
    if other not in label_columns(records, selection):
        header[other] = ""  # it says no more
    first = tuple((number, whole(row)) for number, row in records.first)
    return replace(records, header=tuple(header), rows=rows, first=first), (note,)


def _at(row: list[str], index: int) -> str:
    return row[index] if index < len(row) else ""


def _joined(row: list[str], folder: int, name: int) -> str:
    parts = _at(row, folder).rstrip("/\\"), _at(row, name)
    return "/".join(parts) if all(parts) else ""


def _is_there(files: Files, value: str) -> bool:
    try:
        return bool(value) and files.find(value) is not None
    except DataError:
        return False
