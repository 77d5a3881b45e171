"""A data set as it should be, and as it is: what the protocol says, and what was found on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atha.data.pool import Pool

if TYPE_CHECKING:
    from atha.data.duplicates import Duplicates


@dataclass(frozen=True)
class Benchmark:
    """What the published protocol expects of a data set.

    Attributes:
        name: such as ``eurosat``.
        title: its name in full.
        reader: how it is laid out: ``folders``, ``isic`` or ``chestx``.
        texts: label -> class text, in the order of the classes.
        texts_source: where the texts come from.
        total: how many images there should be.
        approximate: whether the total is known only roughly.
        counts: how many of each class, where that is published; else empty.
        folders: names that the data set's folder may have, in any case.
        inner: the folder below it that holds the data; may be empty.
        source: where the official archives are.
        layout: what the files are called.
    """

    name: str
    title: str
    reader: str
    texts: Mapping[str, str]
    texts_source: str
    total: int
    folders: tuple[str, ...]
    inner: str
    source: str
    layout: str
    approximate: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Survey:
    """All that is there of a data set, right or wrong.

    Attributes:
        dataset: its name.
        benchmark: what is expected; None for the user's own data, of which nothing is.
        home: the folder that the data are in; None if they were not found.
        pool: the labelled images that are there; None if the user's own data cannot be read.
        missing: ids of images that the label file lists and that are not there.
        label_file: the file of labels; None if folders are the labels.
        extra_folders: folders that are no class.
        missing_folders: classes without a folder.
        problems: sentences, each of which makes the data another than what is expected, or unusable.
        notes: sentences about what was passed over, and differences that do not matter.
        duplicates: copies and unreadable images; None if they were not looked for.
    """

    dataset: str
    benchmark: Benchmark | None
    home: Path | None
    pool: Pool | None = None
    missing: tuple[str, ...] = ()
    label_file: Path | None = None
    extra_folders: tuple[str, ...] = ()
    missing_folders: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    duplicates: "Duplicates | None" = None

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
            "duplicates": None if copies is None else copies.describe(),
        }
