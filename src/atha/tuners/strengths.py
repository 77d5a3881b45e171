"""Alignment strengths: `TailHeadAlignment` hooked in front of every vision block of a backbone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from atha.alignment import TailHeadAlignment
from atha.backbones import Backbone
from atha.recipe import AlignmentRecipe


class HookedAlignment:
    """Aligns the input of each vision block while anchors are set.

    Args:
        backbone: hooks go on its vision blocks; nothing else of it changes.
        recipe: ratios, strengths at the start, whether CLS is kept out.
        groups: how many episodes' images go through together, one after the other; each has strengths of its own.

    Raises:
        BackboneError: the backbone has no tokens that can be aligned.
    """

    def __init__(self, backbone: Backbone, recipe: AlignmentRecipe, groups: int = 1) -> None:
        backbone.check_alignable(growing=not recipe.keep_cls_out)
        pull, push = recipe.strengths(len(backbone.vision_blocks))
        self.of_groups = [
            TailHeadAlignment(
                pull, push, recipe.head_ratio, recipe.tail_ratio, backbone.prefix_tokens, recipe.keep_cls_out
            )
            .to(backbone.device)
            .requires_grad_(recipe.learn)
            for _ in range(groups)
        ]
        self.kind = recipe.anchors
        self._anchors: Tensor | None = None
        self._handles = [
            block.register_forward_pre_hook(self._hook(index), with_kwargs=True)
            for index, block in enumerate(backbone.vision_blocks)
        ]

    @property
    def alignment(self) -> TailHeadAlignment:
        """Of the first group."""
        return self.of_groups[0]

    def _align(self, tokens: Tensor, anchors: Tensor, block: int) -> Tensor:
        if anchors.ndim == 2:
            return self.alignment(tokens, anchors, block)  # type: ignore[no-any-return]
        parts = zip(self.of_groups, tokens.chunk(len(anchors)), anchors, strict=True)
        return torch.cat([alignment(part, own, block) for alignment, part, own in parts])

    def _hook(self, index: int) -> Any:
        def align(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            if self._anchors is None:
                return None
            if args:
                return (self._align(args[0], self._anchors, index), *args[1:]), kwargs
            tokens = self._align(kwargs["hidden_states"], self._anchors, index)
            return args, {**kwargs, "hidden_states": tokens}

        return align

    @contextmanager
    def towards(self, anchors: Tensor) -> Iterator[None]:
        """Align towards ``anchors``, (N, D) or one such for each group, for as long as the context lasts."""
        self._anchors = anchors
        try:
            yield
        finally:
            self._anchors = None

    def detach(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
