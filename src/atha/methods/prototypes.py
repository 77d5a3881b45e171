"""Prototypes: the class whose mean support feature is nearest (Prototypical Networks, arXiv 1703.05175, eq. 1).

Features are centred first, by the mean of the classes' means: what all images have in common says nothing about their
class, and takes most of a feature's length.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from atha.methods.base import Fitted, Method, Support, unit
from atha.methods.scores import LinearScores, class_means


def prototypes(features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], classes: int) -> LinearScores:
    """Fit the probe: products with the mean direction of each class, seen from the centre.

    Args:
        features: image features of the support set, at unit length.
        labels: class indices; each class has an image at least.
        classes: N.
    """
    centre = class_means(features, labels, classes).mean(0)
    directions = unit(features - centre)
    weights = unit(class_means(directions, labels, classes))
    return LinearScores(weights, -weights @ centre)


class Prototypes(Method):
    """`prototypes` of frozen features, at the backbone's own logit scale."""

    summary = "nearest mean of a class's centred support features"

    def fit(self, support: Support) -> Fitted:
        """Average the support features of each class."""
        features = unit(support.images.features.astype(np.float64))
        return prototypes(features, support.labels, len(support.texts)).times(support.frozen.logit_scale)

    def definition(self) -> dict[str, Any]:
        """What is done to the features before."""
        return super().definition() | {"features": "unit length, centred"}
