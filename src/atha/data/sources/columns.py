"""Which columns of a table hold what: by their names, by what is in them, or as a user says."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atha.data.finding import IMAGE_SUFFIXES
from atha.data.selection import Selection
from atha.data.sources.locating import Files
from atha.data.sources.naming import listed, matching, plain_name
from atha.data.sources.one_hot import class_columns, says_words
from atha.data.sources.parts import part_columns
from atha.data.sources.rows import Records
from atha.errors import DataError

IMAGE_COLUMNS = (
    "path", "file", "filename", "file_name", "image", "image_path", "filepath", "file_path", "filepaths", "image_file",
    "img_path",
)  # fmt: skip
"""Names of the column of images, in any case and with spaces or hyphens for underscores; an earlier one wins."""

LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "diagnosis")
"""Names of the column of labels, likewise."""

GROUP_COLUMNS = ("group", "patient", "patient_id", "lesion", "lesion_id")
"""Names of the column that says what an image is of, likewise."""

# Names that often mean the same, and other things too: taken where the table has none of those above.
_MAYBE_IMAGES = ("image_name", "image_id", "image_index", "isic_id", "img", "id_code", "id", "name")
_MAYBE_LABELS = (
    "labels", "dx", "class_id", "classid", "label_id", "label_name", "finding_labels", "species", "breed", "y",
)  # fmt: skip

# Names of columns with words for the numbers in another one.
_NAMES = ("class_name", "label_name", "category_name", "target_name")


@dataclass(frozen=True)
class Columns:
    """Where a table has what, by position.

    Attributes:
        image: the column of images.
        labels: the column of labels, or several that hold 1 or 0; none where no labels are wanted.
        group: the column of groups.
        parts: columns that divide the table, see `part_columns`.
        notes: what else could have been meant, and what was found by what is in it.
    """

    image: int
    labels: tuple[int, ...]
    group: int | None
    parts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def knows(header: Sequence[str]) -> bool:
    """Whether one of the columns has a name that says that it holds images."""
    return bool(matching(header, IMAGE_COLUMNS + _MAYBE_IMAGES))


def has_labels(header: Sequence[str]) -> bool:
    """Whether one of the columns has a name that says that it holds labels."""
    return bool(matching(header, LABEL_COLUMNS + _MAYBE_LABELS))


def names_image(value: str) -> bool:
    """Whether a value is the name of an image, by its ending."""
    return Path(value).suffix.lower() in IMAGE_SUFFIXES


def find_columns(records: Records, selection: Selection, files: Files) -> Columns:
    """Tells the columns of a table apart.

    Args:
        records: the table.
        selection: names them, where a user does.
        files: where its images are.

    Raises:
        DataError: a column is missing, or several could be meant.
    """
    header = records.header
    image, notes = image_column(records, selection, files)
    groups = matching(header, GROUP_COLUMNS)
    labels: tuple[int, ...] = ()
    parts = part_columns(records, {image, *label_columns(records, selection)})
    if selection.use != "predict":
        labels, more = _labels(records, selection, {image, *parts}, groups)
        notes += more
    groups = [index for index in groups if index not in labels]
    if selection.use != "all" and not selection.grouped:
        return Columns(image, labels, None, parts, notes)
    return Columns(image, labels, groups[0] if groups else None, parts, notes + _others("group", header, groups))


def image_column(records: Records, selection: Selection, files: Files) -> tuple[int, tuple[str, ...]]:
    """The column of images, and what else could have been meant.

    Raises:
        DataError: there is none, or several could be meant.
    """
    header = records.header
    if selection.image_column is not None:
        return _named(records, selection.image_column, "--image-column"), ()
    if found := matching(header, IMAGE_COLUMNS):
        return found[0], _others("image", header, found)
    maybe = matching(header, _MAYBE_IMAGES)
    for index in maybe:
        if any(files.has(value) for value in _values(records, index)):
            return index, ()
    rest = [index for index in range(len(header)) if index not in maybe]
    holding = [i for i in rest if any(names_image(value) or files.has(value) for value in _values(records, i))]
    if len(holding) == 1:
        return holding[0], (f"the image is read from column '{header[holding[0]]}'",)
    if maybe and not holding:
        return maybe[0], ()
    if holding:
        raise _unclear(records, "image", holding)
    raise _lacking(records, "image", IMAGE_COLUMNS)


def label_columns(records: Records, selection: Selection) -> list[int]:
    """Columns that hold labels by their names, the one that is used first; or those that a user names.

    Raises:
        DataError: a user names one that is not there.
    """
    header, wanted = records.header, selection.label_column
    if wanted is None:
        return matching(header, LABEL_COLUMNS) or matching(header, _MAYBE_LABELS)[:1]
    names = [wanted] if wanted in header else [name.strip() for name in wanted.split(",")]
    return [_named(records, name, "--label-column") for name in names]


def _labels(
    records: Records, selection: Selection, taken: set[int], groups: Sequence[int]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    header = records.header
    if found := label_columns(records, selection):
        if selection.label_column is not None:
            return tuple(found), ()
        if (named := _words(records, found[0])) is not None:
            return (named,), (
                f"the label is read from column '{header[named]}', which names those of '{header[found[0]]}'",
            )
        return (found[0],), _others("label", header, found)
    rest = [index for index in range(len(header)) if index not in taken and _says_something(records, index)]
    classes = class_columns(records, rest) if records.named else ()
    # A class may be called "lesion".
    rest = [index for index in rest if index not in groups or (len(classes) > 1 and index in classes)]
    if len(rest) == 1:
        return (rest[0],), (f"the label is read from column '{header[rest[0]]}'",)
    if len(classes) < 2:
        raise _lacking(records, "label", LABEL_COLUMNS)
    if words := [header[index] for index in rest if index not in classes and says_words(records, index)]:
        those = ",".join(header[index] for index in classes)
        raise DataError(
            f"{records.path}: the label can be in column {listed(words)}, or is the one that holds 1, of "
            f"{listed([header[index] for index in classes])}; say which with --label-column '{words[0]}' or "
            f"--label-column '{those[:200]}'"
        )
    return classes, ()


def _words(records: Records, numbers: int) -> int | None:
    """The column that has a name for each number of a column of labels, where there is one."""
    if not all(map(_is_number, _values(records, numbers))):
        return None
    name = plain_name(records.header[numbers]).removesuffix("_id").removesuffix("_index")
    for found in matching(records.header, [f"{name}_name", *_NAMES]):
        values = _values(records, found)
        if found != numbers and values and not any(map(_is_number, values)):
            return found
    return None


def _is_number(value: str) -> bool:
    return value.replace(".", "", 1).isdecimal()


def _named(records: Records, wanted: str, option: str) -> int:
    """The column that a user names, or numbers from 1."""
    header = records.header
    for found in (
        [index for index, column in enumerate(header) if column == wanted],
        matching(header, [plain_name(wanted)]),
        [int(wanted) - 1] if wanted.isdecimal() and len(wanted) < 7 and 0 < int(wanted) <= len(header) else [],
    ):
        if found:
            return found[0]
    near = difflib.get_close_matches(wanted, header, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise DataError(
        f"{records.path}: there is no column '{wanted}', only {listed(header)}{hint}; name one of these with {option}"
    )


def _values(records: Records, index: int) -> list[str]:
    """What some rows have in a column."""
    return [row[index] for _, row in records.first[:20] if index < len(row) and row[index]]


def _says_something(records: Records, index: int) -> bool:
    """Whether a column is more than the numbers of rows, that pandas writes or that begin a list."""
    column = records.header[index]
    if plain_name(column) in ("", "index") or column.casefold().startswith("unnamed:"):
        return False
    values = [row[index] if index < len(row) else "" for _, row in records.first]
    start = int(values[0]) if values and values[0] in ("0", "1") else None
    return start is None or len(values) < 3 or values != [str(start + place) for place in range(len(values))]


def _others(kind: str, header: Sequence[str], found: Sequence[int]) -> tuple[str, ...]:
    if len(found) < 2:
        return ()
    used, *others = (header[index] for index in found)
    return (f"the {kind} is read from column '{used}'; {listed(others)} could have been meant too and is not used",)


def _unclear(records: Records, kind: str, found: Iterable[int]) -> DataError:
    columns = listed([records.header[index] for index in found])
    return DataError(
        f"{records.path}: the columns {columns} could each be that of the {kind}s; name one with --{kind}-column"
    )


def _lacking(records: Records, kind: str, names: Sequence[str]) -> DataError:
    if not records.named:
        return DataError(
            f"{records.path}: which of the columns {listed(records.header)} is that of the {kind}s cannot be told; "
            f"name it with --{kind}-column"
        )
    return DataError(
        f"{records.path}: the header has no {kind} column (one of {', '.join(names)}), only {listed(records.header)}; "
        f"name it with --{kind}-column, or rename it"
    )
