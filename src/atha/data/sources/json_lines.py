"""Labelled images from JSON Lines: an object of column and value on each line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from atha.data import LabelledImages
from atha.data.selection import Selection
from atha.data.sources.layout import Layout, is_file
from atha.data.sources.rows import LOOKED_AT, Records, Row, TextFile, as_text
from atha.data.sources.tabular import read_records
from atha.errors import DataError
from atha.texts import TextError, json_table

SUFFIXES = (".jsonl", ".ndjson")


def read_json_lines(path: Path, selection: Selection) -> LabelledImages:
    """Reads JSON Lines as a table, whose columns are the keys of its first lines.

    Args:
        path: The file, UTF-8 text.
        selection: What is wanted of it.

    Returns:
        See `atha.data.sources.tabular.read_records`.

    Raises:
        DataError: The file cannot be read, a line is no JSON object, or as of `read_records`.
    """
    return read_records(open_json_lines(path), selection)


def open_json_lines(path: Path) -> Records:
    """Looks at the first lines of a file to tell its columns.

    Args:
        path: The file.

    Raises:
        DataError: The file cannot be read, or a line that is looked at is no JSON object.
    """
    text = TextFile.open(path)

    def objects() -> Iterator[tuple[int, dict[str, Any]]]:
        with text.lines() as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield number, json_table(line)
                    except TextError as error:
                        raise DataError(f"{path}: line {number} {error}; {error.mend}") from error

    header: dict[str, None] = {}
    first: list[tuple[int, dict[str, Any]]] = []
    for _, one in zip(range(LOOKED_AT), objects(), strict=False):
        first.append(one)
        header |= dict.fromkeys(one[1])

    def row(values: dict[str, Any]) -> list[str]:
        return [as_text(values.get(column)) for column in header]

    def rows() -> Iterator[Row]:
        return ((number, row(values)) for number, values in objects())

    return Records(path, path.parent, tuple(header), rows, tuple((number, row(values)) for number, values in first))


LAYOUT = Layout(
    "a .jsonl file",
    lambda source: is_file(source, SUFFIXES),
    lambda source, selection: read_json_lines(Path(source), selection),
    has_columns=True,
)
