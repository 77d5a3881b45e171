"""What a benchmark compares: a method learns from an episode's support images and classifies its query images.

Shapes: n support images, Q query images, N classes, E joint width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from atha.methods.frozen import FrozenModel, ImageFile
from atha.recipe import PromptRecipe, Transform

#: Classifies query images: -> (Q, N), rows sum to 1.
Predictor = Callable[["Images"], Float[np.ndarray, "Q N"]]


@dataclass(frozen=True)
class Images:
    """Some images of an episode, in whatever form a method wants them."""

    files: Sequence[ImageFile]
    frozen: FrozenModel

    def __len__(self) -> int:
        return len(self.files)

    @property
    def features(self) -> Float[np.ndarray, "n E"]:
        """Frozen image features, not normalised, of the plain view."""
        return self.frozen.image_features(self.files)

    def plain(self, squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """The plain view of each; see `atha.data.views.Views`."""
        return self.frozen.plain(self.files, squeeze_to_size)

    def decoded(self) -> list[Image.Image]:
        """The images themselves, as they were taken."""
        return self.frozen.decoded(self.files)


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
    def frozen(self) -> FrozenModel:
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
    def fit(self, support: Support) -> Predictor:
        """Learn from the support images.

        Returns:
            A function that classifies query images, each on its own: nothing may be learned from them.
        """

    def fit_each(self, supports: Sequence[Support]) -> Generator[Predictor]:
        """Learn from the support images of several episodes, each by itself.

        A method that is faster at many of them overrides this and says so in `together`; nothing may be learned from
        one episode for another.

        Yields:
            For each episode what `fit` returns, to be used before the next one is asked for.
        """
        for support in supports:
            yield self.fit(support)
            self.release()

    def release(self) -> None:  # noqa: B027 - most methods leave the backbone alone
        """Give the backbone back as it was; called after each episode, whatever happened."""

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


def softmax(logits: Float[np.ndarray, "Q N"]) -> Float[np.ndarray, "Q N"]:
    """Probabilities of logits, in float64."""
    return torch.from_numpy(np.asarray(logits, dtype=np.float64)).softmax(dim=-1).numpy()
