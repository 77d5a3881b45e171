"""Linear probe: logistic regression on the frozen backbone's image features."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from atha.methods.base import Fitted, Method, Support, unit
from atha.methods.scores import LinearScores

# scikit-learn's own penalty, written out so that it is part of what defines a result.
_REGRESSION = {"C": 1.0, "max_iter": 1000}


def linear_probe(features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], classes: int) -> LinearScores:
    """Fit the probe.

    Features are brought to unit length and centred and scaled by the support set's statistics; the regression is
    scikit-learn's, with its default penalty.

    Args:
        features: frozen image features of the support set.
        labels: class indices of the support set.
        classes: N; a class without support images gets probability 0.

    Returns:
        The regression as one vector and one number a class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    weights, bias = np.zeros((classes, features.shape[1])), np.full(classes, -np.inf)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0.0
        return LinearScores(weights, bias)
    scaler = StandardScaler()
    probe = LogisticRegression(**_REGRESSION).fit(scaler.fit_transform(unit(features)), labels)
    own, start = probe.coef_ / scaler.scale_, probe.intercept_ - probe.coef_ @ (scaler.mean_ / scaler.scale_)
    if len(present) == 2:  # one vector, of the second class against the first
        own, start = np.stack([np.zeros_like(own[0]), own[0]]), np.array([0.0, start[0]])
    weights[present], bias[present] = own, start
    return LinearScores(weights, bias)


class LinearProbe(Method):
    """`linear_probe` on frozen features."""

    summary = "logistic regression on frozen features"

    def fit(self, support: Support) -> Fitted:
        """Fit the regression."""
        return linear_probe(support.images.features, support.labels, len(support.texts))

    def definition(self) -> dict[str, Any]:
        """The regression's numbers, and what is done to the features before."""
        return super().definition() | {"features": "unit length, standardised", **_REGRESSION}
