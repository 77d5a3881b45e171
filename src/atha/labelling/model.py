"""What learns while labels come in: class texts and probes on frozen features, blended, as one vector a class.

It is the recipe ``probes`` on the plain view of an image: fitted in milliseconds, and a product for all images.

Shapes: n labelled images, N classes, Q images, E width of features.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from atha.methods.automatic import fit_on_features
from atha.methods.blend import Blend
from atha.methods.examples import Examples
from atha.methods.scores import LinearScores
from atha.probability import softmax
from atha.recipe import BlendRecipe, Recipe

_RECIPE = "probes"
_ROWS = 8192


@cache
def _blend() -> BlendRecipe:
    found = Recipe.load(_RECIPE).blend
    assert found is not None
    return found


@dataclass(frozen=True)
class Texts:
    """Class texts as features.

    Attributes:
        features: at unit length.
        scale: of zero-shot logits.
    """

    features: Float[np.ndarray, "N E"]
    scale: float


@dataclass(frozen=True)
class LinearModel:
    """Scores of all classes; minus infinity of those that have no label.

    Attributes:
        weights: of each class.
        bias: of each class.
    """

    weights: Float[np.ndarray, "N E"]
    bias: Float[np.ndarray, "N"]

    def probabilities(self, features: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, "Q N"]:
        """Of features at unit length; rows sum to 1."""
        weights, bias = self.weights.T.astype(np.float32), self.bias.astype(np.float32)
        parts = [
            softmax((features[start : start + _ROWS] @ weights + bias).astype(np.float64)).astype(np.float32)
            for start in range(0, len(features), _ROWS)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(bias)), dtype=np.float32)


def fit_model(features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], texts: Texts, seed: int) -> LinearModel:
    """Fit it; classes without a label cannot be predicted.

    Args:
        features: at unit length, one image at least.
        labels: class indices.
        texts: of all classes.
        seed: of the folds.
    """
    present = np.unique(labels)
    weights, bias = np.zeros_like(texts.features, dtype=np.float64), np.full(len(texts.features), -np.inf)
    if len(present) == 1:
        bias[present] = 0.0
        return LinearModel(weights, bias)
    own = Examples(
        features.astype(np.float64),
        np.searchsorted(present, labels),
        texts.features[present].astype(np.float64),
        texts.scale,
    )
    weights[present], bias[present] = _summed(fit_on_features(_blend(), own, seed))
    return LinearModel(weights, bias)


def _summed(blend: Blend) -> tuple[Float[np.ndarray, "N E"], Float[np.ndarray, "N"]]:
    """The blend as one vector and number a class: its members are such, and centring them is linear."""
    weights: np.ndarray | float = 0.0
    bias: np.ndarray | float = 0.0
    for part in blend.parts.values():
        member = part.fitted
        assert isinstance(member, LinearScores)
        own = np.zeros(len(member.weights)) if member.bias is None else member.bias
        factor = part.weight / part.scale
        weights = weights + factor * (member.weights - member.weights.mean(0))
        bias = bias + factor * (own - own.mean())
    return np.asarray(weights), np.asarray(bias)
