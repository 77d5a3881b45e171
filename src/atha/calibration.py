"""Whether probabilities mean what they say: calibration error and Brier score."""

import numpy as np
from jaxtyping import Float, Int

#: Equal-width bins of the calibration error.
BINS = 15


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
