"""Prototypes: the class whose mean support feature is nearest (Prototypical Networks, arXiv 1703.05175, eq. 1)."""

import numpy as np

from atha.methods.base import Fitted, Method, Support, unit
from atha.methods.scores import LinearScores


class Prototypes(Method):
    """Cosine of the image and each class's mean of unit-length support features, at the backbone's own logit scale."""

    summary = "nearest mean of a class's support features"

    def fit(self, support: Support) -> Fitted:
        """Average the support features of each class."""
        features = unit(support.images.features.astype(np.float64))
        return LinearScores(support.frozen.logit_scale * unit(support.one_hot.T @ features))
