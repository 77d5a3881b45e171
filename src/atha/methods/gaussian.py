"""Gaussian probe: classes as normal distributions with one covariance, shrunk towards a multiple of the identity.

The covariance is the total one, within and between classes: its direction between two classes is that of the one within
(Fisher), and with one image a class there is no other. Each class counts the same, whatever its number of images. The
quadratic terms, by which two classes' distances to the origin differ, are left out: with a handful of images they are
noise. What remains is ridge regression on the classes, solved in the smaller of both dimensions.

Shapes: n support images, N classes, E width of features.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from atha.methods.base import Fitted, Method, Support, unit
from atha.methods.scores import LinearScores, class_means

# Of the covariance's trace, spread over the number of images.
_SHRINKAGE = 1.0


def gaussian(features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], classes: int) -> LinearScores:
    """Fit the probe.

    Args:
        features: image features of the support set, at unit length.
        labels: class indices; each class has an image at least.
        classes: N.
    """
    counts = np.bincount(labels, minlength=classes)
    means = class_means(features, labels, classes)
    centre = means.mean(0)
    offsets = means - centre
    # X^T X is the covariance.
    x = (features - centre) / np.sqrt(classes * counts[labels])[:, None]
    penalty = max(_SHRINKAGE * float((x**2).sum()) / len(x), 1e-12)
    if len(x) < x.shape[1]:
        inner = np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), x @ offsets.T)
        weights = (offsets - inner.T @ x) / penalty
    else:
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), offsets.T).T
    return LinearScores(weights, -weights @ centre)


class Gaussian(Method):
    """`gaussian` on frozen features."""

    summary = "one normal distribution a class, with a shared, shrunk covariance"

    def fit(self, support: Support) -> Fitted:
        """Fit the probe."""
        features = unit(support.images.features.astype(np.float64))
        return gaussian(features, support.labels, len(support.texts)).times(support.frozen.logit_scale)

    def definition(self) -> dict[str, Any]:
        """The shrinkage."""
        return super().definition() | {"shrinkage": _SHRINKAGE, "covariance": "total"}
