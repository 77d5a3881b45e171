"""The four benchmarks of cross-domain few-shot learning: EuroSAT, CropDiseases, ISIC 2018 and ChestX."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from atha.data.finding import did_you_mean, kind_of
from atha.data.pool import Pool
from atha.data.sources.cdfsl_layouts import LAYOUTS, entries, make_pool, some
from atha.data.survey import Benchmark, Survey
from atha.errors import DataError


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """The four benchmarks by name, in the order of the protocol."""
    content = tomllib.loads((resources.files("atha.data.sources") / "benchmarks.toml").read_text("utf-8"))
    made: dict[str, Benchmark] = {}
    for name, values in content.items():
        labels = values.pop("labels", None)
        if labels is not None:
            values["texts"] = {label: label.replace("_", " ") for label in labels}
        values["folders"] = tuple(values["folders"])
        made[name] = Benchmark(name=name, **values)
    return MappingProxyType(made)


def read(benchmark: Benchmark, root: Path) -> Pool:
    """Reads a benchmark whose files are as the protocol has them; how many there are does not matter.

    Args:
        benchmark: one of `benchmarks`.
        root: the folder that holds the data set's folder, or that folder, or the inner one.

    Returns:
        The images, by class and then by id. A note says if there are more or fewer than expected.

    Raises:
        DataError: the data cannot be found, or anything is missing, extra or contradictory.
    """
    found = survey(benchmark, root)
    if found.problems:
        others = len(found.problems) - 1
        more = f" (and {others} more: atha data check {benchmark.name} lists all)" if others else ""
        raise DataError(f"{found.problems[0]}{more}")
    assert found.pool is not None  # an own data set alone may have none
    return replace(found.pool, notes=(*found.notes, *differences(benchmark, found.pool.counts)))


def differences(benchmark: Benchmark, counts: Mapping[str, int]) -> list[str]:
    """Says where the numbers of images are not the protocol's.

    Args:
        benchmark: what is expected.
        counts: the number of images of each class.

    Returns:
        Sentences, none if all is as expected; a total that is known roughly may differ by one in a hundred.
    """
    said: list[str] = []
    total, expected = sum(counts.values()), benchmark.total
    if abs(total - expected) > (expected / 100 if benchmark.approximate else 0):
        about = "about " * benchmark.approximate
        said.append(f"there are {total:,} images and the protocol has {about}{expected:,}")
    other = [
        f"{label} {counts[label]:,} ({count:,})" for label, count in benchmark.counts.items() if counts[label] != count
    ]
    if other:
        said.append(
            f"the numbers of images of these classes are not the published ones (in brackets): {', '.join(other)}"
        )
    return said


def survey(benchmark: Benchmark, root: Path) -> Survey:
    """Looks at what is there of a benchmark, without an end at the first thing that is wrong.

    Args:
        benchmark: one of `benchmarks`.
        root: the folder that holds the data set's folder, or that folder, or the inner one.

    Returns:
        What is there and what is wrong with it; its pool holds what could be read, and may be empty.

    Raises:
        DataError: there is no such folder, or it cannot be listed.
    """
    if kind_of(root) != "folder":
        raise DataError(f"there is no folder '{root}'{did_you_mean(root)}; give the one that {benchmark.name} lies in")
    home, tried = _find_home(benchmark, root)
    found = Survey(benchmark.name, benchmark, home)
    layout = LAYOUTS[benchmark.reader]
    if home is None:
        found.pool = make_pool(benchmark)
        found.problems += (
            f"{benchmark.name} is not in '{root}': none of {some([str(place) for place in tried])} holds "
            f"{layout.what}; the layout is {benchmark.layout}",
        )
    else:
        found.pool = layout.survey(benchmark, found, home)
    return found


def _find_home(benchmark: Benchmark, root: Path) -> tuple[Path | None, list[Path]]:
    """The folder that looks like the benchmark's, and all that were looked at."""
    wanted = {name.casefold() for name in benchmark.folders}
    named = [entry for entry in entries(root) if entry.name.casefold() in wanted and kind_of(entry) == "folder"]
    tried: list[Path] = []
    for outer in [*named, root] if named else [root / benchmark.folders[0], root]:
        for place in dict.fromkeys((outer / benchmark.inner, outer)):
            tried.append(place)
            if kind_of(place) == "folder" and LAYOUTS[benchmark.reader].marks(benchmark, place):
                return place, tried
    return None, tried
