"""What held-out scores of a support set promise for other images of its kind: sets of labels, and rates of rejection.

Promises hold on average over support sets and images, as long as images to come are like the support set's, in the
shares of the classes too (Vovk, Gammerman and Shafer 2005; of held-out scores by folds, Barber et al. 2021,
arXiv:1905.02928). They are made for the number of images that there are: n scores divide what is to come into n + 1
parts of the same share.

Shapes: n support images, Q images, N classes.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float, Int

from atha.errors import DataError


def misfits(scores: Float[np.ndarray, "n N"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """By how much the best class's score is above that of an image's own; 0 where its own is the best.

    Args:
        scores: logits, by a model that did not learn from the image.
        labels: class indices.
    """
    return np.asarray(scores.max(1) - scores[np.arange(len(labels)), labels])


def label_sets(scores: Float[np.ndarray, "Q N"], held_out: Sequence[float], coverage: float) -> Bool[np.ndarray, "Q N"]:
    """Which labels are in the set of each image: those that fit as well as the support images' own labels did.

    Args:
        scores: logits.
        held_out: `misfits` of support images.
        coverage: share of images whose label is to be in their set.

    Returns:
        True for labels of the set; the best label always is. With too few support images, all are.

    Raises:
        DataError: the coverage is no share.
    """
    check_shares(coverage, None)
    threshold = _threshold(held_out, 1 - coverage)
    return np.asarray(scores.max(1, keepdims=True) - scores <= threshold)


def rejection_threshold(held_out: Sequence[float], rate: float) -> float:
    """The score above which an image is none of the classes.

    Between two scores, it lies where the rate does: rejections are then as many as are allowed, and not fewer.

    Args:
        held_out: scores of support images, larger for stranger ones, by what did not learn from the image.
        rate: share of images of the classes that may be rejected.

    Returns:
        The threshold; infinity, and so nothing is rejected, with too few support images.

    Raises:
        DataError: the rate is no share.
    """
    check_shares(None, rate)
    rank = (len(held_out) + 1) * (1 - _exact(rate))
    if rank > len(held_out):
        return math.inf
    return float(np.interp(float(rank), np.arange(1, len(held_out) + 1), np.sort(held_out)))


def check_shares(coverage: float | None, rate: float | None) -> None:
    """See that what is asked for is possible.

    Args:
        coverage: of sets of labels.
        rate: of false rejections.

    Raises:
        DataError: one of them is no share.
    """
    for value, what, such_as in ((coverage, "the coverage of sets", 0.9), (rate, "the rate of false rejections", 0.05)):
        if value is not None and not 0 < value < 1:
            raise DataError(f"{what} is {value}, give a share between 0 and 1, such as {such_as}")


def enough(images: int, rate: float) -> bool:
    """Whether held-out scores of so many images can promise that at most a share of others exceeds a threshold."""
    return (images + 1) * (1 - _exact(rate)) <= images


def needed(rate: float) -> int:
    """Images that `enough` asks for."""
    return math.ceil(1 / _exact(rate)) - 1


def _threshold(held_out: Sequence[float], rate: float) -> float:
    rank = _rank(len(held_out), rate)
    return float(np.sort(np.asarray(held_out))[rank - 1]) if rank <= len(held_out) else math.inf


def _rank(images: int, rate: float) -> int:
    """Which of the sorted scores is the threshold, counted from 1."""
    return math.ceil((images + 1) * (1 - _exact(rate)))


def _exact(rate: float) -> Fraction:
    """0.1 is a tenth, and 1 - 0.9 too."""
    return Fraction(rate).limit_denominator(10**6)
