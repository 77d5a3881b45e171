"""What is there of a data set against what the protocol expects, and what is there twice."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from atha.data.deciding import decide_reading
from atha.data.duplicates import Progress, find_duplicates
from atha.data.images import ImageReader
from atha.data.opening import open_pool, own_path
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

    Returns:
        What was found; wrong data are problems in it, never errors.

    Raises:
        DataError: there is no data set of that name, or no such folder.
    """
    expected = benchmark or benchmarks().get(dataset)
    found = _own(dataset, root) if expected is None else _of_benchmark(expected, root)
    if not duplicates or found.pool is None or not found.pool.ids:
        return found
    try:
        reading = decide_reading(found.pool.files, bands, max_pixels)
    except DataError as error:
        return replace(found, problems=(*found.problems, str(error)))
    reader = ImageReader(reading, max_pixels, quiet=True)
    copies = find_duplicates(found.pool, progress=progress, reader=reader)
    found = replace(found, notes=(*found.notes, *(sentence.rstrip(".") for sentence in reading.describe())))
    unreadable: tuple[str, ...] = ()
    if copies.unreadable:
        (name, reason), count = copies.unreadable[0], len(copies.unreadable)
        images = "1 image cannot" if count == 1 else f"{count:,} images cannot"
        unreadable = (f"{images} be read, the first is '{name}' ({reason}); get them again",)
    return replace(found, duplicates=copies, problems=found.problems + unreadable)


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


def _own(dataset: str, root: Path | None) -> Survey:
    home = None if dataset.startswith(PREFIX) else own_path(dataset, root)
    try:
        pool = open_pool(dataset, root)
    except DataError as error:
        if home is None:
            raise
        return Survey(dataset, None, home, problems=(str(error),))
    return Survey(pool.name, None, home, pool, notes=pool.notes)
