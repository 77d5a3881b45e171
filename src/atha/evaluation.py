"""How good a classifier is on labelled images it has not learned from, with the uncertainty of saying so."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

# Of the standard normal distribution, at 97.5%.
_Z = 1.959963984540054
#: Equal-width bins of the calibration error.
BINS = 15


@dataclass(frozen=True)
class Share:
    """A count of successes with its 95% interval (Wilson's score interval)."""

    successes: int
    total: int

    @property
    def value(self) -> float:
        """Between 0 and 1; NaN of nothing."""
        return self.successes / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end; 0 to 1 of nothing."""
        if not self.total:
            return 0.0, 1.0
        # Written out: scipy.stats takes longer to import than a report of 100,000 episodes to make.
        share, spread = self.value, _Z**2 / self.total
        middle = (share + spread / 2) / (1 + spread)
        half = _Z * np.sqrt(share * (1 - share) / self.total + spread / (4 * self.total)) / (1 + spread)
        low = 0.0 if self.successes == 0 else float(middle - half)
        high = 1.0 if self.successes == self.total else float(middle + half)
        return low, high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f}% ({100 * low:.1f} to {100 * high:.1f})"


def _checked(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of (Q, N) and (Q,) that belong together; ValueError if they do not."""
    probabilities, truth = np.asarray(probabilities), np.asarray(truth)
    if probabilities.ndim != 2 or truth.shape != probabilities.shape[:1]:
        raise ValueError(
            f"probabilities of shape {probabilities.shape} and truth of shape {truth.shape} do not belong together, "
            "give (queries, classes) and (queries,)"
        )
    if not ((truth >= 0) & (truth < probabilities.shape[1])).all():
        raise ValueError(f"truth holds an index outside 0 to {probabilities.shape[1] - 1}, give indices of the classes")
    if not (probabilities >= 0).all():
        raise ValueError("a probability is negative or not a number, give rows that sum to 1")
    return probabilities, truth


def calibration_parts(
    probabilities: Float[np.ndarray, "Q N"], truth: Int[np.ndarray, "Q"]
) -> Float[np.ndarray, "3 bins"]:
    """What the calibration error is made of; the parts of two sets of queries add up to the parts of both.

    Args:
        probabilities: (Q, N), rows sum to 1.
        truth: (Q,), class index of each query.

    Returns:
        (3, BINS): for each bin of the top probability the number of queries, the sum of their top probabilities, and
        how many of them are right. Bins are of equal width, each with its lower end; 1 is in the last.

    Raises:
        ValueError: the shapes do not fit, an index is no class, or a probability is negative or not a number.
    """
    probabilities, truth = _checked(probabilities, truth)
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    correct = probabilities.argmax(axis=1) == truth
    weights = (np.ones(len(bins)), confidence, correct)
    return np.stack([np.bincount(bins, weights=weight, minlength=BINS) for weight in weights])


def calibration_error(parts: Float[np.ndarray, "3 bins"]) -> float:
    """Expected calibration error of the top probability, equal bins (Guo et al. 2017, arXiv:1706.04599).

    Args:
        parts: (3, BINS), from `calibration_parts`, of one set of queries or summed over several.

    Returns:
        Mean over queries of the distance of confidence and accuracy in their bin, 0 (best) to 1; NaN of no query.

    Raises:
        ValueError: not of that shape.
    """
    parts = np.asarray(parts)
    if parts.shape != (3, BINS):
        raise ValueError(f"calibration parts have the shape {parts.shape}, sum them over episodes to (3, {BINS})")
    count, confidence, correct = parts
    total = count.sum()
    return float(abs(confidence - correct).sum() / total) if total else float("nan")


def brier(probabilities: Float[np.ndarray, "Q N"], truth: Int[np.ndarray, "Q"]) -> float:
    """Brier score of several classes (Brier 1950): mean squared distance of the probabilities from the truth.

    Args:
        probabilities: (Q, N), rows sum to 1.
        truth: (Q,), class index of each query.

    Returns:
        0 (best) to 2; NaN of no query.

    Raises:
        ValueError: the shapes do not fit, an index is no class, or a probability is negative or not a number.
    """
    probabilities, truth = _checked(probabilities, truth)
    if not len(truth):
        return float("nan")
    return float(np.mean(np.sum((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2, axis=1)))


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

        Returns:
            The mean difference, and the half width of its 95% interval (normal approximation).

        Raises:
            ValueError: the two are not about the same images in the same order.
        """
        if list(self.files) != list(other.files) or not np.array_equal(self.truth, other.truth):
            raise ValueError("the evaluations are not of the same images, evaluate both on one test set")
        difference = self.correct.astype(float) - other.correct.astype(float)
        return float(difference.mean()), float(1.96 * difference.std() / np.sqrt(len(difference)))

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
