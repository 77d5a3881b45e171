"""Which rows of a table are wanted, where a column, or the folders of its paths, divide it into parts."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from atha.data.selection import Selection
from atha.data.sources.naming import listed, matching, plain_name
from atha.data.sources.rows import Records, Row
from atha.data.sources.splits import part_of
from atha.errors import DataError

SPLIT_COLUMNS = (
    "split", "set", "fold", "data_set", "data_split", "subset", "partition", "splits", "folds", "kfold", "split_name",
    "set_name",
)  # fmt: skip
"""Names of a column that says which part of a data set an image is of."""

EVERY = "all"
"""What names all parts at once."""

# Columns of yes and no: what these stand for.
_YES_OR_NO = {
    "is_train": ("train", "test"),
    "is_test": ("test", "train"),
    "is_valid": ("val", "train"),
    "is_validation": ("val", "train"),
    "is_val": ("val", "train"),
}
_YES, _NO = ("true", "yes", "1", "1.0", "t", "y"), ("false", "no", "0", "0.0", "f", "n")
_MOST_PARTS = 1000


@dataclass(frozen=True)
class Parts:
    """What divides a table.

    Attributes:
        name: of it, for messages.
        of: the part that a row is of, as the table calls it.
        means: ``train``, ``val``, ``test`` or ``other`` by a part's name in the table; empty where it is not known.
    """

    name: str
    of: Callable[[list[str]], str]
    means: Callable[[str], str]

    @classmethod
    def of_column(cls, records: Records, index: int) -> "Parts":
        """A column's parts."""
        name = plain_name(records.header[index])

        def means(value: str) -> str:
            if name not in _YES_OR_NO:
                return part_of(value)[0]
            yes, no = _YES_OR_NO[name]
            return yes if value.casefold() in _YES else no if value.casefold() in _NO else ""

        return cls(f"column '{records.header[index]}'", lambda row: row[index] if index < len(row) else "", means)

    def known(self, rows: Iterable[Row]) -> bool:
        """Whether all that rows have is a known part, and something is."""
        found = {value for _, row in rows if (value := self.of(row))}
        return bool(found) and all(map(self.means, found))


def part_columns(records: Records, taken: Collection[int]) -> tuple[int, ...]:
    """Columns that divide a table by their names, or because they hold words such as ``train`` and ``test``.

    Args:
        records: the table.
        taken: columns that hold something else.
    """
    named = matching(records.header, SPLIT_COLUMNS + tuple(_YES_OR_NO))
    others = [
        index
        for index in range(len(records.header))
        if index not in (*named, *taken) and Parts.of_column(records, index).known(records.first)
    ]
    return tuple(index for index in (*named, *others) if index not in taken)


def choose_rows(
    records: Records, image: int, columns: Sequence[int], selection: Selection
) -> tuple[Callable[[list[str]], bool], tuple[str, ...]]:
    """Decides which rows are taken.

    Args:
        records: the table.
        image: the column of images.
        columns: see `part_columns`.
        selection: what the images are for, and the parts that a user names.

    Returns:
        Whether a row is taken; and a sentence on what is, where a table is divided.

    Raises:
        DataError: parts are named that the table has not; or it is not known which are to be learned from, or to be
            tested on.
    """
    every = [Parts.of_column(records, index) for index in columns]
    every += _folders(records, image) if not every else []
    asked = (
        () if selection.split is None else tuple(name.strip() for name in selection.split.split(",") if name.strip())
    )
    if not every:
        if asked and asked != (EVERY,):
            raise DataError(
                f"{records.path}: no column says which rows are of '{asked[0]}' (one called "
                f"{', '.join(SPLIT_COLUMNS[:3])}); leave {selection.split_option} out"
            )
        return _everything, ()
    if asked:
        counted = [(one, _count(records, one)) for one in every]
        for one, counts in counted:
            if wanted := _asked(one, counts, asked):
                return _taking(one, counts, wanted)
        if asked == (EVERY,):
            return _everything, ()
        raise DataError(
            f"{records.path}: {' and '.join(f'{one.name} has {_shown(counts)}' for one, counts in counted)}, and not "
            f"{listed(asked)}; name parts of it with {selection.split_option}"
        )
    parts = next((one for one in every if one.known(records.first)), every[0])
    if selection.use == "predict":
        return _everything, ()
    counts = _count(records, parts)
    if selection.use == "all":
        return _everything, (f"{parts.name} has {_shown(counts)}: rows of all are taken",)
    meant = {value: parts.means(value) for value in counts}
    for kind in ("train",) if selection.use == "fit" else ("test", "val"):
        wanted = {value for value, means in meant.items() if means == kind}
        if wanted and all(meant.values()):
            takes, notes = _taking(parts, counts, wanted)
            if kind == "val":
                notes = (f"{notes[0]}: there is no test part" if notes else "all rows are of validation",)
            return takes, notes
    doing = "to learn from" if selection.use == "fit" else "to test on"
    raise DataError(
        f"{records.path}: {parts.name} has {_shown(counts)}, which does not say which rows are {doing}; name them with "
        f"{selection.split_option}, several with commas, or give {selection.split_option} {EVERY}"
    )


def _everything(_: list[str]) -> bool:
    return True


def _taking(
    parts: Parts, counts: Counter[str], wanted: Collection[str]
) -> tuple[Callable[[list[str]], bool], tuple[str, ...]]:
    left = Counter({value: count for value, count in counts.items() if value not in wanted})
    taken = Counter({value: count for value, count in counts.items() if value in wanted})
    note = f"{parts.name}: rows of {_shown(taken)} are taken, and not those of {_shown(left)}"
    return lambda row: parts.of(row) in wanted, (note,) if left else ()


def _asked(parts: Parts, counts: Counter[str], asked: Sequence[str]) -> set[str]:
    """The values that are meant by names; none if one of them means none."""
    found: set[str] = set()
    for name in asked:
        exact = {value for value in counts if value and _same(value, name)}
        meant = exact or {value for value in counts if (kind := part_of(name)[0]) and parts.means(value) == kind}
        if not meant:
            return set()
        found |= meant
    return found


def _same(value: str, name: str) -> bool:
    if value.casefold() == name.casefold():
        return True
    try:
        return float(value) == float(name)  # folds that pandas wrote beside gaps
    except ValueError:
        return False


def _count(records: Records, parts: Parts) -> Counter[str]:
    """How many rows each part has."""
    counts: Counter[str] = Counter()
    for _, row in records.rows():
        counts[parts.of(row)] += 1
        if len(counts) > _MOST_PARTS:
            break
    return counts


def _shown(counts: Counter[str]) -> str:
    shown = [f"{repr(value[:40]) if value else 'nothing'} ({count:,})" for value, count in counts.most_common(8)]
    return ", ".join(shown + ["..."] * (len(counts) > 8))


def _folders(records: Records, image: int) -> list[Parts]:
    """The folders of the paths, where they are called as parts are and so divide the table."""

    def folders(row: list[str]) -> tuple[str, ...]:
        return PurePosixPath(row[image].replace("\\", "/")).parts[:-1] if image < len(row) else ()

    if not records.first:
        return []
    first = folders(records.first[0][1])
    for place, name in enumerate(first):
        if not part_of(name)[0]:
            continue

        def of(row: list[str], place: int = place) -> str:
            return folders(row)[place] if place < len(folders(row)) else ""

        parts = Parts("the folders of its paths", of, lambda value: part_of(value)[0])
        kinds = {parts.means(value) for value in _count(records, parts)}
        return [parts] if all(kinds) and len(kinds) > 1 else []
    return []
