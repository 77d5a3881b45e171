"""Low-rank adaptation of attention projections (LoRA, arXiv 2106.09685), as PEFT defines, starts and saves it.

What is trained stands beside the backbone's layers and not in them: whoever runs a block takes its matrices from here.

Shapes: r rank, K and N width of a layer's input and output.
"""

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atha.backbones import Backbone
from atha.backbones.sharing import share_weights
from atha.errors import RecipeError
from atha.recipe import LoraRecipe
from atha.tuners.dropout import ByteDropout

# Before a layer's name in PEFT's files.
_PREFIX = "base_model.model."


class Pair(NamedTuple):
    """What is added to one layer: ``scaling * B A x``."""

    a: Tensor  # (r, K)
    b: Tensor  # (N, r)


class Lora(nn.Module):
    """Pairs of matrices for layers of a backbone, by the layers' names in its model.

    Args:
        backbone: neither changed nor kept.
        recipe: rank, scaling, dropout, which projections of which towers.

    Raises:
        RecipeError: not every projection that the recipe names is a layer.
    """

    def __init__(self, backbone: Backbone, recipe: LoraRecipe) -> None:
        super().__init__()
        layers = _layers(backbone, recipe)
        self.recipe, self.names = recipe, tuple(layers)
        self.scaling = recipe.alpha / (math.sqrt(recipe.rank) if recipe.rank_stabilised else recipe.rank)
        self.a, self.b = nn.ParameterList(), nn.ParameterList()
        for layer in layers.values():
            # PEFT's start: it draws both layers as torch does, and A once more.
            first = nn.Linear(layer.in_features, recipe.rank, bias=False)
            second = nn.Linear(recipe.rank, layer.out_features, bias=False)
            nn.init.kaiming_uniform_(first.weight, a=math.sqrt(5))
            nn.init.zeros_(second.weight)
            self.a.append(first.weight)
            self.b.append(second.weight)
        self.to(backbone.device)

    @property
    def trained(self) -> list[nn.Parameter]:
        """A and B of each layer, one layer after the other."""
        return [value for pair in zip(self.a, self.b, strict=True) for value in pair]

    def pairs(self, backbone: Backbone) -> dict[nn.Module, Pair]:
        """The pair of each layer of a backbone."""
        return {
            backbone.model.get_submodule(name): Pair(a, b)
            for name, a, b in zip(self.names, self.a, self.b, strict=True)
        }

    @staticmethod
    def shapes(backbone: Backbone, recipe: LoraRecipe) -> dict[str, tuple[int | str, ...]]:
        """Those of `state`, before there are any: a recipe can name a rank that no memory holds.

        Raises:
            RecipeError: not every projection that the recipe names is a layer.
        """
        found: dict[str, tuple[int | str, ...]] = {}
        for name, layer in _layers(backbone, recipe).items():
            found[f"{_PREFIX}{name}.lora_A.weight"] = (recipe.rank, layer.in_features)
            found[f"{_PREFIX}{name}.lora_B.weight"] = (layer.out_features, recipe.rank)
        return found

    def state(self) -> dict[str, Tensor]:
        """What is trained, under PEFT's names."""
        found = {}
        for name, a, b in zip(self.names, self.a, self.b, strict=True):
            found[f"{_PREFIX}{name}.lora_A.weight"] = a.detach()
            found[f"{_PREFIX}{name}.lora_B.weight"] = b.detach()
        return found

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take what was trained from `state`."""
        for name, value in self.state().items():
            value.copy_(state[name])

    def config(self, backbone: Backbone) -> str:
        """PEFT's adapter_config.json."""
        model_class = getattr(backbone, "model_class", None)
        settings = {
            "peft_type": "LORA",
            # PEFT's AutoPeftModel loads the class that is adapted by that.
            "auto_mapping": model_class and {"base_model_class": model_class, "parent_library": "transformers"},
            "task_type": None,
            "base_model_name_or_path": backbone.name,
            "revision": backbone.revision,
            "inference_mode": True,
            "r": self.recipe.rank,
            "lora_alpha": self.recipe.alpha,
            "lora_dropout": self.recipe.dropout,
            "use_rslora": self.recipe.rank_stabilised,
            "use_dora": False,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "target_modules": sorted(self.names),
        }
        return json.dumps(settings, indent=2, sort_keys=True)


class LoraLinear(nn.Module):
    """A frozen layer and its pair, where a library's block calls its layers itself.

    Args:
        base: shared, not changed.
        pair: what is added.
        scaling: of it.
        dropout: share of its input that is zeroed, in training.
    """

    def __init__(self, base: nn.Module, pair: Pair, scaling: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base, self.pair, self.scaling = base, pair, scaling
        self.dropout = ByteDropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """(..., K) to (..., N)."""
        linear = nn.functional.linear
        added = linear(linear(self.dropout(values.to(self.pair.a.dtype)), self.pair.a), self.pair.b)
        result: Tensor = self.base(values) + added * self.scaling
        return result


def with_lora(
    block: nn.Module,
    pairs: Mapping[nn.Module, Pair],
    scaling: float,
    dropout: float = 0.0,
    hold: torch.dtype | None = None,
    share: nn.Module | None = None,
) -> nn.Module:
    """A block that shares all weights with this one and has LoRA in its layers.

    Args:
        block: neither it nor its weights are changed.
        pairs: what is added, by layer; there may be none for this block.
        scaling: of it.
        dropout: share of LoRA's input that is zeroed, in training.
        hold: for prediction on a CPU: in float32 LoRA's product is added to the weights, in another precision frozen
            layers hold their weights in it, where autocast would cast them in every batch.
        share: another block made of this one, whose held weights are used.

    Returns:
        A copy, or the block itself where nothing differs.
    """
    casts = hold not in (None, torch.float32)
    own = {
        name: module
        for name, module in block.named_modules()
        if module in pairs or (casts and type(module) is nn.Linear)
    }
    if not own:
        return block
    copied = share_weights(block)
    for name, layer in own.items():
        pair, base = pairs.get(layer), layer
        if casts:
            held = share.get_submodule(name) if share is not None and share is not block else None
            held = held.base if isinstance(held, LoraLinear) else held
            base = held if held is not None else _linear(layer.weight.to(hold), layer.bias, hold)
        if pair is None:
            made = base
        elif hold == torch.float32:
            made = _linear(layer.weight + scaling * (pair.b @ pair.a), layer.bias)
        else:
            made = LoraLinear(base, pair, scaling, dropout)
        parent, _, child = name.rpartition(".")
        setattr(copied.get_submodule(parent), child, made)
    return copied


def _layers(backbone: Backbone, recipe: LoraRecipe) -> dict[str, nn.Linear]:
    layers = backbone.lora_layers(recipe.towers, recipe.projections)
    blocks = {"text": len(backbone.text_blocks), "vision": len(backbone.vision_blocks)}
    expected = sum(blocks[tower] for tower in set(recipe.towers)) * len(set(recipe.projections))
    if len(layers) != expected or not layers:
        raise RecipeError(
            f"LoRA on projections {', '.join(recipe.projections)} of {', '.join(recipe.towers)} matches "
            f"{len(layers)} layers of {backbone.name} and should match {expected}: change lora.projections or "
            "lora.towers, or choose a model whose projections are layers"
        )
    return layers


def _linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().to(dtype or bias.dtype), requires_grad=False)
    return layer
