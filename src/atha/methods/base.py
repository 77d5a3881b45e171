"""A method learns from labelled images and gives a fitted model: what a benchmark compares, what `fit` ships.

Shapes: n support images, Q query images, N classes, E joint width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from atha.data.views import Views
from atha.models.frozen import Frozen, FrozenModel, ImageFile
from atha.probability import softmax
from atha.recipe import PromptRecipe, Transform


class Images(ABC):
    """Some images, in whatever form a method wants them."""

    frozen: Frozen

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def features(self) -> Float[np.ndarray, "n E"]:
        """Frozen image features, not normalised, of the plain view."""

    @abstractmethod
    def plain(self, squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """The plain view of each; see `atha.data.views.Views`."""

    @abstractmethod
    def views(self, squeeze_to_size: bool = False) -> Views:
        """What makes these views, and normalises them."""

    @abstractmethod
    def decoded(self) -> list[Image.Image]:
        """The images themselves, as they were taken."""


@dataclass(frozen=True)
class FileImages(Images):
    """Images of an episode, by their files."""

    files: Sequence[ImageFile]
    frozen: FrozenModel

    def __len__(self) -> int:
        return len(self.files)

    @property
    def features(self) -> Float[np.ndarray, "n E"]:
        """See `Images`; from the cache where they are there."""
        return self.frozen.image_features(self.files)

    def plain(self, squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """See `Images`."""
        return self.frozen.plain(self.files, squeeze_to_size)

    def views(self, squeeze_to_size: bool = False) -> Views:
        """See `Images`."""
        return self.frozen.views(squeeze_to_size)

    def decoded(self) -> list[Image.Image]:
        """See `Images`."""
        return self.frozen.decoded(self.files)


@dataclass(frozen=True)
class ViewedImages(Images):
    """Images whose plain views are made already, in the one form that is wanted of them.

    Attributes:
        made: the views.
        maker: what made them.
        frozen: the frozen backbone.
        sources: the images themselves, where a method wants them.
    """

    made: UInt8[Tensor, "n 3 H W"]
    maker: Views
    frozen: Frozen
    sources: Sequence[Image.Image] = ()

    def __len__(self) -> int:
        return len(self.made)

    @property
    def features(self) -> Float[np.ndarray, "n E"]:
        """See `Images`."""
        return self.frozen.features(self.made, self.maker)

    def plain(self, squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """See `Images`."""
        return self.made

    def views(self, squeeze_to_size: bool = False) -> Views:
        """See `Images`."""
        return self.maker

    def decoded(self) -> list[Image.Image]:
        """See `Images`."""
        return list(self.sources)


@dataclass(frozen=True)
class Support:
    """What a method may learn from. The query images are not within its reach.

    Attributes:
        images: n images.
        labels: (n,) class indices.
        texts: N class texts, as they fill the template.
        template: of the class texts.
        seed: for whatever the method draws at random; the same for all methods.
    """

    images: Images
    labels: Int[np.ndarray, "n"]
    texts: tuple[str, ...]
    template: str
    seed: int

    @property
    def frozen(self) -> Frozen:
        """The frozen backbone."""
        return self.images.frozen

    @property
    def text_features(self) -> Float[np.ndarray, "N E"]:
        """Frozen class text features, not normalised."""
        return self.frozen.text_features(self.texts, self.template)

    @property
    def one_hot(self) -> Float[np.ndarray, "n N"]:
        """The labels as rows of an identity matrix."""
        return np.asarray(np.eye(len(self.texts))[self.labels])


@dataclass(frozen=True)
class Options:
    """What a run says of all its methods.

    Attributes:
        transform: geometry of the plain view, ``cdfsl`` or ``processor``.
        precision: of forward passes: ``float32``, ``bfloat16`` or ``float16``.
        template: of class texts, where it is to differ from a recipe's own.
        overrides: ``key=value`` changes of recipes.
    """

    transform: Transform = "cdfsl"
    precision: str = "float32"
    template: str | None = None
    overrides: tuple[str, ...] = ()


class Fitted(ABC):
    """What a method learned: it classifies images and changes no more. Any number of threads may use it."""

    @abstractmethod
    def scores(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """Of every image and class: logits, or logarithms of probabilities. Each image is classified on its own."""

    def probabilities(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """Of every image and class, float64; rows sum to 1."""
        return softmax(self.scores(images))

    def state(self) -> Mapping[str, Tensor]:
        """What was learned, as tensors."""
        return {}

    def release(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what is held for speed; it is made again when it is wanted again."""


@dataclass(frozen=True)
class ByScores(Fitted):
    """A fitted model that is a function from images to scores."""

    function: Callable[[Images], Float[np.ndarray, "Q N"]]

    def scores(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """The function's."""
        return self.function(images)


@dataclass(frozen=True)
class LinearScores(Fitted):
    """Products of image features at unit length with one vector a class.

    Attributes:
        weights: of each class.
        bias: of each class; minus infinity for one that cannot be.
    """

    weights: Float[np.ndarray, "N E"]
    bias: Float[np.ndarray, "N"] | None = None

    def scores(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """Of each image's frozen features."""
        return self._scores(images.features)

    def of_features(self, features: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, "Q N"]:
        """Probabilities of images whose features are at hand."""
        return softmax(self._scores(features))

    def _scores(self, features: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, "Q N"]:
        # A stack of products of one row each: the last bits of a product depend on how many rows it has.
        found = (unit(features.astype(np.float64))[:, None] @ self.weights.T.astype(np.float64))[:, 0]
        return np.asarray(found if self.bias is None else found + self.bias)

    def state(self) -> dict[str, Tensor]:
        """Weights and bias."""
        found = {"weights": torch.from_numpy(self.weights)}
        return found if self.bias is None else found | {"bias": torch.from_numpy(self.bias)}


class Method(ABC):
    """A method to compare. A new one is a sub-class, and a line in `atha.methods.METHODS`.

    Args:
        argument: what stands after the colon of ``name:argument``, for a method that takes one.
        options: what the run says of all methods.
    """

    summary: ClassVar[str]  # one line
    takes_argument: ClassVar[bool] = False  # whether it is written name:argument
    together: ClassVar[bool] = False  # whether `fit_each` is faster than `fit` for each; its last bits may differ
    uses_recipe: ClassVar[bool] = False  # whether it is defined by a recipe, which --set can change

    def __init__(self, argument: str | None = None, options: Options = Options()) -> None:
        self.argument, self.options = argument, options

    @abstractmethod
    def fit(self, support: Support) -> Fitted:
        """Learn from the support images."""

    def fit_each(self, supports: Sequence[Support]) -> Generator[Fitted]:
        """Learn from the support images of several episodes, each by itself.

        A method that is faster at many of them overrides this and says so in `together`; nothing may be learned from
        one episode for another.

        Yields:
            For each episode what `fit` returns, to be used before the next one is asked for.
        """
        for support in supports:
            yield self.fit(support)

    def definition(self) -> dict[str, Any]:
        """All that defines the method, in plain types: results of another definition are other results.

        A sub-class adds numbers of its own, and ``template`` if it reads class texts.
        """
        return {"precision": self.options.precision}

    @property
    def template(self) -> str:
        """Of the class texts that `fit` is given."""
        return self.options.template or PromptRecipe().template

    def label(self, name: str) -> str:
        """What results are called, for the name that the method was asked for by."""
        return name


def unit(features: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "n E"]:
    """Features at length 1."""
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12))
