"""A method learns from labelled images and gives a fitted model: what a benchmark compares, what `fit` ships.

Shapes: n support images, Q query images, N classes, E joint width.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atha.alignment import Watcher
from atha.errors import AdapterError, ExportError
from atha.methods.images import Images
from atha.models.encoder import Encoder
from atha.models.frozen import Frozen
from atha.probability import softmax
from atha.recipe import PromptRecipe, Recipe, Transform
from atha.tuners import Tuners


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

    def take(self, places: Sequence[int]) -> "Support":
        """Some of the images; the classes stay."""
        return replace(self, images=self.images.take(places), labels=self.labels[list(places)])

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


@dataclass(frozen=True)
class Counterpart:
    """The nearest thing to a fitted model among models of two towers and class texts at a scale.

    Attributes:
        tuners: LoRA and learned context.
        scale: of the cosines.
        left_out: what it lacks, in sentences without an end.
    """

    tuners: Tuners
    scale: float
    left_out: tuple[str, ...] = ()


class Fitted(ABC):
    """What a method learned: it classifies images and changes no more. Any number of threads may use it.

    A sub-class with a ``kind``, ``class Mine(Fitted, kind="mine")``, can be saved: beside the recipe and the frozen
    backbone that it is used with, `definition` and `state` are then all that it is, and `restore` makes it again of
    them. A model of several others gives their definitions within its own, and their tensors under names of its own.
    """

    kind: ClassVar[str | None] = None  # what a saved one is told by

    def __init_subclass__(cls, kind: str | None = None) -> None:
        super().__init_subclass__()
        cls.kind = kind  # never that of its base, which would be restored in its place
        if kind is None:
            return
        if cls.restore.__qualname__ == "Fitted.restore":
            raise TypeError(
                f"{cls.__name__} has the kind '{kind}' and could be saved but not loaded: give it a restore"
            )
        there = KINDS.setdefault(kind, cls)
        if (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"there is a fitted model of kind '{kind}' already, {there.__qualname__}: name it apart")
        KINDS[kind] = cls  # of a module that was imported again

    @abstractmethod
    def scores(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """Of every image and class: logits, or logarithms of probabilities. Each image is classified on its own."""

    def probabilities(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """Of every image and class, float64; rows sum to 1."""
        return softmax(self.scores(images))

    def state(self) -> Mapping[str, Tensor]:
        """What was learned, as tensors."""
        return {}

    def definition(self) -> dict[str, Any]:
        """All of it that is neither tensor nor recipe, in plain types, with its ``kind``.

        Raises:
            AdapterError: it is of no kind that can be saved.
        """
        if self.kind is None:
            raise AdapterError(f"{type(self).__name__} cannot be saved: give a fitted model of {', '.join(KINDS)}")
        return {"kind": self.kind}

    @classmethod
    def restore(
        cls, definition: Mapping[str, Any], tensors: Mapping[str, Tensor], recipe: Recipe, frozen: Frozen
    ) -> "Fitted":
        """One that was saved; see the function `restore`, which knows the class by the definition's kind.

        Every class with a kind has its own; see `__init_subclass__`.
        """
        raise AdapterError(f"{cls.__name__} is of no kind that can be saved, and none was")

    def graph(self, frozen: Frozen) -> nn.Module:
        """The same function as one plain module, for `atha.export`: normalised plain views to `scores`, float32.

        It is traced, so that nothing in it may depend on values or on the number of images but by torch's functions,
        and each image is to be classified on its own. Weights may be shared.

        Args:
            frozen: the backbone, on the CPU.

        Raises:
            ExportError: there is none, and why.
        """
        raise ExportError(f"{type(self).__name__} has no graph, so that it cannot be exported: give it one")

    def counterpart(self, frozen: Frozen) -> Counterpart:
        """What of it a plain checkpoint of the backbone's library can hold, for `atha.export`.

        Args:
            frozen: the backbone.

        Raises:
            ExportError: nothing.
        """
        raise ExportError(
            f"nothing of a fitted model of kind '{self.kind}' is in a plain checkpoint, which has images and class "
            "texts alone: use --format onnx or torch"
        )

    def with_texts(self, frozen: Frozen, texts: Sequence[str], template: str) -> "Fitted":
        """The same model, with what was made of its class texts made again; most make nothing of them.

        Args:
            frozen: the backbone, in the precision that they are to be read in.
            texts: N class texts.
            template: of the class texts.
        """
        return self

    def release(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what is held for speed; it is made again when it is wanted again."""

    @property
    def classes(self) -> int | None:
        """How many classes it tells apart; None where it does not say."""
        return None

    @property
    def tuners(self) -> Tuners:
        """What was trained inside the backbone; of most, nothing."""
        return Tuners()

    @property
    def strengths(self) -> tuple[list[float], list[float]] | None:
        """Pull and push of each vision block; None where nothing is moved."""
        found = self.tuners.strengths
        return None if found is None else (found.alignment.pull.tolist(), found.alignment.push.tolist())

    @property
    def trained(self) -> dict[str, int]:
        """How many values were learned, by what they are part of."""
        return {name: value.numel() for name, value in self.state().items()}

    @property
    def losses(self) -> list[float]:
        """Of each training step, where there are any."""
        return []

    def look(self, images: Images, watch: Watcher | None = None) -> Float[np.ndarray, "Q N"]:
        """`scores`, with the tokens watched that they are made of: those of the frozen backbone, if nothing is tuned.

        Args:
            images: one, where it is watched.
            watch: see `Encoder.images`.
        """
        if watch is not None:
            images.frozen.features(images.plain(), images.views(), watch)
        return self.scores(images)

    def votes(self, images: Images) -> dict[str, Float[np.ndarray, "Q N"]]:
        """Probabilities by each member by itself, of a model that has members."""
        return {}

    def plain(self) -> "Fitted":
        """The model that looks at the plain view of an image alone; most do so anyway."""
        return self

    def anchors(
        self, frozen: Frozen, texts: Sequence[str], template: str, kind: Literal["adjoint", "inverse"]
    ) -> Float[Tensor, "N D"]:
        """The class texts in token space, as the model reads them.

        Args:
            frozen: the frozen backbone.
            texts: N class texts.
            template: of the class texts.
            kind: of the map.
        """
        return text_anchors(frozen.encoder, texts, template, kind)


@torch.no_grad()
def text_anchors(
    encoder: Encoder, texts: Sequence[str], template: str, kind: Literal["adjoint", "inverse"]
) -> Float[Tensor, "N D"]:
    """Class texts in the token space of a view; see `Fitted.anchors`."""
    anchors = encoder.texts(encoder.backbone.prompts(texts, template), kind).anchors
    assert anchors is not None
    return anchors


#: What can be saved, by its kind.
KINDS: dict[str, type[Fitted]] = {}


def restore(definition: Mapping[str, Any], tensors: Mapping[str, Tensor], recipe: Recipe, frozen: Frozen) -> Fitted:
    """A fitted model that was saved.

    Args:
        definition: see `Fitted.definition`.
        tensors: see `Fitted.state`.
        recipe: the resolved one that it was fitted by.
        frozen: the frozen backbone that it was fitted on.

    Raises:
        AdapterError: this version knows no such kind.
        KeyError: a value of the definition is missing.
        ValueError: a value is not what it should be; a `TensorError`, of a tensor.
    """
    kind = definition["kind"]
    if kind not in KINDS:
        raise AdapterError(f"a fitted model of kind '{kind}' is not known, this version knows {', '.join(KINDS)}")
    return KINDS[kind].restore(definition, tensors, recipe, frozen)


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


def products(rows: Float[np.ndarray, "n E"], vectors: Float[np.ndarray, "N E"]) -> Float[np.ndarray, "n N"]:
    """Of every row with every vector, in float64.

    A stack of products of one row each: the last bits of a product depend on how many rows it has.
    """
    return np.asarray((rows.astype(np.float64)[:, None] @ vectors.T.astype(np.float64))[:, 0])


def cosines(images: Float[np.ndarray, "n E"], texts: Float[np.ndarray, "N E"]) -> Float[np.ndarray, "n N"]:
    """Of every image with every text, in float64; those of an image depend on no other."""
    return products(unit(images.astype(np.float64)), unit(texts.astype(np.float64)))
