"""Adaptive tail-head alignment: score the patch tokens, select head and tail, pull the one and push the other.

Source: "Adaptive Tail-Head Alignment" (ATHA), arXiv 2605.29776, section "Method". Plain tensors; torch alone.

Shapes: B images, P prefix tokens (CLS), L patch tokens, D token width, N classes, K blocks.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Selection(NamedTuple):
    """Which patch tokens one alignment step moves, and why. Indices count patch tokens, prefix tokens left out."""

    similarity: Float[Tensor, "B L N"]  # s_ij, cosine of patch token i and class anchor j
    head: Int[Tensor, "B H"]  # the floor(L * head_ratio) tokens closest to any class
    tail: Int[Tensor, "B T"]  # the floor(L * tail_ratio) tokens farthest from every class


#: Told of a block's number, its input and what is selected of it; of nothing where nothing is aligned.
Watcher = Callable[[int, Tensor, Selection | None], None]
#: Aligns tokens with anchors at the input of a block, by its number, and tells a watcher if there is one.
Aligner = Callable[..., Tensor]


def selected_count(patches: int, ratio: float) -> int:
    """floor(patches * ratio), exact for decimal ratios: 0.29 of 100 is 29 although the float product is below."""
    return math.floor(patches * ratio + 1e-9)


@torch.no_grad()
def select_tokens(
    tokens: Float[Tensor, "B P+L D"],
    anchors: Float[Tensor, "N D"],
    head_ratio: float = 0.1,
    tail_ratio: float = 0.1,
    prefix: int = 1,
) -> Selection:
    """Score every patch token against every class anchor and select head and tail (steps 1 and 2).

    Always in float32, autocast or not: a selection must not flip with the precision of the rest. No gradient, as
    the method takes none through the selection.

    Args:
        tokens: input of a vision block.
        anchors: class texts in token space.
        head_ratio: share of the patch tokens to pull, 0 to 1.
        tail_ratio: share of the patch tokens to push, 0 to 1.
        prefix: number of leading tokens that are no patches (CLS: 1; none: 0).

    Raises:
        ValueError: ratios outside 0 to 1, or widths of tokens and anchors that differ.
    """
    for name, ratio in (("head_ratio", head_ratio), ("tail_ratio", tail_ratio)):
        if not 0 <= ratio <= 1:
            raise ValueError(f"{name} is {ratio}, it must lie between 0 and 1")
    if tokens.shape[-1] != anchors.shape[-1]:
        raise ValueError(f"tokens have width {tokens.shape[-1]} and anchors {anchors.shape[-1]}, they must be equal")
    with torch.autocast(tokens.device.type, enabled=False):
        patches = nn.functional.normalize(tokens[:, prefix:].float(), dim=-1)
        similarity = patches @ nn.functional.normalize(anchors.float(), dim=-1).T
    best = similarity.amax(dim=-1)  # m_i
    heads, tails = (selected_count(best.shape[1], ratio) for ratio in (head_ratio, tail_ratio))
    return Selection(
        similarity,
        best.topk(heads, dim=1, largest=True).indices,
        best.topk(tails, dim=1, largest=False).indices,
    )


def align_tokens(
    tokens: Float[Tensor, "B P+L D"],
    anchors: Float[Tensor, "N D"],
    pull: float | Float[Tensor, ""],
    push: float | Float[Tensor, ""],
    head_ratio: float = 0.1,
    tail_ratio: float = 0.1,
    prefix: int = 1,
) -> Float[Tensor, "B P+L D"]:
    """One alignment step at the input of a vision block (step 3).

    Head tokens move by ``+pull`` times the anchor of their most similar class, tail tokens by ``-push`` times the
    anchor of their least similar class; a token in both sets gets both moves. Prefix tokens and all others stay as
    they are, and so does the number of tokens. Gradients reach tokens, anchors and strengths.

    Args:
        tokens: input of the block, before its first LayerNorm.
        anchors: class texts in token space, see `atha.anchors`.
        pull: alpha, the strength of the pull.
        push: beta, the strength of the push; a negative value pulls the tail.
        head_ratio: rho, share of the patch tokens to pull, 0 to 1.
        tail_ratio: gamma, share of the patch tokens to push, 0 to 1.
        prefix: number of leading tokens that are no patches (CLS: 1; none: 0).

    Returns:
        The moved tokens, shape and dtype of ``tokens``.

    Raises:
        ValueError: ratios outside 0 to 1, or widths of tokens and anchors that differ.
    """
    selection = select_tokens(tokens, anchors, head_ratio, tail_ratio, prefix)
    return move_tokens(tokens, anchors, selection, pull, push, prefix)


def move_tokens(
    tokens: Float[Tensor, "B P+L D"],
    anchors: Float[Tensor, "N D"],
    selection: Selection,
    pull: float | Float[Tensor, ""],
    push: float | Float[Tensor, ""],
    prefix: int = 1,
) -> Float[Tensor, "B P+L D"]:
    """Step 3 alone, for tokens that are selected already; see `align_tokens`."""
    anchors = anchors.to(tokens.dtype)
    nearest, farthest = selection.similarity.argmax(dim=-1), selection.similarity.argmin(dim=-1)
    starts = torch.arange(prefix, tokens.shape[0] * tokens.shape[1], tokens.shape[1], device=tokens.device)[:, None]
    moved = tokens.flatten(0, 1)  # whole rows are added: faster than `scatter_add`, which takes single numbers
    for indices, strength, classes in ((selection.head, pull, nearest), (selection.tail, -push, farthest)):
        move = strength * anchors.index_select(0, classes.gather(1, indices).flatten())  # (B H or B T, D)
        moved = moved.index_add(0, (starts + indices).flatten(), move.to(tokens.dtype))
    return moved.view_as(tokens)


class TailHeadAlignment(nn.Module):
    """The learnable part of the method: one pull and one push strength per vision block.

    Args:
        pull: alpha at the start, one value per block.
        push: beta at the start, one value per block.
        head_ratio: rho, share of the patch tokens to pull, 0 to 1.
        tail_ratio: gamma, share of the patch tokens to push, 0 to 1.
        prefix: number of leading tokens that are no patches.
        keep_prefix_out: False reproduces the released code, where a dropout value in the slot of a flag lets the
            prefix compete for head and tail and puts one more copy of it in front at every block.

    Raises:
        ValueError: ``pull`` and ``push`` have different lengths.
    """

    def __init__(
        self,
        pull: list[float],
        push: list[float],
        head_ratio: float = 0.1,
        tail_ratio: float = 0.1,
        prefix: int = 1,
        keep_prefix_out: bool = True,
    ) -> None:
        super().__init__()
        if len(pull) != len(push):
            raise ValueError(f"there are {len(pull)} pull and {len(push)} push strengths, give one of each per block")
        self.pull = nn.Parameter(torch.tensor(pull))
        self.push = nn.Parameter(torch.tensor(push))
        self.head_ratio, self.tail_ratio = head_ratio, tail_ratio
        self.prefix, self.keep_prefix_out = prefix, keep_prefix_out

    def forward(
        self, tokens: Float[Tensor, "B M D"], anchors: Float[Tensor, "N D"], block: int, watch: Watcher | None = None
    ) -> Tensor:
        """Align the input of block ``block``; see `align_tokens` for shapes.

        Args:
            tokens: input of the block.
            anchors: class texts in token space.
            block: its number.
            watch: told of the selection.
        """
        return self._step(tokens, anchors, block, (self.pull[block], self.push[block]), self.pull.requires_grad, watch)

    def fixed(self) -> "Aligner":
        """The same with strengths that are numbers: a graph that is traced of it leaves out what moves nothing."""
        pull, push = self.pull.tolist(), self.push.tolist()

        def align(tokens: Tensor, anchors: Tensor, block: int, watch: Watcher | None = None) -> Tensor:
            return self._step(tokens, anchors, block, (pull[block], push[block]), False, watch)

        return align

    def _step(
        self,
        tokens: Tensor,
        anchors: Tensor,
        block: int,
        strengths: tuple[float | Tensor, float | Tensor],
        learns: bool,
        watch: Watcher | None,
    ) -> Tensor:
        pull, push = strengths
        idle = self.keep_prefix_out and not (learns or pull or push)
        if idle and watch is None:
            return tokens
        prefix = self.prefix if self.keep_prefix_out else 0
        selection = select_tokens(tokens, anchors, self.head_ratio, self.tail_ratio, prefix)
        if watch is not None:
            watch(block, tokens, selection)
        if idle:
            return tokens
        moved = move_tokens(tokens, anchors, selection, pull, push, prefix)
        return moved if self.keep_prefix_out else torch.cat([tokens[:, : self.prefix], moved], dim=1)

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        return f"blocks={len(self.pull)}, head_ratio={self.head_ratio}, tail_ratio={self.tail_ratio}"
