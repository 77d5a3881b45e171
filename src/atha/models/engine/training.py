"""A transformer block as one autograd function, for training beside frozen weights.

A frozen block with LoRA on its attention inputs has few matrix products, and many small operations around them that
autograd and autocast repeat in every step. Here the whole block has a backward pass by hand, which takes no gradient
for frozen weights, has them in the precision of the products once and for all, and adds LoRA's part in place.
Modules and parameters are those of the model; results differ from theirs by rounding.

Several episodes can share one pass: their sequences follow each other, the frozen products are one for all, and each
has a LoRA of its own.

Shapes: as in `atha.models.engine.parts`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atha.models.engine.parts import (
    BlockLora,
    BlockWeights,
    activation_name,
    added_mask,
    attention_shares,
    join_heads,
    normalise,
    products_dtype,
    split_heads,
)
from atha.models.engine.products import ACTIVATIONS
from atha.tuners.dropout import mask_for, masked

_ATEN = torch.ops.aten


class TrainingBlock:
    """Stands in for the ``forward`` of a block of CLIP or SigLIP, with gradients for LoRA and tokens alone.

    Args:
        block: see `atha.models.engine.parts.can_replace`.
        lora: the block's.
        rows: R, how many tokens are wanted behind the block, the first ones; None: all.
        pack: pays where there are many tokens, and takes memory.
    """

    def __init__(self, block: Any, lora: BlockLora, rows: int | None = None, pack: bool = True) -> None:
        self.block, self.lora, self.rows, self.pack = block, lora, rows, pack
        self._weights: dict[torch.dtype, BlockWeights] = {}
        self.heads: int = block.self_attn.num_heads
        self.activation = ACTIVATIONS[activation_name(block.mlp)]
        self.factors = lora.factors(block.self_attn.scale)

    def weights(self, dtype: torch.dtype) -> BlockWeights:
        """The frozen products, made at the first use. They go with this object: memory is dearer than making them."""
        if dtype not in self._weights:
            self._weights[dtype] = BlockWeights.of(self.block, dtype, self.pack, True, self.activation.scale)
        return self._weights[dtype]

    def __call__(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, is_causal: bool = False, **_: Any
    ) -> Tensor:
        """(B, M, D) to (B, R, D), as the block's own ``forward``; the products are in autocast's precision."""
        dtype, mask = products_dtype(hidden_states), added_mask(attention_mask, is_causal, hidden_states)
        with torch.autocast(hidden_states.device.type, enabled=False):
            return _Block.apply(hidden_states, self, dtype, mask, *self.lora.a, *self.lora.b)  # type: ignore[no-any-return]


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, fused: TrainingBlock, dtype: torch.dtype, mask: Tensor | None, *matrices: Tensor
    ) -> Tensor:
        block, lora, weights = fused.block, fused.lora, fused.weights(dtype)
        batch, length, width = tokens.shape
        rows = length if fused.rows is None else min(fused.rows, length)
        # Attention's input, and LoRA's part of it.
        normed, *moments1 = normalise(tokens.flatten(0, 1), block.layer_norm1)
        normed = normed.to(dtype)
        projected = weights.project(normed)  # (T, 3 D)
        keep = lora_a = lora_b = low = None
        if lora.projections:
            lora_a, lora_b = _stack(matrices, fused.factors.to(normed.device), dtype)  # (n G, r, D), (n G, D, r)
            keep = lora.keep(batch, length, width, normed.device)
            low = normed.new_empty(len(lora_a), len(normed) // lora.groups, lora_a.shape[1])  # (n G, t, r)
            drop = _Drop(normed, keep, lora)
            for place, (a, b, z, part) in enumerate(zip(lora_a, lora_b, low, _parts(projected, lora), strict=True)):
                torch.mm(drop(place), a.T, out=z)
                part.addmm_(z, b.T)
            del drop, part
        query, key, value = split_heads(projected, batch, fused.heads)
        del projected
        shares = attention_shares(query[:, :rows], key, mask, fused.heads)
        mixed = join_heads(shares @ value, fused.heads)
        # In place, both float32: a sum of two kinds of numbers takes seven times as long.
        middle = weights.out(mixed).to(tokens.dtype).add_(tokens[:, :rows].flatten(0, 1))
        del mixed
        # The MLP.
        normed2, *moments2 = normalise(middle, block.layer_norm2)
        inner = weights.up(normed2.to(dtype))
        del normed2
        result = weights.down(fused.activation.function(inner)).to(middle.dtype).add_(middle)
        ctx.fused, ctx.weights, ctx.rows = fused, weights, rows
        ctx.save_for_backward(
            tokens, normed, keep, lora_a, lora_b, low, query, key, value, shares, middle, inner, *moments1, *moments2
        )
        return result.view(batch, rows, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        fused, weights, rows = ctx.fused, ctx.weights, ctx.rows
        tokens, normed, keep, lora_a, lora_b, low, query, key, value, shares, middle, inner, *moments = (
            ctx.saved_tensors
        )
        batch, length, width = tokens.shape
        lora, dtype = fused.lora, normed.dtype
        # What is a gradient's last use is written over: memory that was just used is in a cache, new memory is not.
        outer = gradients[0].flatten(0, 1)  # (B R, D), of the residual stream
        change = weights.down.backward(outer.to(dtype))
        fused.activation.backward(change, inner, grad_input=change)
        change = weights.up.backward(change)
        outer = _normalise_backward(change, middle, fused.block.layer_norm2, moments[2:]).add_(outer)
        mixed = weights.out.backward(outer.to(dtype))
        mixed = mixed.view(batch, rows, fused.heads, -1).transpose(1, 2).reshape(batch * fused.heads, rows, -1)
        scores = mixed @ value.transpose(1, 2)
        _ATEN._softmax_backward_data.out(scores, shares, -1, dtype, grad_input=scores)
        # Heads, one of the projections after the other: what they are copied from stays in a cache.
        wide = key.new_empty(batch, length, 3, fused.heads, key.shape[-1])
        products = ((scores, key), (scores.transpose(1, 2), query[:, :rows]), (shares.transpose(1, 2), mixed))
        for index, (left, right) in enumerate(products):
            one = torch.bmm(left, right).unflatten(0, (batch, -1)).transpose(1, 2)  # (B, M or R, H, d)
            wide[:, : one.shape[1], index] = one
        if rows < length:
            wide[:, rows:, 0] = 0
        projected = wide.view(-1, 3 * width)
        del change, mixed, scores, products, left, right, one, wide
        onward = ctx.needs_input_grad[0]
        hidden = weights.project.backward(projected) if onward else None
        changes: list[Tensor] = []
        if lora.projections:
            a_change, b_change = torch.empty_like(lora_a), torch.empty_like(lora_b)
            drop, low_change = _Drop(normed, keep, lora), torch.empty_like(low[0])
            for place, (a, b, z, part) in enumerate(zip(lora_a, lora_b, low, _parts(projected, lora), strict=True)):
                torch.mm(part, b, out=low_change)
                torch.mm(part.T, z, out=b_change[place])
                torch.mm(low_change.T, drop(place), out=a_change[place])
                if hidden is not None:
                    drop.backward(place, low_change, a, hidden)
            changes = [*a_change.float(), *(b_change.float().mul_(fused.factors.to(b_change.device)))]
        if hidden is None:
            return None, None, None, None, *changes
        result = _normalise_backward(hidden, tokens.flatten(0, 1), fused.block.layer_norm1, moments[:2])
        result = result.view_as(tokens)
        result[:, :rows] += outer.view(batch, rows, width)
        return result, None, None, None, *changes


class _Drop:
    """LoRA's dropout of a block's attention input, of one projection and group at a time, in the same memory."""

    def __init__(self, normed: Tensor, keep: Tensor | None, lora: BlockLora) -> None:
        self.keep, self.normed = keep, normed.chunk(lora.groups) if lora.groups > 1 else (normed,)
        if keep is not None:
            self.room, self.mask = torch.empty_like(self.normed[0]), mask_for(self.normed[0])

    def __call__(self, place: int) -> Tensor:
        """(t, D), without the factor that makes up for what is dropped: that is in the block's own."""
        own = self.normed[place % len(self.normed)]
        return own if self.keep is None else masked(own, self.mask.copy_(self.keep[place]), self.room)

    def backward(self, place: int, change: Tensor, a: Tensor, hidden: Tensor) -> None:
        """Add what the low-rank tokens' gradient reaches, to that of (T, D); after a call for the same place."""
        groups = len(self.normed)
        own = hidden.chunk(groups)[place % groups] if groups > 1 else hidden
        if self.keep is None:
            own.addmm_(change, a)
        else:
            own += masked(torch.mm(change, a, out=self.room), self.mask, self.room)


def _stack(matrices: tuple[Tensor, ...], factors: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    # (n G, r, D), (n G, D, r); what LoRA's products are multiplied by is in the second.
    half = len(matrices) // 2
    a, b = torch.stack(matrices[:half]), torch.stack(matrices[half:])
    return a.to(dtype), b.mul_(factors).to(dtype)


def _parts(projected: Tensor, lora: BlockLora) -> list[Tensor]:
    # Of (T, 3 D), for each projection and group.
    width = projected.shape[1] // 3
    columns = [projected[:, index * width : (index + 1) * width] for index in lora.projections]
    return columns if lora.groups == 1 else [part for one in columns for part in one.chunk(lora.groups)]


def _normalise_backward(gradient: Tensor, values: Tensor, norm: nn.LayerNorm, moments: list[Tensor]) -> Tensor:
    result: Tensor = _ATEN.native_layer_norm_backward(
        gradient.to(values.dtype), values, norm.normalized_shape, *moments, norm.weight, norm.bias, [True, False, False]
    )[0]
    return result
