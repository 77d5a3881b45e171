"""Scores into probabilities: the one place where rows are made that sum to 1.

Shapes: n images, N classes.
"""

import numpy as np
from jaxtyping import Float

from atha.errors import AthaError


def softmax(scores: Float[np.ndarray, "n N"]) -> Float[np.ndarray, "n N"]:
    """Probabilities of scores, in float64: rows sum to 1 to 1e-15.

    Args:
        scores: logits, or logarithms of probabilities; minus infinity for a class that cannot be.

    Raises:
        AthaError: there is a score that is no number, or infinite, or no class can be.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if not scores.size:
        return scores
    highest = scores.max(axis=1, keepdims=True)
    if not np.isfinite(highest).all():
        raise AthaError(
            "scores of the classes are not finite, and make no probabilities: compute in float32 "
            "(--set training.precision=float32), or get the model and the adapter again"
        )
    return normalised(np.exp(scores - highest))


def log_softmax(scores: Float[np.ndarray, "n N"]) -> Float[np.ndarray, "n N"]:
    """Logarithms of `softmax`, for finite scores."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def normalised(rows: Float[np.ndarray, "n N"]) -> Float[np.ndarray, "n N"]:
    """Rows that are not negative, brought to sum 1 in float64."""
    rows = np.asarray(rows, dtype=np.float64)
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))
