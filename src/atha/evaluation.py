"""How good a classifier is on labelled images it has not learned from, with the uncertainty of saying so."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from atha.calibration import brier, calibration_error, calibration_parts
from atha.statistics import Share, mean_interval


@dataclass(frozen=True)
class Evaluation:
    """Predictions on a labelled test set, and what follows from them.

    Attributes:
        classes: N labels.
        truth: class index of each of n images.
        probabilities: (n, N), rows sum to 1.
        files: of each image, as given.
        left_out: sentences on images that are not counted, and why.
    """

    classes: Sequence[str]
    truth: Int[np.ndarray, "n"]
    probabilities: Float[np.ndarray, "n N"]
    files: Sequence[str]
    left_out: Sequence[str] = ()

    @cached_property
    def predicted(self) -> Int[np.ndarray, "n"]:
        """Class index of the largest probability."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def correct(self) -> np.ndarray:
        """(n,) booleans."""
        return np.asarray(self.predicted == self.truth)

    @property
    def accuracy(self) -> float:
        """Share of images classified right."""
        return self.share.value

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy (Wilson)."""
        return self.share.interval

    @property
    def share(self) -> Share:
        """Accuracy with its interval."""
        return Share(int(self.correct.sum()), len(self.truth))

    @property
    def per_class(self) -> dict[str, Share]:
        """For each class, the share of its images that were classified right (recall)."""
        return {
            name: Share(int(self.correct[self.truth == index].sum()), int((self.truth == index).sum()))
            for index, name in enumerate(self.classes)
        }

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the classes' recalls, over classes that have images."""
        return float(np.nanmean([share.value for share in self.per_class.values()]))

    @property
    def confusion(self) -> Int[np.ndarray, "N N"]:
        """Rows are true classes, columns predicted ones."""
        matrix = np.zeros((len(self.classes), len(self.classes)), dtype=int)
        np.add.at(matrix, (self.truth, self.predicted), 1)
        return matrix

    @property
    def calibration_error(self) -> float:
        """Expected calibration error of the top probability, 15 equal bins (Guo et al. 2017)."""
        return calibration_error(calibration_parts(self.probabilities, self.truth))

    @property
    def brier(self) -> float:
        """Brier score: mean squared distance of the probabilities from the truth, 0 (best) to 2."""
        return brier(self.probabilities, self.truth)

    def minus(self, other: "Evaluation") -> tuple[float, float]:
        """Paired difference of accuracies on the same images.

        Args:
            other: what is taken away.

        Returns:
            The mean difference, and the half width of its 95% interval (normal approximation).

        Raises:
            ValueError: the two are not about the same images in the same order.
        """
        if list(self.files) != list(other.files) or not np.array_equal(self.truth, other.truth):
            raise ValueError("the evaluations are not of the same images, evaluate both on one test set")
        found = mean_interval(self.correct.astype(float) - other.correct.astype(float))
        return found.mean, found.half

    def to_dict(self) -> dict[str, Any]:
        """All figures in plain types, for JSON."""
        return {
            "images": len(self.truth),
            "accuracy": self.accuracy,
            "interval95": list(self.interval),
            "balanced_accuracy": self.balanced_accuracy,
            "calibration_error": self.calibration_error,
            "brier": self.brier,
            "per_class": {
                name: {
                    "images": share.total,
                    "accuracy": share.value if share.total else None,
                    "interval95": list(share.interval),
                }
                for name, share in self.per_class.items()
            },
            "confusion": {"classes": list(self.classes), "rows_true_columns_predicted": self.confusion.tolist()},
            "left_out": list(self.left_out),
        }
