"""Labels of tables with a column for each class, 1 for the class of an image and 0 for the others."""

from collections.abc import Iterable, Sequence

from atha.data.sources.naming import listed
from atha.data.sources.rows import Records
from atha.errors import DataError

_ONE, _ZERO = ("1", "1.0", "1,0", "true"), ("0", "0.0", "0,0", "false", "")


def class_columns(records: Records, columns: Iterable[int]) -> tuple[int, ...]:
    """Columns that hold nothing but 1 and 0 in the first rows.

    Args:
        records: the table.
        columns: those that may.
    """
    values = {index: {row[index].casefold() for _, row in records.first if index < len(row)} for index in columns}
    return tuple(index for index, found in values.items() if found - {""} and found <= {*_ONE, *_ZERO})


def says_words(records: Records, column: int) -> bool:
    """Whether a column holds anything but numbers, so that it may be labels itself."""
    return any(not _is_number(row[column]) for _, row in records.first if column < len(row) and row[column])


def class_of(records: Records, columns: Sequence[int], number: int, row: Sequence[str]) -> str:
    """The class of a row: the name of the column that holds 1.

    Args:
        records: the table.
        columns: those of the classes.
        number: of the row, for messages.
        row: its values.

    Raises:
        DataError: there is none, or there are several, or a column holds something else.
    """
    header, found = records.header, []
    for index in columns:
        value = row[index].casefold() if index < len(row) else ""
        if value in _ONE:
            found.append(header[index])
        elif value not in _ZERO:
            raise DataError(
                f"{records.path}: row {number} has '{row[index][:40]}' in column '{header[index]}', and a column for a "
                "class holds 1 or 0; correct it, or name the column of labels with --label-column"
            )
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{records.path}: row {number} has 1 in {len(found)} columns, {listed(found)}, and an image has one label; "
            "keep one of them, or delete the row"
        )
    raise DataError(
        f"{records.path}: row {number} has 1 in none of the columns {listed([header[index] for index in columns])}, "
        "and an image has one label; give it one, if need be in a column of its own, or delete the row"
    )


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
