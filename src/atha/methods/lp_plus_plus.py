"""LP++ (arXiv 2404.02285, CVPR 2024): a linear probe whose weights lean on class texts by a learned multiplier a class.

The logits of a feature x are x (w_k + a_k t_k), for the text t_k of class k. Cross-entropy is minimised by steps in the
w and, after every ten, one in the a. The length of a step is the inverse of a bound of the curvature in its block: half
the largest eigenvalue of the features' second moments, half the largest mean square of a text's cosines. So no learning
rate is searched, and no step makes the loss larger. (The paper has a quarter in place of the half, which bounds the
curvature of one class at a time.) Both start where the paper has them: w_k at the class's summed features, all a at 250
times the mean cosine of an image and its text. Steps are as many as in the released code, which takes the best of them
by a validation set, and has momentum, for which the bound does not hold.

Each class counts the same, whatever its number of images: as published where numbers are equal.

Shapes: n support images, N classes, E width of features.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from atha.methods.examples import Examples, ProbeMethod
from atha.methods.scores import LinearScores, class_means
from atha.probability import softmax

_STEPS, _CYCLE, _START = 300, 10, 250.0


def lp_plus_plus(examples: Examples) -> LinearScores:
    """Fit the probe.

    Args:
        examples: the support set.
    """
    *_, (weights, multipliers) = descent(examples)
    return LinearScores(weights + multipliers[:, None] * examples.texts)


def descent(examples: Examples) -> Iterator[tuple[Float[np.ndarray, "N E"], Float[np.ndarray, "N"]]]:
    """The w and the a after each step."""
    features, labels, shares = examples.features, examples.labels, examples.shares[:, None]
    cosines, right = features @ examples.texts.T, np.eye(examples.classes)[labels]
    weights = class_means(features, labels, examples.classes) * (len(labels) / examples.classes)
    multipliers = np.full(examples.classes, _START * float((shares * right * cosines).sum()))
    step = 2 / np.linalg.norm(np.sqrt(shares) * features, 2) ** 2
    multipliers_step = 2 / max(float((shares * cosines**2).sum(0).max()), 1e-12)
    for number in range(1, _STEPS + 1):
        slope = shares * (softmax(features @ weights.T + multipliers * cosines) - right)
        weights = weights - step * slope.T @ features
        if number % _CYCLE == 0:
            slope = shares * (softmax(features @ weights.T + multipliers * cosines) - right)
            multipliers = multipliers - multipliers_step * (slope * cosines).sum(0)
        yield weights, multipliers


class LpPlusPlus(ProbeMethod):
    """`lp_plus_plus` on frozen features."""

    summary = "LP++: a linear probe with a learned multiplier of each class text"
    probe = staticmethod(lp_plus_plus)
    numbers = {"steps": _STEPS, "cycle": _CYCLE, "start": _START}  # noqa: RUF012 - never changed
