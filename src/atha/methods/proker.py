"""Kernel ridge regression with zero-shot as its prior (ProKeR, arXiv 2501.11175, CVPR 2025), with a linear kernel.

What class texts T leave of the one-hot labels Y is regressed on the features X: with K = X X' and G = K + l V, the
scores of a feature x are x (t T + X' G^-1 (Y - t X T'))'. The kernel is linear, so that they are one vector a class
(the paper's is Gaussian). V makes each class count the same, whatever its number of images; labels and cosines are
centred over the classes.

The paper searches l on a validation set and has t = 1. Here l follows from leaving out one image at a time, which
needs no other fit: the residual of image i is then a_i / [G^-1]_ii, for a = G^-1 (Y - t X T'). An image is one row, the
mean of its views, so that they are left out together. Texts have learned nothing, so that t, the slope of the labels on
the cosines, is unbiased; it is drawn to 0 as if one more image a class had said so.

Shapes: n support images, N classes, E width of features.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from atha.methods.alone import PRIOR, SPREAD, calibrated
from atha.methods.examples import Examples, ProbeMethod
from atha.methods.scores import LinearScores, centred, class_means

#: Standard deviation of the logarithm of the penalty, around that of the mean squared distance from the centre.
_PENALTY_SPREAD = float(np.log(2))
#: In standard deviations.
_PENALTIES = np.linspace(-4, 4, 17)


def proker(examples: Examples) -> LinearScores:
    """Fit the probe.

    Args:
        examples: the support set.
    """
    trust = trust_in_texts(examples)
    ridge = Ridge.of(examples, trust)
    penalty = _penalty(examples, ridge)
    weights = trust * examples.texts + ridge.solve(penalty).T @ examples.features
    held = ridge.targets - ridge.left_out(penalty) + trust * centred(examples.features @ examples.texts.T)
    held[~_others(examples)] = np.nan
    return calibrated(LinearScores(weights), held, examples)


def trust_in_texts(examples: Examples) -> float:
    """t: 0 where class texts say nothing."""
    cosines = centred(examples.features @ examples.texts.T)
    labels, shares = _labels(examples), examples.shares[:, None]
    size = float((shares * cosines**2).sum()) * (1 + examples.classes / len(examples.labels))
    return max(0.0, float((shares * labels * cosines).sum()) / max(size, 1e-12))


@dataclass(frozen=True)
class Ridge:
    """Regression of what class texts leave, by the eigenvectors of the kernel: R = min(n, E) of them, the rest is 0.

    Attributes:
        targets: centred labels less what class texts say.
        roots: of the images' weights, 1 on the average.
        sizes: eigenvalues of the weighted kernel.
        axes: its eigenvectors.
    """

    targets: Float[np.ndarray, "n N"]
    roots: Float[np.ndarray, "n 1"]
    sizes: Float[np.ndarray, "R"]
    axes: Float[np.ndarray, "n R"]

    @classmethod
    def of(cls, examples: Examples, trust: float) -> "Ridge":
        """The regression of a support set; see `trust_in_texts`."""
        features, roots = examples.features, np.sqrt(len(examples.labels) * examples.shares)[:, None]
        targets = _labels(examples) - trust * centred(features @ examples.texts.T)
        axes, sizes, _ = np.linalg.svd(roots * features, full_matrices=False)
        return cls(targets, roots, sizes**2, axes)

    def solve(self, penalty: float) -> Float[np.ndarray, "n N"]:
        """a, what each image weighs for each class."""
        targets, inverse = self.roots * self.targets, self._inverse(penalty)
        return np.asarray(self.roots * (targets / penalty + self.axes @ (inverse[:, None] * (self.axes.T @ targets))))

    def left_out(self, penalty: float) -> Float[np.ndarray, "n N"]:
        """The residual of each image when fitted to all others."""
        inverse = self.roots**2 * (1 / penalty + self.axes**2 @ self._inverse(penalty)[:, None])
        return np.asarray(self.solve(penalty) / inverse)

    def _inverse(self, penalty: float) -> Float[np.ndarray, "R"]:
        """What is added to 1 / l along the axes in the inverse of the weighted kernel and its penalty."""
        return np.asarray(1 / (self.sizes + penalty) - 1 / penalty)


def _penalty(examples: Examples, ridge: Ridge) -> float:
    """The most likely one, by normal residuals of images left out and a prior."""
    features, labels, shares = examples.features, examples.labels, examples.shares
    centre = class_means(features, labels, examples.classes).mean(0)
    start = max(float(((features - centre) ** 2).sum(1) @ shares), 1e-9)
    rows = _others(examples)
    if not rows.any():
        return start
    values = int(rows.sum()) * (examples.classes - 1)

    def unlikely(away: float) -> float:
        residuals = ridge.left_out(start * np.exp(away * _PENALTY_SPREAD))[rows]
        squares = float((shares[rows, None] * residuals**2).sum())
        return values / 2 * float(np.log(max(squares, 1e-300))) + away**2 / 2

    return float(start * np.exp(min(_PENALTIES, key=unlikely) * _PENALTY_SPREAD))


def _labels(examples: Examples) -> Float[np.ndarray, "n N"]:
    return centred(np.eye(examples.classes)[examples.labels])


def _others(examples: Examples) -> Bool[np.ndarray, "n"]:
    """Images that are not all that there is of their class."""
    return np.asarray(np.bincount(examples.labels)[examples.labels] > 1)


class Proker(ProbeMethod):
    """`proker` on frozen features."""

    summary = "kernel ridge regression with zero-shot as its prior, by held-out answers"
    probe = staticmethod(proker)
    numbers = {"prior": [PRIOR, SPREAD], "penalty_spread": _PENALTY_SPREAD, "penalties": _PENALTIES.tolist()}  # noqa: RUF012
