"""CLAP (arXiv 2312.12730, CVPR 2024): a linear probe that starts at the class texts and is held near them.

Logits are scaled cosines of a feature with a prototype w_k of class k, which starts at the class's text t_k. To the
cross-entropy comes the mean over the classes of m_k |w_k - t_k|^2. The multiplier m_k is how sure zero-shot is of its
images, the mean probability of class k over the support images of class k: classes whose text is right stay near it.
Multipliers are found once, from the support set, and there is nothing to search.

The paper takes 300 passes of SGD at the rate 0.1 over random crops. At CLIP's logit scale of 100, such steps are so
long that rounding decides where they end. Here they are as many, on the whole support set, each bounded by the
curvature of the loss, and without momentum, so that the same images give the same probe in any order.

Each class counts the same, whatever its number of images: as published where numbers are equal.

Shapes: n support images, N classes, E width of features.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from atha.methods.base import unit
from atha.methods.examples import Examples, ProbeMethod
from atha.methods.scores import LinearScores
from atha.probability import softmax

_STEPS = 300


def clap(examples: Examples) -> LinearScores:
    """Fit the probe.

    Args:
        examples: the support set.
    """
    *_, prototypes = descent(examples)
    return LinearScores(examples.scale * unit(prototypes))


def descent(examples: Examples) -> Iterator[Float[np.ndarray, "N E"]]:
    """The prototypes after each step."""
    features, texts, shares = examples.features, examples.texts, examples.shares[:, None]
    right, pull = np.eye(examples.classes)[examples.labels], 2 / examples.classes * multipliers(examples)[:, None]
    moments = np.linalg.norm(np.sqrt(shares) * features, 2) ** 2
    weights = texts
    for _ in range(_STEPS):
        lengths = np.linalg.norm(weights, axis=1, keepdims=True)
        directions = weights / lengths
        slope = shares * (softmax(examples.scale * features @ directions.T) - right)
        uphill = examples.scale * slope.T @ features
        uphill -= (uphill * directions).sum(1, keepdims=True) * directions  # cosines do not change with the length
        curvature = (examples.scale**2 * moments / 2 + examples.scale) / lengths.min() ** 2 + pull.max()
        weights = weights - (uphill / lengths + pull * (weights - texts)) / curvature
        yield weights


def multipliers(examples: Examples) -> Float[np.ndarray, "N"]:
    """m: the mean probability that zero-shot gives to the class of the images, by class."""
    own = softmax(examples.zero_shot)[np.arange(len(examples.labels)), examples.labels]
    return np.asarray(np.bincount(examples.labels, own) / np.bincount(examples.labels))


class Clap(ProbeMethod):
    """`clap` on frozen features."""

    summary = "CLAP: a linear probe held near the class texts that are right"
    probe = staticmethod(clap)
    numbers = {"steps": _STEPS}  # noqa: RUF012 - never changed
