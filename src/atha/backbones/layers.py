"""The blocks of CLIP's and SigLIP's towers, with the names of modules and weights that transformers has.

Shapes: B images or texts, M tokens, D width, H heads of width d.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from atha.backbones.configuration import TowerConfig


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


_TANH_GELU = partial(nn.functional.gelu, approximate="tanh")
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": _quick_gelu,
    "gelu": nn.functional.gelu,
    "gelu_new": _TANH_GELU,
    "gelu_fast": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "swish": nn.functional.silu,
}


class Attention(nn.Module):
    """Of a sequence with itself, in several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.scale = (width // heads) ** -0.5
        # In transformers' order: PEFT draws LoRA's start in it.
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        query, key, value = (
            project(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = attend(query, key, value, self.scale, attention_mask, is_causal)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return result


def attend(
    query: Float[Tensor, "B H M d"],
    key: Float[Tensor, "B H M d"],
    value: Float[Tensor, "B H M d"],
    scale: float,
    mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    is_causal: bool = False,
) -> Float[Tensor, "B H M d"]:
    """Softmax attention; a mask is True where a token is seen, or is added, and goes before ``is_causal``."""
    if query.is_cuda:
        return nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal and mask is None, scale=scale
        )
    # Step by step: torch's fused CPU kernel gives other bits for another number of threads, and that of some versions
    # for MPS is wrong where there are few queries.
    if mask is None and is_causal:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    scores = (query * scale) @ key.mT
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1) @ value


class Mlp(nn.Module):
    """Two layers.

    Attributes:
        hidden_act: name of what is between them.
    """

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        self.hidden_act = activation
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.fc2(ACTIVATIONS[self.hidden_act](self.fc1(hidden)))
        return result


class EncoderLayer(nn.Module):
    """A block: attention and MLP, each behind a LayerNorm and beside a residual path.

    Args:
        width: D.
        inner: width inside the MLP.
        heads: of attention.
        activation: of the MLP, one of `ACTIVATIONS`.
        eps: of the LayerNorms.
    """

    def __init__(self, width: int, inner: int, heads: int, activation: str, eps: float) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, inner, activation)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden), attention_mask, is_causal)
        result: Tensor = hidden + self.mlp(self.layer_norm2(hidden))
        return result


class Blocks(nn.Module):
    """The blocks of a tower."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(
                config.hidden_size,
                config.intermediate_size,
                config.num_attention_heads,
                config.hidden_act,
                config.layer_norm_eps,
            )
            for _ in range(config.num_hidden_layers)
        )
