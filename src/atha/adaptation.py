"""One adaptation of a backbone: tuners attached, trained on a support set, and the class texts as they then are."""

import torch

from atha.backbones import Backbone, Prompts
from atha.data.views import SupportSet
from atha.devices import autocast, resolve_precision, seeded
from atha.recipe import Recipe
from atha.training import Progress, train
from atha.tuners import ClassTexts, TunedModel


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
            precision = resolve_precision(recipe.training.precision, backbone.device)
            with torch.no_grad(), autocast(precision, backbone.device):
                return tuned, tuned.texts(), losses
        except BaseException:
            tuned.detach()
            raise
