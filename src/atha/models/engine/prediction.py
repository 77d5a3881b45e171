"""A transformer block for prediction: frozen weights and LoRA as they are, without what only a backward pass needs.

Shapes: as in `atha.models.engine.parts`.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from atha.models.engine.parts import (
    BlockLora,
    BlockWeights,
    activation_name,
    added_mask,
    attention_shares,
    join_heads,
    normalise,
    project_to_heads,
    split_heads,
)
from atha.models.engine.products import ACTIVATIONS


class PredictionBlock:
    """Stands in for the ``forward`` of a block of CLIP or SigLIP, without gradients.

    In float32, LoRA's product is added to copies of the weights. In bfloat16 the sum would lose most of LoRA's bits:
    there it stays beside them, as two products for all projections together.

    Args:
        block: see `atha.models.engine.parts.can_replace`.
        lora: the block's, to be trained no more; its dropout is off.
        dtype: of the products.
        rows: R, how many tokens are wanted behind the block, the first ones; None: all.
        share: another one of the same block and precision, whose frozen products are used.
    """

    @torch.no_grad()
    def __init__(
        self,
        block: Any,
        lora: BlockLora,
        dtype: torch.dtype,
        rows: int | None = None,
        share: "PredictionBlock | None" = None,
    ) -> None:
        self.norms, self.dtype, self.rows = (block.layer_norm1, block.layer_norm2), dtype, rows
        self.heads: int = block.self_attn.num_heads
        self.activation = ACTIVATIONS[activation_name(block.mlp)]
        # Where the products' weights are copies anyway, the activation's scale goes into them.
        inside = self.activation.scale if dtype != torch.float32 else 1.0
        self.outside = self.activation.scale / inside
        made = BlockWeights.of(block, dtype, True, False, inside) if share is None else share.frozen
        self.frozen: BlockWeights = made
        self.weights = self.frozen
        self.low: tuple[Tensor, Tensor] | None = None
        if not lora.projections:
            return
        if dtype == torch.float32:
            self.weights = replace(self.frozen, project=project_to_heads(block, dtype, True, False, lora))
        else:
            scaled = [b * factor for b, factor in zip(lora.b, lora.factors(block.self_attn.scale), strict=True)]
            self.low = torch.cat(lora.a).T.to(dtype), _beside(scaled, lora.projections).to(dtype)

    def __call__(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, is_causal: bool = False, **_: Any
    ) -> Tensor:
        """(B, M, D) to (B, R, D), as the block's own ``forward``."""
        batch, length, _width = hidden_states.shape
        rows = length if self.rows is None else min(self.rows, length)
        mask = added_mask(attention_mask, is_causal, hidden_states)
        with torch.autocast(hidden_states.device.type, enabled=False):
            normed = normalise(hidden_states.flatten(0, 1), self.norms[0])[0].to(self.dtype)
            projected = self.weights.project(normed)  # (T, 3 D)
            if self.low is not None:
                projected.addmm_(normed @ self.low[0], self.low[1])
            query, key, value = split_heads(projected, batch, self.heads)
            mixed = join_heads(attention_shares(query[:, :rows], key, mask, self.heads) @ value, self.heads)
            # Let go of as soon as it was used.
            del normed, projected, query, key, value
            middle = hidden_states[:, :rows].flatten(0, 1) + self.weights.out(mixed)
            inner = self._activate(normalise(middle, self.norms[1])[0].to(self.dtype))
            return middle.add_(self.weights.down(inner)).view(batch, rows, -1)

    def _activate(self, normed: Tensor) -> Tensor:
        if self.outside == 1:
            return self.weights.up(normed, self.activation)
        return self.activation.function(self.weights.up(normed).mul_(self.outside)).div_(self.outside)


def _beside(b: list[Tensor], projections: Any) -> Tensor:
    # n of (D, r) to (n r, 3 D), zero where one is of another projection.
    width, rank = b[0].shape
    found = b[0].new_zeros(len(b) * rank, 3 * width)
    for number, (place, own) in enumerate(zip(projections, b, strict=True)):
        found[number * rank : (number + 1) * rank, place * width : (place + 1) * width] = own.T
    return found
