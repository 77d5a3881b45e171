"""A support set as probes see it: features of its images and of its class texts.

Shapes: n support images, N classes, E joint width.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from atha.methods.base import Fitted, Method, Support, unit


@dataclass(frozen=True)
class Examples:
    """What a probe is fitted to.

    Attributes:
        features: of the images, at unit length.
        labels: class indices; each class has an image at least.
        texts: features of the class texts, at unit length.
        scale: of zero-shot logits, which are cosines else.
    """

    features: Float[np.ndarray, "n E"]
    labels: Int[np.ndarray, "n"]
    texts: Float[np.ndarray, "N E"]
    scale: float

    @classmethod
    def of(cls, support: Support) -> "Examples":
        """The plain view of a support set."""
        features, texts = support.images.features, support.text_features
        unit_features, unit_texts = unit(features.astype(np.float64)), unit(texts.astype(np.float64))
        return cls(unit_features, support.labels, unit_texts, support.frozen.logit_scale)

    @property
    def classes(self) -> int:
        """N."""
        return len(self.texts)

    @property
    def shares(self) -> Float[np.ndarray, "n"]:
        """Of each image in the whole, such that each class has the same; their sum is 1."""
        return np.asarray(1 / (self.classes * np.bincount(self.labels)[self.labels]))

    @property
    def zero_shot(self) -> Float[np.ndarray, "n N"]:
        """Zero-shot logits of the images."""
        return np.asarray(self.scale * self.features @ self.texts.T)

    def take(self, rows: Bool[np.ndarray, "n"]) -> "Examples":
        """Some of the images."""
        return replace(self, features=self.features[rows], labels=self.labels[rows])


class ProbeMethod(Method):
    """A probe that reads class texts, on frozen features."""

    numbers: ClassVar[Mapping[str, Any]]  # all that defines it, in plain types

    @staticmethod
    @abstractmethod
    def probe(examples: Examples) -> Fitted:
        """Fit it."""

    def fit(self, support: Support) -> Fitted:
        """Fit the probe."""
        return self.probe(Examples.of(support))

    def definition(self) -> dict[str, Any]:
        """Its numbers, and the template."""
        return super().definition() | {"template": self.template, **self.numbers}
