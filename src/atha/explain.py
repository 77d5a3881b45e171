"""Where a model looks: the similarity of every patch token to every class text, at the input of every vision block.

What is shown is what was computed with: similarity and selection are taken out of the alignment step of the forward
pass itself. A model without alignment has no such step; there the same scoring runs beside its forward pass.

Shapes: B images, M tokens (P of them prefix), R rows and C columns of patches, N classes, K vision blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from atha.alignment import Selection, select_tokens
from atha.classes import Classes
from atha.data.images import ImageInput, image_name
from atha.errors import DataError
from atha.methods.base import Fitted
from atha.methods.images import Images
from atha.prediction import Predictor
from atha.probability import softmax
from atha.recipe import Recipe

#: One block by its number from 0, or the sum over all.
Block = int | Literal["sum"]

#: Anchors, head ratio and tail ratio to look with, where a recipe has no alignment.
UNALIGNED: tuple[Literal["adjoint", "inverse"], float, float] = ("adjoint", 0.1, 0.1)


class Step(NamedTuple):
    """The scoring of one block's input: M tokens, and what was selected of them; see `atha.alignment.Selection`."""

    tokens: Float[Tensor, "B M D"]
    selection: Selection


class Watch:
    """Keeps the scoring of every vision block's input in one forward pass; see `Encoder.images`.

    Args:
        anchors: class texts in token space.
        head_ratio: share of the patches to select as head.
        tail_ratio: share of the patches to select as tail.
        prefix: how many tokens stand before the patches.
        own: whether to keep the selection of the alignment itself, where there is one, and not these.
    """

    def __init__(
        self, anchors: Float[Tensor, "N D"], head_ratio: float, tail_ratio: float, prefix: int, own: bool = True
    ) -> None:
        self._anchors, self._ratios, self._prefix, self._own = anchors, (head_ratio, tail_ratio), prefix, own
        self.steps: dict[int, Step] = {}

    def __call__(self, block: int, tokens: Float[Tensor, "B M D"], selection: Selection | None) -> None:
        """Keep one block's."""
        if selection is None or not self._own:
            selection = select_tokens(tokens, self._anchors, *self._ratios, self._prefix)
        self.steps[block] = Step(tokens.detach(), Selection(*(value.detach() for value in selection)))


@dataclass(frozen=True)
class TokenMaps:
    """One image in one state of the model.

    Attributes:
        similarity: (K, R, C, N), cosine of each patch token and each class anchor at the input of each block.
        head: (K, R, C), the patches closest to any class, that a pull moves.
        tail: (K, R, C), the patches farthest from every class, that a push moves.
        pull: (K,) strength with which the head is moved in this state; 0 means selected but not moved.
        push: (K,) strength with which the tail is moved away; the same, and a negative one pulls.
        prefix_similarity: for each block, (P, N) of the tokens that are no patches.
        prefix_head: (K,) how many of these were selected as head: 0, but for the preset ``released``.
        prefix_tail: (K,) the same for the tail.
        probabilities: (N,) of the classes, from the same forward pass.
        anchors: what patches are compared with, in one sentence.
    """

    similarity: Float[np.ndarray, "K R C N"]
    head: Bool[np.ndarray, "K R C"]
    tail: Bool[np.ndarray, "K R C"]
    pull: Float[np.ndarray, "K"]
    push: Float[np.ndarray, "K"]
    prefix_similarity: tuple[Float[np.ndarray, "P N"], ...]
    prefix_head: Int[np.ndarray, "K"]
    prefix_tail: Int[np.ndarray, "K"]
    probabilities: Float[np.ndarray, "N"]
    anchors: str

    @property
    def blocks(self) -> int:
        """K."""
        return len(self.similarity)

    @property
    def moves(self) -> bool:
        """Whether any token is moved at any block."""
        return bool((self.pull != 0).any() or (self.push != 0).any())

    def heat(self, label: int, block: Block = "sum") -> Float[np.ndarray, "R C"]:
        """Similarity of each patch to one class: cosines, or their sum over blocks.

        Args:
            label: position of the class.
            block: number of a block, from 0, or ``sum``.

        Raises:
            DataError: there is no such block.
        """
        chosen = self.similarity[..., label]
        return np.asarray(chosen.sum(axis=0) if block == "sum" else chosen[self.check(block)])

    def marks(self, block: Block = "sum") -> tuple[Int[np.ndarray, "R C"], Int[np.ndarray, "R C"]]:
        """At how many of the blocks shown each patch is head, and tail.

        Args:
            block: number of a block, from 0, or ``sum``.

        Raises:
            DataError: there is no such block.
        """
        return tuple(
            (mask.sum(axis=0) if block == "sum" else mask[self.check(block)].astype(int))
            for mask in (self.head, self.tail)
        )

    def check(self, block: int) -> int:
        """The block's number, if there is such a block.

        Raises:
            DataError: there is not.
        """
        if not 0 <= block < self.blocks:
            raise DataError(f"there is no block {block}, the model's are 0 to {self.blocks - 1}")
        return block

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """All arrays in plain types, for JSON.

        Args:
            classes: labels, in the order of the probabilities.
        """
        return {
            "similarity": self.similarity.tolist(),
            "head": self.head.tolist(),
            "tail": self.tail.tolist(),
            "pull": self.pull.tolist(),
            "push": self.push.tolist(),
            "prefix_similarity": [values.tolist() for values in self.prefix_similarity],
            "prefix_head": self.prefix_head.tolist(),
            "prefix_tail": self.prefix_tail.tolist(),
            "probabilities": dict(zip(classes, self.probabilities.tolist(), strict=True)),
            "anchors": self.anchors,
        }


@dataclass(frozen=True)
class Explanation:
    """Token maps of one image, before and after adaptation.

    Attributes:
        file: as given.
        classes: N labels, in the order of the last axis of similarities.
        photo: (H, W, 3) uint8, the image as it was decoded.
        view: (h, w, 3) uint8, the image as the model saw it.
        box: left, top, right and bottom edge of what the model saw, in pixels of the photo.
        before: the frozen model, zero-shot.
        after: the adapted model; None before `fit`.
        votes: (N,) probabilities by each member of a blend by itself, as sure as its weight makes it; else empty.
    """

    file: str
    classes: tuple[str, ...]
    photo: UInt8[np.ndarray, "H W 3"]
    view: UInt8[np.ndarray, "h w 3"]
    box: tuple[float, float, float, float]
    before: TokenMaps
    after: TokenMaps | None
    votes: Mapping[str, Float[np.ndarray, "N"]] = field(default_factory=dict)

    @property
    def states(self) -> dict[str, TokenMaps]:
        """``before`` and, where there is one, ``after``."""
        return {"before": self.before} | ({} if self.after is None else {"after": self.after})

    @property
    def last(self) -> TokenMaps:
        """The adapted model's, else the frozen one's."""
        return self.before if self.after is None else self.after

    @property
    def label(self) -> str:
        """The class that is predicted."""
        return self.classes[int(self.last.probabilities.argmax())]

    def index(self, label: str) -> int:
        """Position of a class.

        Args:
            label: its own.

        Raises:
            DataError: no such class.
        """
        if label not in self.classes:
            raise DataError(f"there is no class '{label}', the classes are {', '.join(self.classes)}")
        return self.classes.index(label)

    def to_dict(self) -> dict[str, Any]:
        """All but the pixels, in plain types, for JSON. Similarities are indexed by block, row, column, class."""
        return {
            "file": self.file,
            "classes": list(self.classes),
            "label": self.label,
            "photo_size": [self.photo.shape[1], self.photo.shape[0]],
            "box": list(self.box),
            "grid": list(self.before.head.shape[1:]),
            "blocks": self.before.blocks,
            **{name: maps.to_dict(self.classes) for name, maps in self.states.items()},
            "votes": {name: dict(zip(self.classes, vote.tolist(), strict=True)) for name, vote in self.votes.items()},
        }


@torch.no_grad()
def explain(
    image: ImageInput, predictor: Predictor, classes: Classes, frozen: Fitted, fitted: Fitted | None, recipe: Recipe
) -> Explanation:
    """Look at one image with the frozen model and with a fitted one.

    Args:
        image: to look at.
        predictor: reads the image and makes views of it.
        classes: that it may be of.
        frozen: the zero-shot model.
        fitted: the adapted model; None: there is none.
        recipe: that says how tokens are aligned.

    Raises:
        DataError: the image cannot be read.
    """
    photo = predictor.reader.open(image)
    plain = predictor.views.plain(photo)
    images = predictor.viewed([plain])
    return Explanation(
        image_name(image) if isinstance(image, str | Path) else "image",
        classes.labels,
        np.asarray(photo),
        plain.permute(1, 2, 0).numpy(),
        predictor.views.visible_box(photo.size),
        look_inside(frozen, images, classes.texts, recipe),
        None if fitted is None else look_inside(fitted, images, classes.texts, recipe),
        {} if fitted is None else {name: rows[0] for name, rows in fitted.votes(images).items()},
    )


def look_inside(fitted: Fitted, images: Images, texts: Sequence[str], recipe: Recipe) -> TokenMaps:
    """The token maps of one image, as a fitted model classifies it.

    Args:
        fitted: the model.
        images: the one image.
        texts: N class texts.
        recipe: says what patches are compared with, and how many are head and tail; see `UNALIGNED`.
    """
    settings, backbone = recipe.alignment, images.frozen.backbone
    kind, head, tail = (settings.anchors, settings.head_ratio, settings.tail_ratio) if settings else UNALIGNED
    anchors = fitted.anchors(images.frozen, texts, recipe.prompt.template, kind)
    watch = Watch(anchors, head, tail, backbone.prefix_tokens)
    probabilities = softmax(fitted.look(images, watch))[0]
    sentence = describe_anchors(kind, bool(fitted.tuners.parts))
    return token_maps(watch.steps, backbone.grid, fitted.strengths, probabilities, sentence)


def token_maps(
    steps: dict[int, Step],
    grid: tuple[int, int],
    strengths: tuple[Sequence[float], Sequence[float]] | None,
    probabilities: Float[np.ndarray, "N"],
    anchors: str,
) -> TokenMaps:
    """The maps of the first image of a watched forward pass.

    Args:
        steps: of a `Watch`.
        grid: rows and columns of patches; they are the last tokens of a sequence, row by row.
        strengths: pull and push of each block; None where nothing is moved.
        probabilities: of the classes, from the same pass.
        anchors: what they are, in one sentence.
    """
    patches = grid[0] * grid[1]
    similarity, prefixes, masks, counts = [], [], ([], []), ([], [])  # type: ignore[var-annotated]
    for block in sorted(steps):
        selection = steps[block].selection
        scores = selection.similarity[0].float().cpu().numpy()
        # Where prefix tokens compete with the patches, they are scored and counted too; else patches alone are.
        scored_prefix = len(scores) - patches
        similarity.append(scores[scored_prefix:].reshape(*grid, -1))
        prefixes.append(scores[:scored_prefix])
        for indices, mask, count in zip((selection.head, selection.tail), masks, counts, strict=True):
            chosen = np.zeros(len(scores), dtype=bool)
            chosen[indices[0].cpu().numpy()] = True
            mask.append(chosen[scored_prefix:].reshape(grid))
            count.append(int(chosen[:scored_prefix].sum()))
    pull, push = strengths if strengths is not None else ([0.0] * len(steps),) * 2
    return TokenMaps(
        np.stack(similarity),
        np.stack(masks[0]),
        np.stack(masks[1]),
        np.array(pull, dtype=np.float32),
        np.array(push, dtype=np.float32),
        tuple(prefixes),
        np.array(counts[0]),
        np.array(counts[1]),
        probabilities,
        anchors,
    )


def describe_anchors(kind: Literal["adjoint", "inverse"], adapted: bool) -> str:
    """What patches are compared with, in one sentence."""
    return f"The class texts of the {'adapted' if adapted else 'frozen'} model in token space ({kind} anchors)."
