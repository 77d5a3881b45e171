"""A transformer block as one autograd function, for training beside frozen weights.

A frozen block with LoRA on its attention inputs has few matrix products, and many small operations around them that
autograd, PEFT and autocast repeat in every step. Here the whole block has a backward pass by hand, which takes no
gradient for frozen weights, has them in the precision of the products once and for all, and adds LoRA's part in
place. Modules and parameters are those of the model, PEFT's among them; results differ from theirs by rounding.

Several episodes can share one pass: their sequences follow each other, the frozen products are one for all, and each
has a LoRA of its own.

Shapes: B sequences of M tokens, R of them wanted behind the block, T = B M, D width, H heads of width d, F inner
width of the MLP, n of the three projections q, k, v with LoRA of rank r; G episodes ("groups"), t = T / G.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atha.models.engine.products import FrozenProduct
from atha.tuners.dropout import keep_bytes, mask_for, masked, random_bytes, threshold
from atha.tuners.lora import Pair

_ATEN = torch.ops.aten
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class Activation(NamedTuple):
    """``function(scale * x) / scale``, and what its gradient becomes: (gradient, scaled x, grad_input=...)."""

    function: Callable[[Tensor], Tensor]
    backward: Callable[..., Tensor]
    scale: float = 1.0


#: By its name in transformers. x sigmoid(1.702 x) is a SiLU of 1.702 x; the scale goes into the weights around it.
_TANH_GELU = Activation(
    partial(nn.functional.gelu, approximate="tanh"), partial(_ATEN.gelu_backward.grad_input, approximate="tanh")
)
ACTIVATIONS = {
    "gelu": Activation(nn.functional.gelu, _ATEN.gelu_backward.grad_input),
    "gelu_new": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "quick_gelu": Activation(nn.functional.silu, _ATEN.silu_backward.grad_input, scale=1.702),
}


def can_replace(block: Any, adapted: Container[nn.Module] = ()) -> bool:
    """Whether `FusedBlock` computes what this block does: a known activation, LoRA on q, k, v alone, all else frozen.

    Args:
        block: of a tower.
        adapted: layers that LoRA adapts.
    """
    if not all(hasattr(block, name) for name in ("self_attn", "mlp", "layer_norm1", "layer_norm2")):
        return False
    attention, mlp = block.self_attn, block.mlp
    plain = (attention.out_proj, mlp.fc1, mlp.fc2, *(getattr(attention, name) for name in PROJECTIONS))
    return (
        activation_name(mlp) in ACTIVATIONS
        and all(type(layer) is nn.Linear for layer in plain)
        and not any(value.requires_grad for value in block.parameters())
        and not any(layer in adapted for layer in (attention.out_proj, mlp.fc1, mlp.fc2))
    )


def activation_name(mlp: Any) -> str:
    """Of an MLP of ours, or of transformers."""
    return str(mlp.hidden_act if hasattr(mlp, "hidden_act") else mlp.config.hidden_act)


@dataclass(frozen=True)
class BlockWeights:
    """A block's frozen products; attention's scale is in those of q, the activation's in those around it."""

    project: FrozenProduct  # D to 3 D
    out: FrozenProduct  # D to D
    up: FrozenProduct  # D to F
    down: FrozenProduct  # F to D

    @classmethod
    @torch.no_grad()
    def of(
        cls, block: Any, dtype: torch.dtype, pack: bool, trains: bool, scale: float, added: "BlockLora | None" = None
    ) -> "BlockWeights":
        """Those of a block, in the precision of the products; see `FrozenProduct` for the rest.

        Args:
            block: of a tower.
            dtype: of the products.
            pack: see `FrozenProduct`.
            trains: the same.
            scale: of the activation, that goes into the weights around it; 1 leaves these as they are, without a copy.
            added: LoRA whose product is added to the weights.
        """
        attention, mlp = block.self_attn, block.mlp
        layers = [getattr(attention, name) for name in PROJECTIONS]
        weights = [layer.weight for layer in layers]
        if added is not None:
            for place, a, b in zip(added.projections, added.a, added.b, strict=True):
                weights[place] = weights[place] + added.scaling * (b @ a)
        scales = (attention.scale, 1.0, 1.0)
        weight = torch.cat([one * factor for one, factor in zip(weights, scales, strict=True)])
        bias = torch.cat([layer.bias * factor for layer, factor in zip(layers, scales, strict=True)])
        up, down = (mlp.fc1.weight, mlp.fc1.bias), mlp.fc2.weight
        if scale != 1:
            up, down = (up[0] * scale, up[1] * scale), down / scale
        return cls(
            FrozenProduct(weight, bias, dtype, pack, trains),
            FrozenProduct(attention.out_proj.weight, attention.out_proj.bias, dtype, pack, trains),
            FrozenProduct(*up, dtype, pack, trains),
            FrozenProduct(down, mlp.fc2.bias, dtype, pack, trains),
        )


@dataclass
class BlockLora:
    """LoRA of one block, for one episode or for several.

    Attributes:
        projections: which of q, k, v have it, as 0, 1, 2.
        a: n G matrices A of shape (r, D), those of one projection after those of the other.
        b: n G matrices B of shape (D, r), the same.
        scaling: of ``B A x``.
        dropout: share of LoRA's input that is zeroed.
        generators: where each group's dropout comes from; None: torch's global generator, for one group.
        lengths: of each group's sequences where they differ, as they are without padding.
    """

    projections: Sequence[int] = ()
    a: list[Tensor] = field(default_factory=list)
    b: list[Tensor] = field(default_factory=list)
    scaling: float = 1.0
    dropout: float = 0.0
    generators: Sequence[torch.Generator | None] | None = None
    lengths: Sequence[int] | None = None

    @classmethod
    def of(cls, block: Any, pairs: Mapping[nn.Module, Pair], scaling: float, dropout: float = 0.0) -> "BlockLora":
        """That of a block whose layers may be among these."""
        layers = [getattr(block.self_attn, name) for name in PROJECTIONS]
        found = [index for index, layer in enumerate(layers) if layer in pairs]
        own = [pairs[layers[index]] for index in found]
        return cls(found, [pair.a for pair in own], [pair.b for pair in own], scaling, dropout)

    @property
    def groups(self) -> int:
        """G."""
        return 1 if self.generators is None else len(self.generators)

    def keep(self, sequences: int, length: int, width: int, device: torch.device) -> Tensor | None:
        """n G masks of (t, D), those of one projection after those of the other, for `masked`; None: all is kept."""
        limit = threshold(self.dropout)
        if not limit:
            return None
        count, each = len(self.projections), sequences // self.groups
        generators = self.generators if self.generators is not None else [None]
        masks = []
        # Drawn in the shape that a group has by itself, so that a group's numbers do not depend on the others.
        for generator, own in zip(generators, self.lengths or [length] * self.groups, strict=True):
            mask = keep_bytes(random_bytes((count, each, own, width), generator), limit)
            masks.append(nn.functional.pad(mask, (0, 0, 0, length - own)) if own < length else mask)
        every = masks[0] if self.groups == 1 else torch.stack(masks, 1)
        return every.view(count * self.groups, -1, width).to(device)

    @property
    def kept_scale(self) -> float:
        """What makes up for dropout."""
        return 256 / (256 - threshold(self.dropout))


class FusedBlock:
    """Stands in for the ``forward`` of a block of CLIP or SigLIP, in training and, where it pays, in prediction.

    Args:
        block: see `can_replace`.
        lora: the block's.
        rows: R, how many tokens are wanted behind the block, the first ones; None: all.
        pack: pays where there are many tokens, and takes memory.
        trains: whether there will be backward passes.
        share: another one of the same block, whose frozen products are used.
        merge: in float32, add LoRA's product to copies of the weights; there will be no backward pass.
    """

    def __init__(
        self,
        block: Any,
        lora: BlockLora,
        rows: int | None = None,
        pack: bool = True,
        trains: bool = True,
        share: "FusedBlock | None" = None,
        merge: bool = False,
    ) -> None:
        self._added = lora if merge and lora.projections else None
        lora = BlockLora() if self._added is not None else lora
        self.block, self.lora, self.rows, self.pack, self.trains = block, lora, rows, pack, trains
        self._own: dict[torch.dtype, BlockWeights] = {}
        self._weights: dict[torch.dtype, BlockWeights] = {} if share is None else share._weights
        self.heads: int = block.self_attn.num_heads
        self.activation = ACTIVATIONS[activation_name(block.mlp)]
        # What LoRA's products are multiplied by, for each projection: attention's scale and dropout's own included.
        scales = (block.self_attn.scale, 1.0, 1.0)
        factors = [lora.scaling * scales[index] * lora.kept_scale for index in lora.projections]
        self.factors = torch.tensor(factors).repeat_interleave(lora.groups).view(-1, 1, 1)

    def weights(self, dtype: torch.dtype) -> BlockWeights:
        """The frozen products, made at the first use. They go with this object: memory is dearer than making them."""
        # Threads that come at once make the same twice, and one of the two is kept.
        if dtype not in self._weights:
            made = BlockWeights.of(self.block, dtype, self.pack, self.trains, self.inside(dtype))
            self._weights.setdefault(dtype, made)
        found = self._weights[dtype]
        if self._added is None:
            return found
        if dtype not in self._own:
            made = BlockWeights.of(self.block, dtype, self.pack, self.trains, 1.0, self._added)
            self._own.setdefault(dtype, replace(found, project=made.project))
        return self._own[dtype]

    def inside(self, dtype: torch.dtype) -> float:
        """Which part of the activation's scale is in the weights: all where copies of them are made anyway."""
        return self.activation.scale if self.trains or dtype != torch.float32 else 1.0

    def __call__(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        is_causal: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """(B, M, D) to (B, R, D), as the block's own ``forward``; the products are in autocast's precision."""
        device = hidden_states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_states.dtype
        mask, length = attention_mask, hidden_states.shape[1]
        if mask is None and is_causal:
            mask = torch.ones(length, length, dtype=torch.bool, device=hidden_states.device).tril()
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)
        trains = torch.is_grad_enabled()
        with torch.autocast(device, enabled=False):
            return _Block.apply(hidden_states, self, dtype, mask, trains, *self.lora.a, *self.lora.b)  # type: ignore[no-any-return]


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        fused: FusedBlock,
        dtype: torch.dtype,
        mask: Tensor | None,
        trains: bool,
        *matrices: Tensor,
    ) -> Tensor:
        block, lora, weights = fused.block, fused.lora, fused.weights(dtype)
        batch, length, width = tokens.shape
        rows = length if fused.rows is None else min(fused.rows, length)
        # Without a backward pass nothing is kept, and let go of as soon as it was used.
        # Attention's input, and LoRA's part of it.
        normed, *moments1 = _normalise(tokens.flatten(0, 1), block.layer_norm1)
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
        query, key, value = (
            projected.view(batch, length, 3, fused.heads, -1).permute(2, 0, 3, 1, 4).contiguous().flatten(1, 2)
        )  # (B H, M, d)
        del projected
        shares = query[:, :rows] @ key.transpose(1, 2)
        if mask is not None:
            shares.unflatten(0, (batch, fused.heads)).add_(mask[..., :rows, :length])
        _ATEN._softmax.out(shares, -1, False, out=shares)
        mixed = (shares @ value).view(batch, fused.heads, rows, -1).transpose(1, 2).reshape(batch * rows, width)
        if not trains:
            del query, key, value, shares, normed
        middle = tokens[:, :rows].flatten(0, 1) + weights.out(mixed)
        del mixed
        # The MLP.
        normed2, *moments2 = _normalise(middle, block.layer_norm2)
        inner = weights.up(normed2.to(dtype))
        del normed2
        outside = fused.activation.scale / fused.inside(dtype)
        outer = fused.activation.function(inner if outside == 1 else inner.mul_(outside))
        if outside != 1:
            outer.div_(outside)
        if not trains:
            del inner
        result = middle + weights.down(outer)
        if trains:
            ctx.fused, ctx.weights, ctx.rows = fused, weights, rows
            ctx.save_for_backward(
                tokens, normed, keep, lora_a, lora_b, low, query, key, value, shares, middle, inner, *moments1,
                *moments2,
            )  # fmt: skip
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
            return None, None, None, None, None, *changes
        result = _normalise_backward(hidden, tokens.flatten(0, 1), fused.block.layer_norm1, moments[:2])
        result = result.view_as(tokens)
        result[:, :rows] += outer.view(batch, rows, width)
        return result, None, None, None, None, *changes


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


def _normalise(values: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor, Tensor]:
    return torch.native_layer_norm(values, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _normalise_backward(gradient: Tensor, values: Tensor, norm: nn.LayerNorm, moments: list[Tensor]) -> Tensor:
    result: Tensor = _ATEN.native_layer_norm_backward(
        gradient.to(values.dtype), values, norm.normalized_shape, *moments, norm.weight, norm.bias, [True, False, False]
    )[0]
    return result
