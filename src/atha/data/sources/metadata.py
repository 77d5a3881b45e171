"""Labelled images from a folder with a table of them in it, as Hugging Face's image folders have it."""

from dataclasses import replace
from pathlib import Path

from atha.data import LabelledImages
from atha.data.finding import folders_in, kind_of
from atha.data.selection import Selection
from atha.data.sources.columns import has_labels
from atha.data.sources.json_lines import open_json_lines
from atha.data.sources.layout import Layout
from atha.data.sources.naming import plain_name
from atha.data.sources.rows import Records
from atha.data.sources.table import open_table
from atha.data.sources.tabular import read_records
from atha.errors import DataError

NAMES = ("metadata.jsonl", "metadata.csv")
"""Of such a table; it has a column `FILES` of paths in the folder."""

FILES = "file_name"


def read_metadata(root: Path, selection: Selection) -> LabelledImages:
    """Reads the images of a folder that its table lists.

    Args:
        root: The folder.
        selection: What is wanted of it.

    Returns:
        See `atha.data.sources.tabular.read_records`.

    Raises:
        DataError: The table cannot be read, or as of `read_records`.
    """
    records = _records(root)
    if records is None:  # it was there a moment ago
        raise DataError(f"'{root}' has no {' or '.join(NAMES)} any more; give the folder again")
    if selection.image_column is None:
        selection = replace(selection, image_column=next(name for name in records.header if plain_name(name) == FILES))
    return read_records(replace(records, inside=True), selection)


def _records(root: Path) -> Records | None:
    """The table of a folder; None if there is none of paths."""
    for name in NAMES:
        path = root / name
        if kind_of(path) != "file":
            continue
        records = open_json_lines(path) if path.suffix == ".jsonl" else open_table(path)
        if FILES in map(plain_name, records.header):
            return records
    return None


def _fits(source: str) -> bool:
    """Class folders beside a table without labels are class folders."""
    root = Path(source)
    if not any(kind_of(root / name) == "file" for name in NAMES):
        return False
    try:
        records = _records(root)
    except DataError:  # to be said when it is read
        return not folders_in(root)
    return records is not None and (has_labels(records.header) or not folders_in(root))


LAYOUT = Layout(
    "a folder of images with metadata.csv",
    _fits,
    lambda source, selection: read_metadata(Path(source), selection),
    has_columns=True,
)
