"""Prototypes: the class whose mean support feature is nearest (Prototypical Networks, arXiv 1703.05175, eq. 1)."""

import numpy as np
from jaxtyping import Float

from atha.methods.base import Images, Method, Predictor, Support, softmax, unit


class Prototypes(Method):
    """Cosine of the image and each class's mean of unit-length support features, at the backbone's own logit scale."""

    summary = "nearest mean of a class's support features"

    def fit(self, support: Support) -> Predictor:
        """Average the support features of each class."""
        means = unit(support.one_hot.T @ unit(support.images.features))
        scale = support.frozen.logit_scale

        def predict(query: Images) -> Float[np.ndarray, "Q N"]:
            return softmax(scale * unit(query.features) @ means.T)

        return predict
