"""Labelled images from the rows of a table, wherever the table is from."""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atha.data import LabelledImages, Sample
from atha.data.selection import Selection
from atha.data.sources.columns import Columns, find_columns
from atha.data.sources.joining import with_folders
from atha.data.sources.locating import Files
from atha.data.sources.naming import plain_name
from atha.data.sources.one_hot import class_of
from atha.data.sources.parts import choose_rows
from atha.data.sources.rows import Records, check_width
from atha.errors import DataError


@dataclass(frozen=True)
class _Image:
    """What a row says of an image.

    Attributes:
        number: of the row.
        value: what the table calls the image.
        label: its label.
        path: its file; None if it is not there.
        group: what it is of, where that is wanted.
    """

    number: int
    value: str
    label: str
    path: Path | None
    group: str = ""


def files_of(base: Path, selection: Selection, values: Sequence[str]) -> Files:
    """Where a table's images are.

    Args:
        base: the table's folder.
        selection: names another, where a user does.
        values: some values that may be paths.

    Raises:
        DataError: the folder that the user names is none.
    """
    return Files(base) if selection.images is None else Files.below(selection.images, values)


def locate(records: Records, selection: Selection) -> tuple[Records, Files, Columns]:
    """Where the images of a table are, and which columns say so.

    Args:
        records: the table.
        selection: where it has what.

    Returns:
        The table, with whole paths in its column of images; where these are; and its columns, with what is said of
        joining them.

    Raises:
        DataError: a column is missing, several could be meant, or the folder that the user names is none.
    """
    files = files_of(records.base, selection, [value for _, row in records.first for value in row if value])
    records, joined = with_folders(records, selection, files)
    columns = find_columns(records, selection, files)
    return records, files, replace(columns, notes=joined + columns.notes)


def read_records(records: Records, selection: Selection) -> LabelledImages:
    """Reads the images that rows name, and their labels.

    Args:
        records: the table.
        selection: what is wanted of it.

    Returns:
        The images by label and then by path, as class folders of them have it, whatever the order of the rows; to
        predict, in the order of the rows. Rows given twice, images that are not there and columns that could have been
        meant too are in ``ignored``.

    Raises:
        DataError: a column or a value is missing, an image has two labels, or no image of the table is there, or, to
            learn from, none of a class.
    """
    check_width(records.path, records.header)
    records, files, columns = locate(records, selection)
    wanted, division = choose_rows(records, columns.image, columns.parts, selection)
    samples: dict[str, tuple[Sample, str]] = {}
    repeated: list[int] = []
    missing: list[_Image] = []
    labels: dict[str, int] = {}
    total = 0
    for image in _images(records, files, columns, wanted):
        total += 1
        labels.setdefault(image.label, image.number)
        if image.path is None:
            missing.append(image)
            if selection.use != "all":
                continue
        path = image.path or files.path(image.value)
        # "a.jpg" and "./a.jpg" are one image.
        sample = Sample(path, image.label), image.group
        known = samples.setdefault(os.path.abspath(path), sample)  # noqa: PTH100 - Path.absolute keeps ".."
        if known is not sample:
            _check_same(records, image, known[0].label)
            repeated.append(image.number)
    if not total:
        raise DataError(f"{records.path}: the table has a header but no rows; add one row per image")
    _check_single(records, labels)
    if selection.label_column is None and len(columns.labels) == 1:
        _check_numbers(records, records.header[columns.labels[0]], labels)
    lacking = _lacking(records, files, missing, total)
    if len(missing) == total:
        raise DataError(f"{lacking}; {files.mend([image.value for image in missing])}")
    if selection.use == "fit":
        _check_classes(lacking, {sample.label for sample, _ in samples.values()}, missing)
    notes = [*columns.notes, *division, *_repetition(repeated)]
    if missing and selection.use != "all":
        notes.append(lacking)
    order = (
        list(samples) if selection.use == "predict" else sorted(samples, key=lambda key: (samples[key][0].label, key))
    )
    group = columns.group
    return LabelledImages(
        tuple(samples[key][0] for key in order),
        str(records.path),
        tuple(notes),
        base=records.base,
        groups=None if group is None else tuple(samples[key][1] for key in order),
        group_kind="" if group is None else plain_name(records.header[group]).removesuffix("_id"),
    )


def _images(records: Records, files: Files, columns: Columns, wanted: Callable[[list[str]], bool]) -> Iterator[_Image]:
    """What the rows say that are wanted."""
    for number, row in records.rows():
        if not wanted(row):
            continue
        value, label = _values(records, columns, number, row)
        if records.inside and _leaves(value):
            raise DataError(f"{records.path}: row {number} names '{value}', which is not in its folder; put it there")
        path = _find(records, files, number, value)
        group = "" if columns.group is None else _group(records, columns.group, number, row)
        yield _Image(number, value, label, path, group)


def _check_same(records: Records, image: _Image, label: str) -> None:
    """See that an image that is there twice has one label."""
    if image.label != label:
        raise DataError(
            f"{records.path}: row {image.number} gives '{image.value}' the label '{image.label}', and an earlier row "
            f"the label '{label}'; keep one of the two"
        )


def _values(records: Records, columns: Columns, number: int, row: list[str]) -> tuple[str, str]:
    """The image and the label of a row; no label, where none is wanted."""
    image = _value(records, columns.image, number, row)
    if len(columns.labels) > 1:
        return image, class_of(records, columns.labels, number, row)
    if not columns.labels:
        return image, ""
    # What pandas and others write where there is nothing.
    given = ["" if value.casefold() in ("nan", "<na>") else value for value in row]
    return image, _value(records, columns.labels[0], number, given)


def _value(records: Records, column: int, number: int, row: list[str]) -> str:
    if column < len(row) and row[column]:
        return row[column]
    raise DataError(
        f"{records.path}: row {number} has no value in column '{records.header[column]}'; fill it or delete the row"
    )


def _check_single(records: Records, labels: dict[str, int]) -> None:
    """See that no label is several labels of the table."""
    for label, number in labels.items():
        for between in "|;,":
            several = [part.strip() for part in label.split(between)]
            known = [part in labels for part in several]
            # A bar is in names of classes hardly ever, and a comma in many.
            if len(several) > 1 and (any(known) if between == "|" else all(known)):
                raise DataError(
                    f"{records.path}: row {number} has the label '{label}', which is {len(several)} labels of which "
                    "the table has some alone, and an image has one; keep one of them, or delete the row"
                )


def _check_numbers(records: Records, column: str, labels: dict[str, int]) -> None:
    """See that labels that are numbers are those of classes: no measured ones, and none in two forms."""
    known: dict[float, str] = {}
    for label, number in labels.items():
        try:
            value = float(label)
        except ValueError:
            continue
        if not value.is_integer():
            raise DataError(
                f"{records.path}: row {number} has {label} in column '{column}', which is measured and no class; name "
                "the column of labels with --label-column, were it this one"
            )
        if (same := known.setdefault(value, label)) != label:
            raise DataError(
                f"{records.path}: row {number} has the label '{label}', and row {labels[same]} has '{same}', which is "
                "the same number; write it in one way"
            )


def _group(records: Records, column: int, number: int, row: list[str]) -> str:
    if column < len(row) and row[column]:
        return row[column]
    raise DataError(
        f"{records.path}: row {number} has no value in column '{records.header[column]}'; fill it, or rename the "
        "column if it says nothing of what an image is of"
    )


def _leaves(value: str) -> bool:
    """Whether a path leads out of the folder that it is relative to."""
    path = value.replace("\\", "/")
    return os.path.isabs(path) or os.path.normpath(path).split("/")[0] == ".."  # noqa: PTH117 - texts, not files


def _find(records: Records, files: Files, number: int, value: str) -> Path | None:
    try:
        return files.find(value)
    except DataError as error:
        raise DataError(f"{records.path}: row {number}: {error}") from error


def _lacking(records: Records, files: Files, missing: Sequence[_Image], total: int) -> str:
    """What is not there, with an example."""
    if not missing:
        return ""
    first = missing[0]
    those = (
        f"none of its {total:,} images is there"
        if len(missing) == total
        else f"1 of its {total:,} images is not there"
        if len(missing) == 1
        else f"{len(missing):,} of its {total:,} images are not there"
    )
    return (
        f"{records.path}: {those}; of row {first.number}, '{first.value}', '{files.path(first.value)}' was looked for, "
        "also with the ending of an image"
    )


def _check_classes(lacking: str, left: Collection[str], missing: Sequence[_Image]) -> None:
    """See that no class is lost with images that are not there."""
    for image in missing:
        if image.label not in left:
            raise DataError(f"{lacking}; no image of class '{image.label}' is left: correct the paths or its rows")


def _repetition(numbers: list[int], limit: int = 5) -> tuple[str, ...]:
    if not numbers:
        return ()
    listed = ", ".join([str(number) for number in numbers[:limit]] + ["..."] * (len(numbers) > limit))
    if len(numbers) == 1:
        return (f"1 row repeats an earlier one and is not used: row {listed}",)
    return (f"{len(numbers)} rows repeat earlier ones and are not used: rows {listed}",)
