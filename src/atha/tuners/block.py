"""A transformer block as one autograd function, for training on a CPU.

A frozen block with LoRA on its attention inputs has few matrix products, and many small operations around them that
autograd, PEFT and autocast repeat in every step: on a CPU those take longer than the products. Here the whole block
has a backward pass by hand, which takes no gradient for frozen weights, has them in the precision of the products
once and for all, and puts LoRA's rank into the same product as the frozen weights: ``[h, z] [W, B]^T`` with
``z = dropout(h) A^T``. Modules and parameters are those of the model, PEFT's among them; results differ from theirs
by rounding.

Shapes: B sequences of M tokens, R of them wanted behind the block, T = B M, D width, H heads of width d, F inner
width of the MLP, n of the three projections q, k, v with LoRA of rank r.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import peft
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atha.tuners.dropout import keep_mask, random_bytes, threshold

_ATEN = torch.ops.aten
_PART = 2**16  # numbers
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def _sigmoid_gelu(linear: float, cubic: float, inner: Tensor) -> tuple[Tensor, Tensor]:
    # x sigmoid(a x + b x^3): both approximations of GELU have this form, and a sigmoid is much faster than a tanh.
    active, slope = torch.empty_like(inner), torch.empty_like(inner)
    # In parts that stay in a core's cache: a large new tensor costs more than the arithmetic on it.
    for source, value, derivative in zip(*(part.view(-1).split(_PART) for part in (inner, active, slope)), strict=True):
        values = source.float()
        square = values.square()
        gate = (square * cubic).add_(linear).mul_(values).sigmoid_()
        result = values * gate
        value.copy_(result)
        square.mul_(3 * cubic).add_(linear).mul_(result)  # times 1 - gate, plus gate
        derivative.copy_(gate.addcmul_(square, 1 - gate))
    return active, slope


def _exact_gelu(inner: Tensor) -> tuple[Tensor, Tensor]:
    return nn.functional.gelu(inner), _ATEN.gelu_backward(torch.ones_like(inner), inner)


#: Name of an activation in transformers -> its value and its derivative.
_TANH_GELU = partial(_sigmoid_gelu, 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715)
ACTIVATIONS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "gelu": _exact_gelu,
    "gelu_new": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "quick_gelu": partial(_sigmoid_gelu, 1.702, 0.0),
}


def can_replace(block: Any) -> bool:
    """Whether `FusedBlock` computes what this block does: on a CPU, a known activation, LoRA on q, k, v alone."""
    attention, mlp = block.self_attn, block.mlp
    plain = (attention.out_proj, mlp.fc1, mlp.fc2, *(_base(getattr(attention, name)) for name in _PROJECTIONS))
    return (
        mlp.config.hidden_act in ACTIVATIONS
        and all(type(layer) is nn.Linear for layer in plain)
        and all(layer.weight.device.type == "cpu" and not layer.weight.requires_grad for layer in plain)
    )


def _base(layer: Any) -> Any:
    return layer.base_layer if isinstance(layer, peft.tuners.lora.LoraLayer) else layer


@dataclass(frozen=True)
class _Weights:
    """Frozen weights in the precision of the products; attention's scale is in those of q."""

    project: Tensor  # (3 D, D)
    project_bias: Tensor
    out: Tensor  # (D, D)
    out_bias: Tensor
    up: Tensor  # (F, D)
    up_bias: Tensor
    down: Tensor  # (D, F)
    down_bias: Tensor


class FusedBlock:
    """Stands in for the ``forward`` of a block of CLIP or SigLIP while it is trained.

    Args:
        block: see `can_replace`.
        rows: R, how many tokens are wanted behind the block, the first ones; None: all.
    """

    def __init__(self, block: Any, rows: int | None = None) -> None:
        attention = block.self_attn
        self.block, self.rows = block, rows
        self.heads: int = attention.num_heads
        self.activation = ACTIVATIONS[block.mlp.config.hidden_act]
        layers = [getattr(attention, name) for name in _PROJECTIONS]
        adapted = [index for index, layer in enumerate(layers) if layer is not _base(layer)]
        self.adapted = adapted
        self.lora_a: list[Tensor] = [layers[index].lora_A["default"].weight for index in adapted]
        self.lora_b: list[Tensor] = [layers[index].lora_B["default"].weight for index in adapted]
        dropout = layers[adapted[0]].lora_dropout["default"].p if adapted else 0.0
        self.threshold = threshold(dropout)
        self.scales = [attention.scale, 1.0, 1.0]
        # What LoRA's product is multiplied by, dropout's own factor included.
        kept = 256 / (256 - self.threshold)
        self.factors = [layers[index].scaling["default"] * self.scales[index] * kept for index in adapted]
        self._weights: dict[torch.dtype, _Weights] = {}

    def __call__(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        is_causal: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """(B, M, D) to (B, R, D), as the block's own ``forward``; the products are in autocast's precision."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden_states.dtype
        mask, length = attention_mask, hidden_states.shape[1]
        if mask is None and is_causal:
            mask = torch.ones(length, length, dtype=torch.bool).tril()
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf)
        with torch.autocast("cpu", enabled=False):
            return _Block.apply(hidden_states, self, dtype, mask, *self.lora_a, *self.lora_b)  # type: ignore[no-any-return]

    @torch.no_grad()
    def weights(self, dtype: torch.dtype) -> _Weights:
        """The frozen weights in ``dtype``, made at the first use."""
        if dtype not in self._weights:
            attention, mlp = self.block.self_attn, self.block.mlp
            bases = [_base(getattr(attention, name)) for name in _PROJECTIONS]
            pairs = list(zip(bases, self.scales, strict=True))
            values = [torch.cat([base.weight * scale for base, scale in pairs])]
            values.append(torch.cat([base.bias * scale for base, scale in pairs]))
            for layer in (attention.out_proj, mlp.fc1, mlp.fc2):
                values += [layer.weight, layer.bias]
            self._weights[dtype] = _Weights(*(value.to(dtype) for value in values))
        return self._weights[dtype]

    def project(self, weights: _Weights, lora_b: tuple[Tensor, ...]) -> Tensor:
        """``[W, B]`` (3 D, D + n r): LoRA's B beside the frozen weights, each in the rows of its projection."""
        if not lora_b:
            return weights.project
        width, rank = lora_b[0].shape
        beside = torch.zeros(3, width, len(lora_b), rank, dtype=weights.project.dtype)
        for place, (index, factor) in enumerate(zip(self.adapted, self.factors, strict=True)):
            torch.mul(lora_b[place], factor, out=beside[index, :, place])
        return torch.cat([weights.project, beside.view(3 * width, -1)], dim=1)


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, fused: FusedBlock, dtype: torch.dtype, mask: Tensor | None, *lora: Tensor
    ) -> Tensor:
        block, weights = fused.block, fused.weights(dtype)
        batch, length, width = tokens.shape
        rows = length if fused.rows is None else min(fused.rows, length)
        count = len(fused.adapted)
        # Attention's input, and LoRA's part of it.
        normed, *moments1 = _normalise(tokens.flatten(0, 1), block.layer_norm1)
        normed = normed.to(dtype)
        combined = fused.project(weights, lora[count:])
        noise = lora_a = low = None
        source = normed
        if count:
            lora_a = torch.stack(lora[:count]).to(dtype)  # (n, r, D)
            if fused.threshold:
                noise = random_bytes((count, *normed.shape))
            low = _dropped(normed, noise, fused, count) @ lora_a.transpose(1, 2)  # (n, T, r)
            source = torch.cat([normed, low.transpose(0, 1).flatten(1)], dim=1)
        projected = torch.addmm(weights.project_bias, source, combined.T)
        query, key, value = (
            projected.view(batch, length, 3, fused.heads, -1).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)
        )  # (B H, M, d)
        scores = query[:, :rows] @ key.transpose(1, 2)
        if mask is not None:
            scores.unflatten(0, (batch, fused.heads)).add_(mask[..., :rows, :length])
        shares = scores.softmax(dim=-1)
        mixed = (shares @ value).view(batch, fused.heads, rows, -1).transpose(1, 2).reshape(batch * rows, width)
        middle = tokens[:, :rows].flatten(0, 1) + torch.addmm(weights.out_bias, mixed, weights.out.T)
        # The MLP.
        normed2, *moments2 = _normalise(middle, block.layer_norm2)
        inner = torch.addmm(weights.up_bias, normed2.to(dtype), weights.up.T)
        active, slope = fused.activation(inner)
        result = middle + torch.addmm(weights.down_bias, active, weights.down.T)
        ctx.fused, ctx.weights, ctx.rows = fused, weights, rows
        ctx.save_for_backward(
            tokens, normed, combined, noise, lora_a, low, query, key, value, shares, middle, slope, *moments1, *moments2
        )
        return result.view(batch, rows, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        fused, weights, rows = ctx.fused, ctx.weights, ctx.rows
        tokens, normed, combined, noise, lora_a, low, query, key, value, shares, middle, slope, *moments = (
            ctx.saved_tensors
        )
        batch, length, width = tokens.shape
        count, dtype = len(fused.adapted), normed.dtype
        outer = gradients[0].flatten(0, 1)  # (B R, D), of the residual stream
        inner = (outer.to(dtype) @ weights.down).mul_(slope) @ weights.up
        outer = outer + _normalise_backward(inner, middle, fused.block.layer_norm2, moments[2:])
        mixed = outer.to(dtype) @ weights.out
        mixed = mixed.view(batch, rows, fused.heads, -1).transpose(1, 2).reshape(batch * fused.heads, rows, -1)
        scores = _ATEN._softmax_backward_data(mixed @ value.transpose(1, 2), shares, -1, dtype)
        heads = torch.empty(3, *key.shape, dtype=dtype)
        heads[0, :, :rows], heads[0, :, rows:] = scores @ key, 0
        torch.bmm(scores.transpose(1, 2), query[:, :rows], out=heads[1])
        torch.bmm(shares.transpose(1, 2), mixed, out=heads[2])
        projected = heads.view(3, batch, fused.heads, length, -1).permute(1, 3, 0, 2, 4).reshape(-1, 3 * width)
        source = projected @ combined  # (T, D + n r)
        hidden, changes = source[:, :width], []
        if count:
            change = source[:, width:].unflatten(1, (count, -1)).transpose(0, 1).contiguous()  # (n, T, r), of low
            changes = list((change.transpose(1, 2) @ _dropped(normed, noise, fused, count)).float())
            for place, (index, factor) in enumerate(zip(fused.adapted, fused.factors, strict=True)):
                part = projected[:, index * width : (index + 1) * width]
                changes.append((part.T @ low[place]).float().mul_(factor))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, *changes
        if count:
            through = change @ lora_a
            if noise is not None:
                through.mul_(keep_mask(noise, fused.threshold, dtype))
            for part in through:  # faster than a sum over the first dimension
                hidden += part
        result = _normalise_backward(hidden, tokens.flatten(0, 1), fused.block.layer_norm1, moments[:2])
        result = result.view_as(tokens)
        result[:, :rows] += outer.view(batch, rows, width)
        return result, None, None, None, *changes


def _dropped(normed: Tensor, noise: Tensor | None, fused: FusedBlock, count: int) -> Tensor:
    # (n, T, D); the factor that makes up for what is dropped is in the block's own.
    if noise is None:
        return normed.expand(count, -1, -1)
    return keep_mask(noise, fused.threshold, normed.dtype).mul_(normed)


def _normalise(values: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor, Tensor]:
    return torch.native_layer_norm(values, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _normalise_backward(gradient: Tensor, values: Tensor, norm: nn.LayerNorm, moments: list[Tensor]) -> Tensor:
    result: Tensor = _ATEN.native_layer_norm_backward(
        gradient.to(values.dtype), values, norm.normalized_shape, *moments, norm.weight, norm.bias, [True, False, False]
    )[0]
    return result
