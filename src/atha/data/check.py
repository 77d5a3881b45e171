"""What is there of a data set against what the protocol expects, and what is there twice."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from atha.data import Selection
from atha.data.deciding import decide_reading
from atha.data.duplicates import Duplicates, Progress, find_duplicates
from atha.data.images import ImageReader
from atha.data.opening import open_pool, own_path
from atha.data.pool import Pool
from atha.data.problems import two_labels
from atha.data.sources.cdfsl import benchmarks, differences, survey
from atha.data.sources.hub import PREFIX
from atha.data.survey import Benchmark, Survey
from atha.defaults import MAX_PIXELS
from atha.errors import DataError


def check(
    dataset: str,
    root: Path | None = None,
    *,
    duplicates: bool = True,
    benchmark: Benchmark | None = None,
    progress: Progress | None = None,
    bands: Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
    selection: Selection = Selection(),  # noqa: B008 - frozen
) -> Survey:
    """Checks a data set: benchmarks against the protocol, any data for copies and unreadable images.

    Args:
        dataset: as for `atha.data.opening.open_pool`.
        root: as for `atha.data.opening.open_pool`.
        duplicates: whether to look for copies, for which all images are decoded.
        benchmark: what to expect, in place of what the protocol has for ``dataset``.
        progress: called with the stage, how much of it is done, and how much there is.
        bands: of images with many, the numbers, from 1, of those that are colours.
        max_pixels: larger images cannot be read.
        selection: as for `atha.data.opening.open_pool`.

    Returns:
        What was found; wrong data are problems in it, never errors.

    Raises:
        DataError: there is no data set of that name, or no such folder.
    """
    expected = benchmark or benchmarks().get(dataset)
    found = _own(dataset, root, selection) if expected is None else _of_benchmark(expected, root)
    pool = found.pool
    if not duplicates or pool is None or not pool.ids:
        return found
    try:
        reading = decide_reading(pool.files, bands, max_pixels)
    except DataError as error:
        return replace(found, problems=(*found.problems, str(error)))
    reader = ImageReader(reading, max_pixels, quiet=True)
    copies = find_duplicates(pool, progress=progress, reader=reader)
    found = replace(found, notes=(*found.notes, *(sentence.rstrip(".") for sentence in reading.describe())))
    problems = found.problems
    if copies.unreadable:
        (name, reason), count = copies.unreadable[0], len(copies.unreadable)
        images = "1 image cannot" if count == 1 else f"{count:,} images cannot"
        problems += (f"{images} be read, the first is '{name}' ({reason}); get them again",)
    # Of official data it is a fact, and protocols take them as they are; fit refuses it in the user's own.
    if expected is None:
        problems += tuple(_conflicts(pool, copies))
    return replace(found, duplicates=copies, problems=problems)


def _conflicts(pool: Pool, copies: Duplicates) -> Iterator[str]:
    """A sentence for each image that is in two classes."""
    labels = dict(zip(pool.ids, pool.labels, strict=True))
    for group in copies.exact:
        if group.conflicting:
            first = group.ids[0]
            second = next(name for name in group.ids if labels[name] != labels[first])
            yield two_labels(first, labels[first], second, labels[second])


def _of_benchmark(expected: Benchmark, root: Path | None) -> Survey:
    if root is None:
        raise DataError(f"{expected.name} needs the folder that it lies in, as --root DIR")
    found = survey(expected, root)
    if found.home is None or found.pool is None:
        return found
    counted = tuple(differences(expected, found.pool.counts))
    total = len(found.pool.ids)
    roughly: tuple[str, ...] = ()
    if expected.approximate and total != expected.total and not counted:
        roughly = (f"there are {total:,} images; about {expected.total:,} are expected, and this is within 1%",)
    return replace(found, problems=found.problems + counted, notes=found.notes + roughly)


def _own(dataset: str, root: Path | None, selection: Selection) -> Survey:
    home = None if dataset.startswith(PREFIX) else own_path(dataset, root)
    try:
        pool = open_pool(dataset, root, selection=selection)
    except DataError as error:
        if home is None:
            raise
        return Survey(dataset, None, home, problems=(str(error),))
    return Survey(pool.name, None, home, pool, notes=pool.notes)
