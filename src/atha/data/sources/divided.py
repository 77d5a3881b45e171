"""Which part of the data each image of a table is of, where a column says so."""

import os
from pathlib import Path

from atha.data import LabelledSource, Selection
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
    if not isinstance(source, str | Path) or Path(source).suffix.lower() not in SUFFIXES:
        return {}
    records = open_table(Path(source), selection)
    records, files, columns = locate(records, selection)
    if not columns.parts:
        return {}
    found = {}
    for _, row in records.rows():
        if max(columns.image, columns.parts[0]) < len(row) and (path := files.find(row[columns.image])) is not None:
            found[os.path.abspath(path)] = row[columns.parts[0]]  # noqa: PTH100 - a Path for each costs
    return found
