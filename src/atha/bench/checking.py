"""What is read of a store, checked row by row: of a damaged file, what is whole is still used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, InstanceOf, ValidationError

from atha.bench.results import Experiment, definition_hash
from atha.calibration import BINS
from atha.schema import Part
from atha.texts import TextError, json_table

#: Of a result, as `check_results` takes it; the last is the size of its probabilities.
COLUMNS = (
    "r.episode, r.hash, r.accuracy, r.brier, r.calibration, r.classes, r.correct, r.seconds, r.memory, r.run, "
    "length(p.probabilities)"
)
_TYPES = [(int, str, float, float, bytes, bytes, bytes, float, memory) for memory in (int, type(None))]
_MARGIN = 1e-9
_LONGEST = 1e9
"""Seconds of an episode, thirty years: of larger ones, the sum may be no number."""


@dataclass(frozen=True)
class Damage:
    """What cannot be read.

    Attributes:
        what: it is, such as a method's episode.
        problem: why, as the rest of a sentence.
        row: the experiment's id, and the episode; None of an experiment as a whole.
    """

    what: str
    problem: str
    row: tuple[int, Any]

    def __str__(self) -> str:
        return f"{self.what} {self.problem}"


# A file name need not be text that can be encoded.
_Text = InstanceOf[str]


class _Dataset(Part):
    name: _Text
    classes: list[list[_Text]]


class _Episodes(Part):
    way: int = Field(ge=1)
    shot: int = Field(ge=1)
    query: int = Field(ge=1)
    seed: int


class _Definition(Part):
    """What is read of the definition of an experiment."""

    dataset: _Dataset
    episodes: _Episodes
    method: dict[str, Any]


@dataclass(frozen=True)
class Described:
    """An experiment without its results."""

    hash: str
    method: str
    model: str
    definition: Mapping[str, Any]

    @classmethod
    def read(cls, key: Any, method: Any, model: Any, text: Any) -> "Described":
        """From a row.

        Raises:
            ValueError: it is damaged; the message is the rest of a sentence.
        """
        if not all(isinstance(one, str) for one in (key, method, model, text)):
            raise ValueError("has a name or a definition that is no text")
        try:
            definition = json_table(text)
            if definition_hash(definition) != key:
                raise ValueError("has another definition than its hash is of")
            made = _Definition.model_validate(definition)
        except TextError as error:
            raise ValueError(f"has a definition that {error}") from None
        except ValidationError as error:
            key = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
            raise ValueError(f"has a definition without a good {key}") from None
        if not all(len(pair) == 2 for pair in made.dataset.classes):
            raise ValueError("has classes without a text")
        return cls(key, method, model, definition)


def check_results(
    described: Described, rows: Sequence[tuple[Any, ...]], runs: set[int]
) -> tuple[Experiment | None, list[tuple[Any, str]]]:
    """Results of an experiment, and episodes whose results are damaged, each with the rest of a sentence.

    Args:
        described: the experiment.
        rows: of `COLUMNS`.
        runs: ids of all runs.

    Returns:
        The experiment with what is whole, None if nothing is; and the rest.
    """
    sizes = described.definition["episodes"]
    way, queries = sizes["way"], sizes["way"] * sizes["query"]
    damaged: list[tuple[Any, str]] = []
    good = []
    for row in rows:
        if problem := _problem(row, way, queries, runs):
            damaged.append((row[0], problem))
        else:
            good.append(row)
    if not good:
        return None, damaged
    made: Experiment | None = _experiment(described, good)
    assert made is not None
    wrong = _wrong(made, _parts(good), len(described.definition["dataset"]["classes"]), sizes["query"])
    damaged += [(good[place][0], "holds numbers that cannot be") for place in np.flatnonzero(wrong)]
    if wrong.any():
        good = [row for row, bad in zip(good, wrong, strict=True) if not bad]
        made = _experiment(described, good) if good else None
    return made, damaged


def _problem(row: tuple[Any, ...], way: int, queries: int, runs: set[int]) -> str:
    """What is wrong with the types and sizes of a row."""
    *_, calibration, classes, correct, _, memory, run, size = row
    if tuple(map(type, row))[:9] not in _TYPES:
        return "holds texts or numbers of another kind"
    if memory is not None and not 0 <= memory < 1 << 62:
        return "holds a memory that is none"
    if len(calibration) != 3 * BINS * 8 or len(classes) != 2 * way or len(correct) != 2 * way:
        return "holds values of another size"
    if size != 4 * way * queries:
        return "has probabilities of another size, or none"
    return "" if run in runs else "is of no run"


def _parts(rows: Sequence[tuple[Any, ...]]) -> np.ndarray:
    return np.frombuffer(b"".join(row[4] for row in rows), "<f8").reshape(len(rows), 3, -1)


def _experiment(described: Described, rows: Sequence[tuple[Any, ...]]) -> Experiment:
    episodes, hashes, accuracy, briers, _, classes, correct, seconds, memory, _, _ = zip(*rows, strict=True)
    with np.errstate(all="ignore"):  # of numbers that cannot be, found below
        calibration = _parts(rows).sum(axis=0)
    return Experiment(
        hash=described.hash,
        method=described.method,
        model=described.model,
        definition=described.definition,
        episodes=np.array(episodes),
        hashes=hashes,
        accuracy=np.array(accuracy),
        brier=np.array(briers),
        calibration=calibration,
        classes=np.frombuffer(b"".join(classes), "<i2").reshape(len(rows), -1),
        correct=np.frombuffer(b"".join(correct), "<i2").reshape(len(rows), -1),
        seconds=np.array(seconds),
        memory=np.array([np.nan if value is None else value for value in memory], dtype=float),
    )


def _wrong(made: Experiment, parts: np.ndarray, known: int, query: int) -> np.ndarray:
    """Which results hold numbers that cannot be, or that are not of one another."""
    way = made.classes.shape[1]
    ordered = np.sort(made.classes, axis=1)
    shares = made.correct.sum(axis=1) / (way * query)
    with np.errstate(all="ignore"):
        right = (abs(made.accuracy - shares) < _MARGIN) & (made.brier >= 0) & (made.brier <= 2)
        right &= (made.seconds >= 0) & (made.seconds <= _LONGEST)
        right &= ((parts >= 0) & (parts <= way * query)).all(axis=(1, 2)) & (parts[:, 0].sum(axis=1) == way * query)
        right &= ((made.correct >= 0) & (made.correct <= query)).all(axis=1)
        right &= (ordered[:, 0] >= 0) & (ordered[:, -1] < known) & (np.diff(ordered, axis=1) > 0).all(axis=1)
    return np.asarray(~right)


def check_probabilities(blob: Any, way: int, queries: int) -> np.ndarray:
    """Probabilities of an episode's query images, (way * query, way).

    Raises:
        ValueError: they are damaged; the message is the rest of a sentence.
    """
    if not isinstance(blob, bytes) or len(blob) != 4 * way * queries:
        raise ValueError("has probabilities of another size, or none")
    found = np.frombuffer(blob, "<f4").reshape(queries, way)
    with np.errstate(all="ignore"):
        if not ((found >= 0).all() and (abs(found.sum(axis=1) - 1) < 1e-3).all()):
            raise ValueError("has probabilities that do not add up to 1")
    return found
