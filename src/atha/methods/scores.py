"""Fitted models that are a function: of images, or of their frozen features.

Shapes: Q images, N classes, E joint width.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atha.alignment import Watcher
from atha.errors import ExportError
from atha.methods.base import Fitted, products, unit
from atha.methods.images import Images
from atha.models.frozen import Frozen
from atha.models.graph import Affine, FrozenFeatures
from atha.probability import softmax
from atha.recipe import Recipe
from atha.tensors import TensorError, check_no_others, check_tensors


@dataclass(frozen=True)
class ByScores(Fitted):
    """A fitted model that is a function from images to scores; it cannot be saved."""

    function: Callable[[Images], Float[np.ndarray, "Q N"]]

    def scores(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """The function's."""
        return self.function(images)


class OnFeatures(Fitted):
    """A fitted model that is a function from frozen image features to scores."""

    @abstractmethod
    def score(self, features: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, "Q N"]:
        """`scores` of images whose features are at hand, not normalised."""

    def on_features(self) -> nn.Module:
        """`score` as a module, of features at unit length; see `Fitted.graph`.

        Raises:
            ExportError: there is none, and why.
        """
        raise ExportError(f"{type(self).__name__} has no graph, so that it cannot be exported: give it on_features")

    def graph(self, frozen: Frozen) -> nn.Module:
        """See `Fitted`."""
        return nn.Sequential(FrozenFeatures(frozen.backbone), self.on_features())

    def scores(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """Of each image's frozen features."""
        return self.score(images.features)

    def of_features(self, features: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, "Q N"]:
        """Probabilities of images whose features are at hand."""
        return softmax(self.score(features))

    def look(self, images: Images, watch: Watcher | None = None) -> Float[np.ndarray, "Q N"]:
        """See `Fitted`; in one forward pass."""
        return self.score(images.frozen.features(images.plain(), images.views(), watch))


@dataclass(frozen=True)
class LinearScores(OnFeatures, kind="linear"):
    """Products of image features at unit length with one vector a class.

    Attributes:
        weights: of each class.
        bias: of each class; minus infinity for one that cannot be.
    """

    weights: Float[np.ndarray, "N E"]
    bias: Float[np.ndarray, "N"] | None = None

    def score(self, features: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, "Q N"]:
        """See `OnFeatures`."""
        found = products(unit(features.astype(np.float64)), self.weights)
        return np.asarray(found if self.bias is None else found + self.bias)

    def times(self, factor: float) -> "LinearScores":
        """The same classifier, as much surer."""
        return LinearScores(self.weights * factor, None if self.bias is None else self.bias * factor)

    def on_features(self) -> nn.Module:
        """See `OnFeatures`."""
        return Affine(torch.from_numpy(self.weights), None if self.bias is None else torch.from_numpy(self.bias))

    def state(self) -> dict[str, Tensor]:
        """Weights and bias."""
        found = {"weights": torch.from_numpy(self.weights)}
        return found if self.bias is None else found | {"bias": torch.from_numpy(self.bias)}

    @classmethod
    def restore(
        cls, definition: Mapping[str, Any], tensors: Mapping[str, Tensor], recipe: Recipe, frozen: Frozen
    ) -> "LinearScores":
        """See `Fitted`."""
        shapes = {"weights": ("N", frozen.backbone.joint_width), "bias": ("N",)}
        check_no_others(tensors, shapes)
        check_tensors(tensors, {name: shapes[name] for name in {"weights": None} | dict(tensors)})
        bias = tensors.get("bias")
        if bias is not None and not bias.isfinite().any():
            raise TensorError("leaves no class that can be", "bias")
        return cls(tensors["weights"].numpy(), None if bias is None else bias.numpy())

    @property
    def classes(self) -> int:
        """See `Fitted`."""
        return len(self.weights)


def centred(scores: Float[np.ndarray, "n N"]) -> Float[np.ndarray, "n N"]:
    """Scores less their mean over the classes, which says nothing about the class."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


def scale_of(scores: Float[np.ndarray, "n N"]) -> float:
    """Mean standard deviation of scores over the classes."""
    return max(float(scores.std(axis=1).mean()), 1e-12)


def class_means(
    features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], classes: int
) -> Float[np.ndarray, "N E"]:
    """Mean of each class's features; each has an image at least."""
    return np.stack([features[labels == label].mean(0) for label in range(classes)])
