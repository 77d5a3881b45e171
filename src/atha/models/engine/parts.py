"""What the forms of a block have in common: which blocks they can be, frozen products, LoRA, attention's heads.

Shapes: B sequences of M tokens, R of them wanted behind the block, T = B M, D width, H heads of width d, F inner
width of the MLP, n of the three projections q, k, v with LoRA of rank r; G episodes ("groups"), t = T / G.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.models.engine.products import ACTIVATIONS, FrozenProduct
from atha.tuners.dropout import keep_bytes, random_bytes, threshold
from atha.tuners.lora import Pair

_ATEN = torch.ops.aten
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def can_replace(block: Any, adapted: Container[nn.Module] = ()) -> bool:
    """Whether the forms here compute what a block does: a known activation, LoRA on q, k, v alone, all else frozen.

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
    def of(cls, block: Any, dtype: torch.dtype, pack: bool, trains: bool, scale: float) -> "BlockWeights":
        """Those of a block, in the precision of the products; see `FrozenProduct` for the rest.

        Args:
            block: of a tower.
            dtype: of the products.
            pack: see `FrozenProduct`.
            trains: the same.
            scale: of the activation, that goes into the weights around it; 1 leaves these as they are, without a copy.
        """
        attention, mlp = block.self_attn, block.mlp
        up, down = (mlp.fc1.weight, mlp.fc1.bias), mlp.fc2.weight
        if scale != 1:
            up, down = (up[0] * scale, up[1] * scale), down / scale
        return cls(
            project_to_heads(block, dtype, pack, trains),
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

    def factors(self, scale: float) -> Tensor:
        """(n G, 1, 1), what its products are multiplied by, attention's scale in q and what dropout asks for included.

        Args:
            scale: of attention.
        """
        kept = 256 / (256 - threshold(self.dropout))
        scales = (scale, 1.0, 1.0)
        found = [self.scaling * scales[index] * kept for index in self.projections]
        return torch.tensor(found).repeat_interleave(self.groups).view(-1, 1, 1)


@torch.no_grad()
def project_to_heads(
    block: Any, dtype: torch.dtype, pack: bool, trains: bool, added: BlockLora | None = None
) -> FrozenProduct:
    """D to 3 D: queries, with attention's scale, keys and values.

    Args:
        block: of a tower.
        dtype: of the products.
        pack: see `FrozenProduct`.
        trains: the same.
        added: LoRA whose product is added to the weights.
    """
    attention = block.self_attn
    layers = [getattr(attention, name) for name in PROJECTIONS]
    weights = [layer.weight for layer in layers]
    if added is not None:
        for place, a, b in zip(added.projections, added.a, added.b, strict=True):
            weights[place] = weights[place] + added.scaling * (b @ a)
    scales = (attention.scale, 1.0, 1.0)
    weight = torch.cat([one * factor for one, factor in zip(weights, scales, strict=True)])
    bias = torch.cat([layer.bias * factor for layer, factor in zip(layers, scales, strict=True)])
    return FrozenProduct(weight, bias, dtype, pack, trains)


def products_dtype(values: Tensor) -> torch.dtype:
    """Autocast's, else that of the values."""
    device = values.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else values.dtype


def added_mask(mask: Tensor | None, is_causal: bool, tokens: Float[Tensor, "B M D"]) -> Tensor | None:
    """What is added to attention's scores: of a mask that is so already, or is True where a token is seen."""
    length = tokens.shape[1]
    if mask is None and is_causal:
        mask = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)
    return mask


def normalise(values: Float[Tensor, "T D"], norm: nn.LayerNorm) -> tuple[Tensor, Tensor, Tensor]:
    """A LayerNorm, and mean and reciprocal deviation of each row."""
    return torch.native_layer_norm(values, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def split_heads(projected: Float[Tensor, "T 3*D"], batch: int, heads: int) -> Tensor:
    """Queries, keys and values, each (B H, M, d), first dimension 3."""
    return (
        projected.view(batch, -1, 3, heads, projected.shape[1] // 3 // heads)
        .permute(2, 0, 3, 1, 4)
        .contiguous()
        .flatten(1, 2)
    )


def attention_shares(
    query: Float[Tensor, "B*H R d"], key: Float[Tensor, "B*H M d"], mask: Tensor | None, heads: int
) -> Float[Tensor, "B*H R M"]:
    """How much every query takes of every token; see `added_mask`."""
    shares = query @ key.transpose(1, 2)
    if mask is not None:
        shares.unflatten(0, (-1, heads)).add_(mask[..., : shares.shape[1], : shares.shape[2]])
    _ATEN._softmax.out(shares, -1, False, out=shares)
    return shares


def join_heads(mixed: Float[Tensor, "B*H R d"], heads: int) -> Float[Tensor, "B*R D"]:
    """What the heads made, beside each other."""
    count, rows, width = mixed.shape
    return mixed.view(-1, heads, rows, width).transpose(1, 2).reshape(count // heads * rows, heads * width)
