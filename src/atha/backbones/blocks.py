"""Transformer blocks of open_clip and timm, made so that LoRA reaches each attention projection by itself.

Their queries, keys and values come out of one matrix, often in a parameter that no layer owns. Two ways, both of which
compute the same and keep every weight:

- A plain block (LayerNorm, attention, LayerNorm, two-layer MLP, nothing else) becomes an `EncoderLayer`, which all that
  is made for training and prediction knows.
- In any other block the fused matrix becomes three layers, ``q_proj``, ``k_proj`` and ``v_proj``, in its place.

LoRA is therefore PEFT's ordinary one, on linear layers, and loads back into a model that was prepared the same way.
"""

from collections.abc import Callable, Mapping
from typing import Any

import timm.layers
import torch
from open_clip import transformer as open_clip_transformer
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from atha.backbones.layers import EncoderLayer

#: Where the attention projections are in a block, for each kind of block.
_LAYOUTS: tuple[Mapping[str, str], ...] = (
    {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "out": "self_attn.out_proj"},
    {"q": "attn.qkv.q_proj", "k": "attn.qkv.k_proj", "v": "attn.qkv.v_proj", "out": "attn.proj"},
    {"q": "attn.q_proj", "k": "attn.k_proj", "v": "attn.v_proj", "out": "attn.proj"},
    {"q": "attn.q_proj", "k": "attn.k_proj", "v": "attn.v_proj", "out": "attn.out_proj"},
    {
        "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
        "out": "attention.output.dense",
    },
    {
        "q": "layer.0.SelfAttention.q", "k": "layer.0.SelfAttention.k", "v": "layer.0.SelfAttention.v",
        "out": "layer.0.SelfAttention.o",
    },
    {"q": "attention.q_lin", "k": "attention.k_lin", "v": "attention.v_lin", "out": "attention.out_lin"},
)  # fmt: skip


def projection_names(block: nn.Module) -> Mapping[str, str]:
    """Names within a block of its ``q``, ``k``, ``v`` and ``out`` layers; empty where they are no layers."""
    for layout in _LAYOUTS:
        try:
            if all(isinstance(block.get_submodule(name), nn.Linear) for name in layout.values()):
                return layout
        except AttributeError:
            continue
    return {}


def is_plain(block: nn.Module) -> bool:
    """Whether a prepared block is one of ours."""
    return isinstance(block, EncoderLayer)


def prepare(blocks: nn.ModuleList | nn.Sequential) -> list[nn.Module]:
    """Change blocks in their container as described above.

    Returns:
        The blocks to hook and to adapt, first to last.
    """
    prepared: list[nn.Module] = []
    for index, block in enumerate(list(blocks)):
        layer = _plain(block)
        if layer is not None:
            blocks[index] = _Called(layer)
        else:
            _split(block)
        prepared.append(block if layer is None else layer)
    return prepared


class _Called(nn.Module):
    """An `EncoderLayer`, called as open_clip and timm call theirs."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.layer = layer

    def get_weight_dtype(self) -> torch.dtype:
        return self.layer.layer_norm1.weight.dtype

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        return call_plain(self.layer, x, attn_mask)


def call_plain(block: Callable[..., Tensor], x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """Call transformers' block as open_clip and timm call theirs."""
    mask = None
    if attn_mask is not None:
        length = x.shape[1]
        mask = attn_mask[..., :length, :length] == 0  # theirs are 0 and -inf
        # For all texts; for each text and head; as attention takes them.
        mask = mask[None, None] if mask.ndim == 2 else mask.unflatten(0, (len(x), -1))
    return block(x, attention_mask=mask)


class _FusedLinear(nn.Module):
    """Three layers in the place of one that gives queries, keys and values, one after the other."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = _thirds(weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1)


class _SplitAttention(nn.Module):
    """`nn.MultiheadAttention` of one sequence with itself, in four layers."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = _thirds(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj = _linear(attention.out_proj.weight, attention.out_proj.bias)
        self.num_heads = attention.num_heads

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        queries, keys, values = (
            project(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for project, tokens in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.unflatten(0, (len(query), -1))
        mixed = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None


def _plain(block: Any) -> EncoderLayer | None:
    # What a plain block consists of, under our names; None where there is more to it.
    if type(block) is open_clip_transformer.ResidualAttentionBlock:
        attention, mlp = block.attn, block.mlp
        extras: tuple[Any, ...] = (block.ls_1, block.ls_2)
        if hasattr(block, "ln_1_kv") or attention.in_proj_weight is None or not attention.batch_first:
            return None
        parts = (block.ln_1, block.ln_2, mlp.c_fc, mlp.gelu, mlp.c_proj)
        query_key_value, out = (attention.in_proj_weight, attention.in_proj_bias), attention.out_proj
    elif type(block) is TimmBlock and type(block.attn) is timm.layers.Attention and type(block.mlp) is timm.layers.Mlp:
        attention, mlp = block.attn, block.mlp
        extras = (block.ls1, block.ls2, attention.q_norm, attention.k_norm, attention.norm, mlp.norm)
        if attention.gate is not None or attention.attn_dim != attention.proj.out_features:
            return None
        parts = (block.norm1, block.norm2, mlp.fc1, mlp.act, mlp.fc2)
        query_key_value, out = (attention.qkv.weight, attention.qkv.bias), attention.proj
    else:
        return None
    norm1, norm2, up, activation, down = parts
    name = _activation(activation)
    norms = all(isinstance(norm, nn.LayerNorm) and norm.bias is not None for norm in (norm1, norm2))
    linear = all(type(layer) is nn.Linear for layer in (up, down))
    if not (norms and linear and name and all(isinstance(extra, nn.Identity) for extra in extras)):
        return None
    if norm1.eps != norm2.eps:
        return None
    with torch.device("meta"):
        layer = EncoderLayer(up.in_features, up.out_features, attention.num_heads, name, norm1.eps)
    for target, source in zip((layer.layer_norm1, layer.layer_norm2), (norm1, norm2), strict=True):
        target.weight, target.bias = source.weight, source.bias
    names = ("q_proj", "k_proj", "v_proj")
    for name, third in zip(names, _thirds(*query_key_value), strict=True):
        setattr(layer.self_attn, name, third)
    layer.self_attn.out_proj = _linear(out.weight, out.bias)
    layer.mlp.fc1, layer.mlp.fc2 = _linear(up.weight, up.bias), _linear(down.weight, down.bias)
    return layer.eval()


def _split(block: Any) -> None:
    attention = getattr(block, "attn", None)
    if isinstance(attention, nn.MultiheadAttention):
        if attention.in_proj_weight is not None and attention.batch_first:
            block.attn = _SplitAttention(attention)
        return
    fused = getattr(attention, "qkv", None)
    if not isinstance(fused, nn.Linear) or attention is None:
        return
    bias: Tensor | None = fused.bias
    if getattr(attention, "q_bias", None) is not None:  # EVA keeps the biases beside the layer, with none for keys
        bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        attention.q_bias = attention.k_bias = attention.v_bias = None
    attention.qkv = _FusedLinear(fused.weight, bias)


def _activation(module: nn.Module) -> str | None:
    kind = type(module).__name__
    if kind == "GELU":
        return "gelu_pytorch_tanh" if getattr(module, "approximate", "none") == "tanh" else "gelu"
    return {"QuickGELU": "quick_gelu", "GELUTanh": "gelu_pytorch_tanh"}.get(kind)


def _thirds(weight: Tensor, bias: Tensor | None) -> list[nn.Linear]:
    biases = [None] * 3 if bias is None else bias.chunk(3)
    return [_linear(part, own) for part, own in zip(weight.chunk(3), biases, strict=True)]


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer with copies of these weights; without a bias, one of zeros: the same to whatever adds it."""
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias.detach().clone())
    return layer
