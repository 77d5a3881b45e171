"""Image features for prediction: the forward pass without what only training needs.

Changes for as long as a forward pass lasts; neither weights nor modules of the backbone are touched:

- The last block works for the tokens alone that image features are read from: exact, the others are thrown away.
- On a CPU in bfloat16, blocks are those that training uses, where they can be (`atha.tuners.block.FusedBlock`), with
  frozen weights held in the precision of the products and packed, LoRA beside them: the same up to rounding. Other
  frozen layers hold their weights in that precision too, where autocast would cast them in every batch: the same bits.
- In float32, LoRA's product is in the weights: the same numbers up to rounding. In bfloat16 the sum would lose most of
  LoRA's bits.

Shapes: B images, M tokens, R tokens that are read, D width.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from atha import defaults, machine
from atha.backbones import Backbone
from atha.devices import autocast
from atha.tuners import TunedModel, lora_layers
from atha.tuners.block import BlockLora, FusedBlock, can_replace

# Of all memory, what the activations of one batch may take.
_SHARE = 1 / 8


class Inference:
    """Forward passes of one backbone, with tuners as they are now or frozen.

    Args:
        backbone: on its device.
        tuned: tuners that are in it and are trained no more; None for the frozen backbone, which ``backbone`` must
            then be while it runs.
        precision: of the products: ``float32``, ``bfloat16`` or ``float16``.
        share: another one of the same backbone, whose frozen weights are used.
    """

    def __init__(
        self, backbone: Backbone, tuned: TunedModel | None, precision: str, share: "Inference | None" = None
    ) -> None:
        self._backbone, self._precision = backbone, precision
        self._forwards: dict[nn.Module, Callable[..., Tensor]] = {}
        last = backbone.vision_blocks[-1] if backbone.vision_blocks else None
        with torch.no_grad():
            if precision != "float32" and backbone.device.type == "cpu":
                others = {} if share is None else share._forwards
                self._fuse(tuned, others)
                self._hold(getattr(torch, precision), others)
            if precision == "float32" and tuned is not None and tuned.peft_model is not None:
                self._merge(tuned)
        if backbone.pooled_tokens is not None and last is not None and last not in self._forwards:
            self._forwards[last] = partial(_first_tokens, last, backbone.pooled_tokens)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Forward passes within are those described above, in the precision asked for."""
        before = {module: module.__dict__.get("forward") for module in self._forwards}
        for module, replacement in self._forwards.items():
            module.forward = replacement
        try:
            with autocast(self._precision, self._backbone.device):
                yield
        finally:
            for module, forward in before.items():
                del module.forward
                if forward is not None:
                    module.forward = forward

    def _fuse(self, tuned: TunedModel | None, others: Mapping[nn.Module, Callable[..., Tensor]]) -> None:
        blocks = self._backbone.vision_blocks
        for block in blocks:
            if can_replace(block):
                lora = BlockLora() if tuned is None else replace(BlockLora.of(block), dropout=0.0)
                rows, other = self._backbone.pooled_tokens if block is blocks[-1] else None, others.get(block)
                share = other if isinstance(other, FusedBlock) else None
                self._forwards[block] = FusedBlock(block, lora, rows, trains=False, share=share)

    def _hold(self, dtype: torch.dtype, others: Mapping[nn.Module, Callable[..., Tensor]]) -> None:
        fused = {layer for block in self._forwards for layer in block.modules()}
        for module in self._backbone.vision_tower.modules():
            # LoRA's own layers are small, and trained.
            if module not in fused and type(module) is nn.Linear and not module.weight.requires_grad:
                self._forwards[module] = others.get(module) or _held(module, dtype)

    def _merge(self, tuned: TunedModel) -> None:
        within = set(self._backbone.vision_tower.modules())
        for layer in lora_layers(tuned.peft_model):
            base = layer.base_layer
            if layer in within and type(base) is nn.Linear:
                merged = base.weight + layer.get_delta_weight("default")
                self._forwards[layer] = partial(nn.functional.linear, weight=merged, bias=base.bias)


def _held(layer: nn.Linear, dtype: torch.dtype) -> Callable[..., Tensor]:
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return partial(nn.functional.linear, weight=layer.weight.to(dtype), bias=bias)


def images_at_once(backbone: Backbone, memory: int | None = None) -> int:
    """How many images go through a model at once.

    By the sizes of model and memory alone, and not by what is free just now: the last bits of a result depend on it.

    Args:
        backbone: on its device.
        memory: bytes of that device; by default, looked up.

    Returns:
        `atha.defaults.BATCH_SIZE`, beyond which nothing gets faster on a CPU, or as many as fit.
    """
    if memory is None:
        device = backbone.device
        cuda = device.type == "cuda"
        memory = torch.cuda.get_device_properties(device).total_memory if cuda else machine.memory()
    return max(1, min(defaults.BATCH_SIZE, int(memory * _SHARE) // (4 * image_numbers(backbone))))


def image_numbers(backbone: Backbone) -> int:
    """How many numbers of an image a forward pass holds at its widest moment."""
    width, inner = backbone.vision_widths
    # The residual stream, and around it the inside of the MLP or of attention.
    return backbone.tokens * (8 * width + 3 * inner) + 3 * 3 * backbone.image_size**2


def _first_tokens(
    block: Any, count: int, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any
) -> Tensor:
    """What a block makes of its first tokens: (B, M, D) to (B, R, D)."""
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
    mixed = nn.functional.scaled_dot_product_attention(query, key, value, scale=attention.scale)
    middle = hidden_states[:, :count] + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    result: Tensor = middle + block.mlp(block.layer_norm2(middle))
    return result
