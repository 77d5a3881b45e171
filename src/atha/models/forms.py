"""The forms that blocks take: for training, for prediction, for several episodes. All share the backbone's weights.

A block for which `atha.models.engine.parts.can_replace` becomes a `TrainingBlock`, one function with a backward pass by
hand, or a `PredictionBlock` on a CPU: explicit attention, frozen weights held in the precision of the products. Any
other block, and any on another device, is the library's own, with LoRA in the place of its layers in a copy that shares
their weights.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from atha.backbones import Backbone
from atha.backbones.layers import attend
from atha.devices import AGREEMENT
from atha.errors import BackboneError
from atha.models.encoder import Block, Encoder
from atha.models.engine.parts import BlockLora, can_replace
from atha.models.engine.prediction import PredictionBlock
from atha.models.engine.training import TrainingBlock
from atha.recipe import Recipe
from atha.tuners import Tuners
from atha.tuners.lora import Pair, with_lora


def training_encoder(
    backbone: Backbone,
    tuners: Sequence[Tuners],
    precision: str,
    generators: Sequence[torch.Generator | None] | None = None,
    lengths: Sequence[int] | None = None,
) -> Encoder:
    """A view that trains tuners, LoRA's dropout on.

    Args:
        backbone: on its device.
        tuners: of each episode that is trained; of several only where `can_stack`.
        precision: of the products.
        generators: where each episode's dropout comes from; None: torch's global generator, for one episode.
        lengths: of each episode's texts, before they were padded to one length.
    """
    groups = [_pairs(backbone, own) for own in tuners]
    first = tuners[0].lora
    scaling, dropout = (first.scaling, first.recipe.dropout) if first is not None else (1.0, 0.0)
    last = backbone.vision_blocks[-1] if backbone.vision_blocks else None

    def form(block: Any, of_text: bool) -> Block:
        if not can_replace(block, groups[0]) or (backbone.device.type != "cpu" and generators is None):
            return with_lora(block, groups[0], scaling, dropout)
        own = [BlockLora.of(block, pairs, scaling, dropout) for pairs in groups]
        lora = own[0]
        if generators is not None:
            lora = BlockLora(
                lora.projections,
                [one.a[place] for place in range(len(lora.a)) for one in own],
                [one.b[place] for place in range(len(lora.b)) for one in own],
                scaling,
                dropout,
                generators,
                lengths if of_text else None,
            )
        rows = backbone.pooled_tokens if block is last else None
        return TrainingBlock(block, lora, rows, pack=not of_text)  # texts are few and short

    return Encoder(
        backbone,
        [form(block, True) for block in backbone.text_blocks],
        [form(block, False) for block in backbone.vision_blocks],
        precision,
        tuners,
    )


def prediction_encoder(
    backbone: Backbone, precision: str, tuners: Tuners | None = None, share: Encoder | None = None
) -> Encoder:
    """A view that predicts: without what only a backward pass needs, and without dropout.

    - The last vision block works for the tokens alone that image features are read from, where that is some of them.
    - In float32, LoRA's product is in the weights: the same numbers up to rounding. In bfloat16 the sum would lose most
      of LoRA's bits, so that it stays beside them.

    Args:
        backbone: on its device.
        precision: of the products.
        tuners: as they are now, and to be trained no more; None for the frozen backbone.
        share: another such view of the backbone, whose frozen weights are used.
    """
    lora = tuners.lora if tuners is not None else None
    pairs = _pairs(backbone, tuners) if tuners is not None else {}
    scaling = lora.scaling if lora is not None else 1.0
    dtype, cpu = getattr(torch, precision), backbone.device.type == "cpu"
    others: Sequence[Any] = share.vision_blocks if share is not None else [None] * len(backbone.vision_blocks)
    pooled = backbone.pooled_tokens

    def form(block: Any, last: bool, other: Any) -> Block:
        rows = pooled if last else None
        if cpu and can_replace(block, pairs):
            shared = other if isinstance(other, PredictionBlock) else None
            return PredictionBlock(block, BlockLora.of(block, pairs, scaling), dtype, rows, shared)
        like = other.args[0] if isinstance(other, partial) else other
        held = like if isinstance(like, nn.Module) else None
        made = with_lora(block, pairs, scaling, hold=dtype if cpu else None, share=held)
        return made if rows is None else partial(first_tokens, made, rows)

    with torch.no_grad():
        count = len(backbone.vision_blocks)
        return Encoder(
            backbone,
            [with_lora(block, pairs, scaling) for block in backbone.text_blocks],
            [
                form(block, number == count - 1, other)
                for number, (block, other) in enumerate(zip(backbone.vision_blocks, others, strict=True))
            ],
            precision,
            () if tuners is None else (tuners,),
        )


@torch.no_grad()
def graph_encoder(backbone: Backbone, tuners: Tuners | None = None) -> Encoder:
    """A view of the vision tower that a graph can be traced of, on the CPU and in float32: the library's own blocks.

    Args:
        backbone: on the CPU.
        tuners: as they are now: LoRA's product is in copies of the weights, strengths are numbers.
    """
    lora = tuners.lora if tuners is not None else None
    pairs = _pairs(backbone, tuners) if tuners is not None else {}
    scaling, rows = lora.scaling if lora is not None else 1.0, backbone.pooled_tokens
    blocks: list[Block] = [with_lora(one, pairs, scaling, hold=torch.float32) for one in backbone.vision_blocks]
    if rows is not None:
        blocks[-1] = partial(first_tokens, blocks[-1], rows)
    strengths = tuners.strengths if tuners is not None else None
    return Encoder(backbone, (), blocks, "float32", () if strengths is None else (Tuners(strengths=strengths.fixed()),))


@torch.no_grad()
def move(backbone: Backbone, device: torch.device) -> Backbone:
    """Move a backbone's weights; a device other than the CPU proves itself on one fixed image.

    Args:
        backbone: where it is, it computes right.
        device: where it is to be.

    Raises:
        BackboneError: image features there are not those of here; the weights are then on the CPU.
    """
    if device.type == "cpu" or device == backbone.device:
        return backbone.to(device)
    pixels = torch.randn(1, 3, *[backbone.image_size] * 2, generator=torch.Generator().manual_seed(0))

    def features() -> Tensor:
        return prediction_encoder(backbone, "float32").images(pixels.to(backbone.device)).float().cpu()

    here = features()
    backbone.to(device)
    agreement = float(nn.functional.cosine_similarity(here, features())[0])
    if not agreement > AGREEMENT:
        backbone.to(torch.device("cpu"))
        raise BackboneError(
            f"{device} computes other image features of {backbone.name} than the CPU (cosine {agreement:.4f}): use "
            "--device cpu, or another version of torch"
        )
    return backbone


def can_stack(backbone: Backbone, recipe: Recipe) -> bool:
    """Whether episodes of a recipe can be trained together: LoRA in q, k, v alone, and blocks that can be replaced."""
    inside = recipe.lora is None or "out" not in recipe.lora.projections
    return inside and all(can_replace(block) for block in (*backbone.text_blocks, *backbone.vision_blocks))


def _pairs(backbone: Backbone, tuners: Tuners) -> Mapping[nn.Module, Pair]:
    return {} if tuners.lora is None else tuners.lora.pairs(backbone)


def first_tokens(
    block: Any, count: int, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any
) -> Tensor:
    """What a block like CLIP's makes of its first tokens: (B, M, D) to (B, R, D)."""
    attention = block.self_attn
    normed = block.layer_norm1(hidden_states)
    query, key, value = (
        project(tokens).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for project, tokens in (
            (attention.q_proj, normed[:, :count]),
            (attention.k_proj, normed),
            (attention.v_proj, normed),
        )
    )
    mixed = attend(query, key, value, attention.scale)
    middle = hidden_states[:, :count] + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    result: Tensor = middle + block.mlp(block.layer_norm2(middle))
    return result
