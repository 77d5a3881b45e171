"""What is there of a data set against what the protocol expects, and what is there twice."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atha.data.duplicates import Duplicates, Progress, find_duplicates
from atha.data.opening import open_pool, own_path
from atha.data.pool import Pool
from atha.data.sources.cdfsl import Benchmark, benchmarks, differences, survey
from atha.data.sources.hub import PREFIX
from atha.errors import DataError


@dataclass(frozen=True)
class Check:
    """What `check` found.

    Attributes:
        dataset: its name.
        benchmark: what is expected; None for the user's own data, of which nothing is.
        home: the folder that the data are in; None if they were not found.
        pool: the labelled images that are there; None if the user's own data cannot be read.
        missing: ids of images that the label file lists and that are not there.
        label_file: the file of labels; None if folders are the labels.
        extra_folders: folders that are no class.
        missing_folders: classes without a folder.
        problems: sentences about what differs from what is expected; none if all matches.
        notes: sentences about what was passed over, and differences that do not matter.
        duplicates: copies and unreadable images; None if they were not looked for.
    """

    dataset: str
    benchmark: Benchmark | None
    home: Path | None
    pool: Pool | None
    missing: tuple[str, ...] = ()
    label_file: Path | None = None
    extra_folders: tuple[str, ...] = ()
    missing_folders: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    duplicates: Duplicates | None = None

    @property
    def kept(self) -> list[tuple[str, str]]:
        """Id and label of each image that is left when of copies only the first is kept; of all if none was sought."""
        if self.pool is None:
            return []
        rows = zip(self.pool.ids, self.pool.labels, strict=True)
        if self.duplicates is None:
            return list(rows)
        kept = set(self.duplicates.kept)
        return [row for row in rows if row[0] in kept]

    def describe(self) -> dict[str, Any]:
        """All of it in the form of JSON."""
        expected, pool, copies = self.benchmark, self.pool, self.duplicates
        return {
            "dataset": self.dataset,
            "matches": not self.problems,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "home": None if self.home is None else str(self.home),
            "images": len(pool.ids) if pool else 0,
            "expected": expected.total if expected else None,
            "approximate": expected.approximate if expected else None,
            "counts": pool.counts if pool else {},
            "expected_counts": dict(expected.counts) if expected and expected.counts else None,
            "texts": dict(pool.texts) if pool else {},
            "label_file": None if self.label_file is None else str(self.label_file),
            "labels_hash": pool.labels_hash if pool else None,
            "groups": {"kind": pool.group_kind, "count": len(set(pool.groups))} if pool and pool.groups else None,
            "missing": list(self.missing),
            "missing_folders": list(self.missing_folders),
            "extra_folders": list(self.extra_folders),
            "duplicates": None if copies is None else _describe(copies),
        }


def check(
    dataset: str,
    root: Path | None = None,
    *,
    duplicates: bool = True,
    benchmark: Benchmark | None = None,
    progress: Progress | None = None,
) -> Check:
    """Checks a data set: benchmarks against the protocol, any data for copies and unreadable images.

    Args:
        dataset: as for `atha.data.opening.open_pool`.
        root: as for `atha.data.opening.open_pool`.
        duplicates: whether to look for copies, for which all images are decoded.
        benchmark: what to expect, in place of what the protocol has for ``dataset``.
        progress: called with the stage, how much of it is done, and how much there is.

    Returns:
        What was found; wrong data are problems in it, never errors.

    Raises:
        DataError: there is no data set of that name, or no such folder.
    """
    expected = benchmark or benchmarks().get(dataset)
    found = _own(dataset, root) if expected is None else _of_benchmark(expected, root)
    if not duplicates or found.pool is None or not found.pool.ids:
        return found
    copies = find_duplicates(found.pool, progress=progress)
    unreadable: tuple[str, ...] = ()
    if copies.unreadable:
        (name, reason), count = copies.unreadable[0], len(copies.unreadable)
        images = "1 image cannot" if count == 1 else f"{count:,} images cannot"
        unreadable = (f"{images} be read, the first is '{name}' ({reason}); get them again",)
    return replace(found, duplicates=copies, problems=found.problems + unreadable)


def _of_benchmark(expected: Benchmark, root: Path | None) -> Check:
    if root is None:
        raise DataError(f"{expected.name} needs the folder that it lies in, as --root DIR")
    found = survey(expected, root)
    counted = tuple(differences(expected, found.pool.counts)) if found.home is not None else ()
    total = len(found.pool.ids)
    roughly: tuple[str, ...] = ()
    if expected.approximate and found.home is not None and total != expected.total and not counted:
        roughly = (f"there are {total:,} images; about {expected.total:,} are expected, and this is within 1%",)
    return Check(
        dataset=expected.name,
        benchmark=expected,
        home=found.home,
        pool=found.pool,
        missing=found.missing,
        label_file=found.label_file,
        extra_folders=found.extra_folders,
        missing_folders=found.missing_folders,
        problems=found.problems + counted,
        notes=found.notes + roughly,
    )


def _own(dataset: str, root: Path | None) -> Check:
    home = None if dataset.startswith(PREFIX) else own_path(dataset, root)
    try:
        pool = open_pool(dataset, root)
    except DataError as error:
        if home is None:
            raise
        return Check(dataset, None, home, None, problems=(str(error),))
    return Check(pool.name, None, home, pool, notes=pool.notes)


def _describe(copies: Duplicates) -> dict[str, Any]:
    groups = {"exact": copies.exact, "near": copies.near}
    return {
        **{
            name: [{"ids": list(group.ids), "labels": list(group.labels)} for group in those]
            for name, those in groups.items()
        },
        "conflicting": sum(group.conflicting for group in {*copies.exact, *copies.near}),
        "unreadable": [{"id": name, "reason": reason} for name, reason in copies.unreadable],
        "flat": copies.flat,
        "kept": len(copies.kept),
    }
