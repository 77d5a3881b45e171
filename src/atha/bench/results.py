"""Results of a benchmark as values: one method on one episode, and an experiment's results together."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Result:
    """What one method did on one episode.

    Attributes:
        experiment: hash of the experiment.
        episode: index of the episode.
        hash: of the episode's content.
        classes: (way,) indices into the data set's classes, in the episode's order.
        probabilities: (way * query, way) float32; query images class by class.
        seconds: of fit and predict.
        memory: peak bytes, where the system tells.
    """

    experiment: str
    episode: int
    hash: str
    classes: Int[np.ndarray, "N"]
    probabilities: Float[np.ndarray, "Q N"]
    seconds: float
    memory: int | None

    @property
    def truth(self) -> Int[np.ndarray, "Q"]:
        """The column that is right for each query image."""
        way = len(self.classes)
        return np.repeat(np.arange(way), len(self.probabilities) // way)

    @property
    def right(self) -> np.ndarray:
        """(Q,) booleans: whether each query image was classified right."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.truth)

    @property
    def accuracy(self) -> float:
        """Share of the query images that were classified right."""
        return float(self.right.mean())


@dataclass(frozen=True)
class Experiment:
    """An experiment and its results in the order of episodes, without the probabilities.

    Attributes:
        hash: SHA-256 of the definition.
        method: the method's name.
        model: the backbone's name.
        definition: everything that defines the experiment.
        episodes: (n,) indices.
        hashes: of the episodes' content.
        accuracy: (n,) shares of query images classified right.
        brier: (n,) mean Brier scores.
        calibration: (3, bins), summed over the episodes.
        classes: (n, way) indices into the data set's classes.
        correct: (n, way) query images classified right.
        seconds: (n,).
        memory: (n,) peak bytes; NaN where unknown.
    """

    hash: str
    method: str
    model: str
    definition: Mapping[str, Any]
    episodes: Int[np.ndarray, "n"]
    hashes: tuple[str, ...]
    accuracy: Float[np.ndarray, "n"]
    brier: Float[np.ndarray, "n"]
    calibration: Float[np.ndarray, "3 b"]
    classes: Int[np.ndarray, "n N"]
    correct: Int[np.ndarray, "n N"]
    seconds: Float[np.ndarray, "n"]
    memory: Float[np.ndarray, "n"]


def definition_hash(definition: Mapping[str, Any]) -> str:
    """SHA-256 of a definition, whatever the order of its keys."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
