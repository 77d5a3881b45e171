"""What a table says of images beside their labels: parts, such as train and test, and whatever other columns hold."""

import os
from collections.abc import Iterator
from pathlib import Path

from atha.data import LabelledSource
from atha.data.selection import Selection
from atha.data.sources.columns import Columns
from atha.data.sources.table import SUFFIXES, open_table
from atha.data.sources.tabular import locate


def parts_of(source: LabelledSource, selection: Selection) -> dict[str, str]:
    """The part of each image, by absolute path; none of what is no table of text or has no column of parts.

    Args:
        source: of labelled images.
        selection: where a table has what.

    Raises:
        DataError: the table cannot be read.
    """
    _, columns, rows = _opened(source, selection)
    return {path: row[columns.parts[0]] for path, row in rows} if columns is not None and columns.parts else {}


def others_of(source: LabelledSource, selection: Selection) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Names of a table's columns that say neither image, label nor part, and their values, by absolute path.

    Args:
        source: of labelled images; of what is no table of text there are none.
        selection: where a table has what.

    Raises:
        DataError: the table cannot be read.
    """
    header, columns, rows = _opened(source, selection)
    if columns is None:
        return (), {}
    told = {columns.image, *columns.labels, *columns.parts[:1]}
    places = [place for place in range(len(header)) if place not in told]
    return tuple(header[place] for place in places), {path: tuple(row[place] for place in places) for path, row in rows}


def _opened(
    source: LabelledSource, selection: Selection
) -> tuple[tuple[str, ...], Columns | None, Iterator[tuple[str, list[str]]]]:
    """The header, which columns say what, and rows of images that are there, as wide, by absolute path."""
    if not isinstance(source, str | Path) or Path(source).suffix.lower() not in SUFFIXES:
        return (), None, iter(())
    records, files, columns = locate(open_table(Path(source), selection), selection)

    def rows() -> Iterator[tuple[str, list[str]]]:
        for _, row in records.rows():
            whole = [*row, *[""] * (len(records.header) - len(row))]
            if (path := files.find(whole[columns.image])) is not None:
                yield os.path.abspath(path), whole  # noqa: PTH100 - a Path for each costs

    return records.header, columns, rows()
