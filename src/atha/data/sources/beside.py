"""Tables beside folders of images: whether they, and not the folders, say the classes."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from atha.data.finding import some_of
from atha.data.selection import Selection
from atha.data.sources import json_lines, table
from atha.data.sources.columns import find_columns, has_labels
from atha.data.sources.locating import Files
from atha.data.sources.naming import plain_name
from atha.data.sources.one_hot import class_of
from atha.errors import DataError

_OPENERS = {
    **dict.fromkeys(table.SUFFIXES, table.open_table),
    **dict.fromkeys(json_lines.SUFFIXES, json_lines.open_json_lines),
}
_MOST = 3


def tables_among(files: Sequence[Path]) -> list[Path]:
    """Those of some files that are tables, by their endings."""
    return [file for file in files if file.suffix.lower() in _OPENERS]


def doubt(root: Path, beside: Sequence[Path]) -> str:
    """Why folders may be no classes, where a table beside them gives images of one folder several labels.

    Args:
        root: the folder of the folders.
        beside: the files in it.

    Returns:
        A sentence; empty where no table does.
    """
    for path in tables_among(beside)[:_MOST]:
        try:
            folders = _labels_by_folder(root, path)
        except DataError:  # nobody asked for it
            continue
        name, labels = max(folders.items(), key=lambda item: len(item[1]), default=("", set()))
        if len(labels) > 1:
            command = f"atha fit {shlex.quote(str(path))} --images {shlex.quote(str(root))}"
            return (
                f"'{path}' gives images in '{root / name}' several labels ({some_of(sorted(labels))}), so the folders "
                f"are no classes: give the table, as {command}"
            )
    return ""


def _labels_by_folder(root: Path, path: Path) -> dict[str, set[str]]:
    """The labels that the first rows of a table give to images in each folder."""
    records = _OPENERS[path.suffix.lower()](path)
    files = Files.below(root, [value for _, row in records.first for value in row if value])
    columns = find_columns(records, Selection(), files)
    if len(columns.labels) == 1 and not has_labels(records.header):
        return {}
    if "probability" in map(plain_name, records.header):  # what a model says, as atha predict --csv writes it
        return {}
    found: dict[str, set[str]] = {}
    for number, row in records.first:
        if max(columns.image, *columns.labels) >= len(row):
            continue
        several = len(columns.labels) > 1
        label = class_of(records, columns.labels, number, row) if several else row[columns.labels[0]]
        image = files.find(row[columns.image]) if row[columns.image] else None
        if label and image is not None and image.is_relative_to(root):
            inner = image.relative_to(root).parts
            if len(inner) > 1:
                found.setdefault(inner[0], set()).add(label)
    return found
