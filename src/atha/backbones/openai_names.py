"""Weights of CLIP in OpenAI's names, which open_clip and most training code write too, and in transformers'."""

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from atha.errors import BackboneError

# OpenAI's names and transformers'.
_BLOCKS = {
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "transformer.resblocks": "text_model.encoder.layers",
}
_IN_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_NORMS = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_OTHERS = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = ("visual.proj", "text_projection")

# The ends of sentences on what is wrong: how to mend it.
WHOLE = "get the whole checkpoint again"
ELSEWHERE = "load it through open_clip, as --model open_clip:ARCH/FILE"


def from_openai(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in OpenAI's names as those of transformers' `CLIPModel`.

    Raises:
        BackboneError: a weight is missing, or there is one that CLIP has not.
    """
    names = _names(*(count_blocks(weights, blocks) for blocks in _BLOCKS))
    check_names(weights, names)
    result: dict[str, Tensor] = {}
    for name, parts in names.items():
        value = weights[name].T if name in _TRANSPOSED else weights[name]
        # Copies of what is cut: safetensors does not save tensors that share memory.
        pieces = [piece.clone() for piece in value.chunk(len(parts))] if len(parts) > 1 else [value.contiguous()]
        result.update(zip(parts, pieces, strict=True))
    return result


def to_openai(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of transformers' `CLIPModel` in OpenAI's names.

    Raises:
        BackboneError: a weight is missing, or there is one that CLIP has not.
    """
    names = _names(*(count_blocks(weights, blocks) for blocks in _BLOCKS.values()))
    check_names(weights, [part for parts in names.values() for part in parts])
    result = {}
    for name, parts in names.items():
        value = torch.cat([weights[part] for part in parts]) if len(parts) > 1 else weights[parts[0]]
        result[name] = value.T.contiguous() if name in _TRANSPOSED else value
    return result


def _names(vision_depth: int, text_depth: int) -> dict[str, list[str]]:
    """OpenAI's name of every weight -> transformers' names, three where one matrix has the rows of q, k and v."""
    names = {ours: [theirs] for ours, theirs in _OTHERS.items()}
    stems = dict(_NORMS)
    for (ours, theirs), depth in zip(_BLOCKS.items(), (vision_depth, text_depth), strict=True):
        for index in range(depth):
            stems |= {f"{ours}.{index}.{a}": f"{theirs}.{index}.{b}" for a, b in _IN_BLOCK.items()}
            for kind in ("weight", "bias"):
                attention = f"{theirs}.{index}.self_attn"
                names[f"{ours}.{index}.attn.in_proj_{kind}"] = [f"{attention}.{x}_proj.{kind}" for x in "qkv"]
    return names | {f"{a}.{kind}": [f"{b}.{kind}"] for a, b in stems.items() for kind in ("weight", "bias")}


def count_blocks(names: Collection[str], blocks: str) -> int:
    """How many blocks there are in a list of weights, by the beginning of their names."""
    return len({found[1] for name in names if (found := re.match(rf"{re.escape(blocks)}\.(\d+)\.", name))})


def check_names(names: Collection[str], expected: Collection[str]) -> None:
    """See to it that all expected weights are there and no others; raises `BackboneError`."""
    missing = sorted(set(expected) - set(names))
    if missing:
        raise BackboneError(f"{len(missing)} of CLIP's weights are missing, the first is '{missing[0]}': {WHOLE}")
    foreign = sorted(set(names) - set(expected))
    if foreign:
        raise BackboneError(f"it has weights that CLIP has not, the first is '{foreign[0]}': {ELSEWHERE}")
