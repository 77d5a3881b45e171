"""Low-rank adaptation of the attention projections, through PEFT as it is."""

from collections.abc import Iterator
from typing import Any

import peft
from torch import nn

from atha.backbones import Backbone
from atha.errors import RecipeError
from atha.recipe import LoraRecipe
from atha.tuners.dropout import ByteDropout


def attach_lora(backbone: Backbone, recipe: LoraRecipe) -> Any:
    """Put LoRA layers into the backbone's attention projections.

    Args:
        backbone: its model is changed in place; names of modules and parameters are PEFT's own.
        recipe: rank, scaling, dropout, which projections of which towers.

    Returns:
        The `peft.PeftModel` around ``backbone.model``.

    Raises:
        RecipeError: not every projection that the recipe names was found.
    """
    config = peft.LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        use_rslora=recipe.rank_stabilised,
        target_modules=backbone.lora_pattern(recipe.towers, recipe.projections),
        bias="none",
    )
    blocks = {"text": len(backbone.text_blocks), "vision": len(backbone.vision_blocks)}
    expected = sum(blocks[tower] for tower in set(recipe.towers)) * len(set(recipe.projections))
    try:
        model = peft.get_peft_model(backbone.model, config)
    except ValueError as error:
        raise RecipeError(_no_match(recipe, backbone, 0, expected)) from error
    config.base_model_name_or_path = backbone.name
    for layer in lora_layers(model):
        layer.lora_dropout["default"] = ByteDropout(recipe.dropout)
    if (found := len(list(lora_layers(model)))) != expected:
        model.unload()
        raise RecipeError(_no_match(recipe, backbone, found, expected))
    return model


def lora_layers(model: nn.Module) -> Iterator[Any]:
    """The layers that LoRA adapts."""
    return (module for module in model.modules() if isinstance(module, peft.tuners.lora.LoraLayer))


def _no_match(recipe: LoraRecipe, backbone: Backbone, found: int, expected: int) -> str:
    return (
        f"LoRA on projections {', '.join(recipe.projections)} of {', '.join(recipe.towers)} matches {found} layers of "
        f"{backbone.name} and should match {expected}: change lora.projections or lora.towers, or choose a model whose "
        "projections are layers"
    )
