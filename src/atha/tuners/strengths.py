"""Alignment strengths: `TailHeadAlignment` with the strengths that a recipe starts from."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.alignment import TailHeadAlignment, Watcher
from atha.backbones import Backbone
from atha.recipe import AlignmentRecipe


class Strengths(nn.Module):
    """What aligns the inputs of vision blocks.

    Args:
        backbone: neither changed nor kept.
        recipe: ratios, strengths at the start, whether CLS is kept out.

    Raises:
        BackboneError: the backbone has no tokens that can be aligned.
    """

    def __init__(self, backbone: Backbone, recipe: AlignmentRecipe) -> None:
        super().__init__()
        backbone.check_alignable(growing=not recipe.keep_cls_out)
        pull, push = recipe.strengths(len(backbone.vision_blocks))
        self.alignment = TailHeadAlignment(
            pull, push, recipe.head_ratio, recipe.tail_ratio, backbone.prefix_tokens, recipe.keep_cls_out
        )
        self.alignment.to(backbone.device).requires_grad_(recipe.learn)
        self.kind = recipe.anchors

    @staticmethod
    def shapes(backbone: Backbone) -> dict[str, tuple[int | str, ...]]:
        """Those of `state`."""
        blocks = len(backbone.vision_blocks)
        return {"strengths.pull": (blocks,), "strengths.push": (blocks,)}

    @property
    def trained(self) -> list[nn.Parameter]:
        """Pull and push, where they are learned."""
        return [value for value in self.alignment.parameters() if value.requires_grad]

    def forward(
        self, tokens: Float[Tensor, "B M D"], anchors: Float[Tensor, "N D"], block: int, watch: Watcher | None = None
    ) -> Tensor:
        """See `TailHeadAlignment`."""
        return self.alignment(tokens, anchors, block, watch)  # type: ignore[no-any-return]

    def fixed(self) -> "FixedStrengths":
        """The same with strengths that are numbers; see `TailHeadAlignment.fixed`."""
        return FixedStrengths(self)

    def state(self) -> dict[str, Tensor]:
        """The strengths as they are now, learned or not."""
        return {"strengths.pull": self.alignment.pull.detach(), "strengths.push": self.alignment.push.detach()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take strengths from `state`."""
        for name, value in self.state().items():
            value.copy_(state[name])


class FixedStrengths(Strengths):
    """Strengths as they are at this moment, for a graph that is traced.

    Args:
        strengths: not changed.
    """

    def __init__(self, strengths: Strengths) -> None:
        nn.Module.__init__(self)
        self.kind, self.align = strengths.kind, strengths.alignment.fixed()

    def forward(
        self, tokens: Float[Tensor, "B M D"], anchors: Float[Tensor, "N D"], block: int, watch: Watcher | None = None
    ) -> Tensor:
        """See `TailHeadAlignment`."""
        return self.align(tokens, anchors, block, watch)
