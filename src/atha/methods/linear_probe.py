"""Linear probe: logistic regression on the frozen backbone's image features."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from atha.methods.base import Images, Method, Predictor, Support

# scikit-learn's own penalty, written out so that it is part of what defines a result.
_REGRESSION = {"C": 1.0, "max_iter": 1000}


def linear_probe(
    support: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], query: Float[np.ndarray, "m E"], classes: int
) -> Float[np.ndarray, "m N"]:
    """Class probabilities of the query images.

    Features are brought to unit length and centred and scaled by the support set's statistics; the regression is
    scikit-learn's, with its default penalty.

    Args:
        support: frozen image features of the support set.
        labels: class indices of the support set.
        query: frozen image features to classify.
        classes: N; a class without support images gets probability 0.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    probabilities = np.zeros((len(query), classes))
    present = np.unique(labels)
    if len(present) == 1:
        probabilities[:, present] = 1.0
        return probabilities
    probe = make_pipeline(Normalizer(), StandardScaler(), LogisticRegression(**_REGRESSION))
    probabilities[:, present] = probe.fit(support, labels).predict_proba(query)
    return probabilities


class LinearProbe(Method):
    """`linear_probe` on an episode."""

    summary = "logistic regression on frozen features"

    def fit(self, support: Support) -> Predictor:
        """The regression is fitted when the query images are there; it sees the support images alone."""
        features = support.images.features

        def predict(query: Images) -> Float[np.ndarray, "Q N"]:
            return linear_probe(features, support.labels, query.features, len(support.texts))

        return predict

    def definition(self) -> dict[str, Any]:
        """The regression's numbers, and what is done to the features before."""
        return super().definition() | {"features": "unit length, standardised", **_REGRESSION}
