"""Adaptations of a backbone: tuners attached, trained on a support set, and the class texts as they then are."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from atha.backbones import Backbone, Prompts
from atha.data.views import SupportSet
from atha.devices import autocast, resolve_precision, seeded
from atha.recipe import Recipe
from atha.training import Progress, train, train_together
from atha.tuners import ClassTexts, StackedModel, TunedModel


def adapt(
    backbone: Backbone, recipe: Recipe, prompts: Prompts, support: SupportSet, progress: Progress | None = None
) -> tuple[TunedModel, ClassTexts, list[float]]:
    """Attach the recipe's tuners to a backbone and train them.

    Args:
        backbone: changed in place until the tuned model is detached; left as it was on an error.
        recipe: which tuners, and how to train them.
        prompts: tokenised class texts.
        support: images and labels; its seed fixes LoRA's start and dropout too.
        progress: told of every step.

    Returns:
        The tuned model, class texts and anchors to predict with, and the loss of each step.

    Raises:
        RecipeError: the tuners do not fit the backbone.
        TrainingError: the loss is not finite.
    """
    with seeded(support.seed, backbone.device):
        tuned = TunedModel(backbone, recipe, prompts)
        try:
            losses = train(tuned, support, recipe, progress)
            return tuned, _final_texts(tuned, recipe), losses
        except BaseException:
            tuned.detach()
            raise


def adapt_together(
    backbone: Backbone, recipe: Recipe, prompts: Sequence[Prompts], supports: Sequence[SupportSet]
) -> list[Callable[[], tuple[TunedModel, ClassTexts]]]:
    """`adapt` for several episodes in one pass over the frozen weights: the same up to rounding, and faster.

    Args:
        backbone: left as it was.
        recipe: see `atha.tuners.can_stack`.
        prompts: tokenised class texts of each episode, as many classes in each.
        supports: of each episode, as many images in each.

    Returns:
        For each episode, a function that attaches what was trained: it returns the tuned model, to be detached before
        another is attached, and its class texts.

    Raises:
        RecipeError: the tuners do not fit the backbone.
        TrainingError: a loss is not finite.
    """
    stack = StackedModel(backbone, recipe, prompts, [support.seed for support in supports])
    try:
        train_together(stack, supports, recipe)
    finally:
        stack.detach()

    def attach(group: int) -> tuple[TunedModel, ClassTexts]:
        with seeded(supports[group].seed, backbone.device):
            tuned = TunedModel(backbone, recipe, prompts[group])
        trained = stack.parameters(group)
        try:
            with torch.no_grad():
                for name, values in tuned.parameters().items():
                    for value, found in zip(values, trained[name], strict=True):
                        value.copy_(found)
            return tuned, _final_texts(tuned, recipe)
        except BaseException:
            tuned.detach()
            raise

    return [partial(attach, group) for group in range(stack.groups)]


def _final_texts(tuned: TunedModel, recipe: Recipe) -> ClassTexts:
    device = tuned.backbone.device
    with torch.no_grad(), autocast(resolve_precision(recipe.training.precision, device), device):
        return tuned.texts()
