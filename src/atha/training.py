"""The one fit loop: every method that trains goes through it. It sees support images, and nothing else."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from atha.data.views import SupportSet
from atha.devices import autocast, resolve_precision
from atha.errors import TrainingError
from atha.recipe import OptimiserRecipe, Recipe
from atha.tuners import TunedModel, cosine

#: Called after each step with (step, steps, loss).
Progress = Callable[[int, int, float], None]


def train(model: TunedModel, support: SupportSet, recipe: Recipe, progress: Progress | None = None) -> list[float]:
    """Train the tuners of ``model`` on the support set; the last step is the one that counts.

    Loss: cross-entropy of ``c * cos(image, text)`` over the classes, without a validation set or early stop.

    Args:
        model: what to train, in place, in float32; the forward pass is in the recipe's precision.
        support: images and labels; labels index the model's class texts.
        recipe: steps, optimisers, loss scale.
        progress: told of every step.

    Returns:
        The loss of each step.

    Raises:
        TrainingError: the loss is not finite; names the step and what to change.
    """
    settings, device = recipe.training, model.backbone.device
    steps = settings.resolve_steps(support.shot)
    scale = settings.resolve_logit_scale(support.shot)
    precision = resolve_precision(settings.precision, device)
    groups = model.parameters()
    optimisers = [_optimiser(parameters, getattr(settings, name)) for name, parameters in groups.items()]
    start_rates = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    losses: list[float] = []
    model.train()
    try:
        for step, (pixels, labels) in zip(range(steps), support.batches(settings.batch_size), strict=False):
            if settings.schedule == "cosine":
                for optimiser, rate in zip(optimisers, start_rates, strict=True):
                    optimiser.param_groups[0]["lr"] = _cosine_rate(rate, settings.final_lr, step / steps)
            with autocast(precision, device):
                texts = model.texts()
                images = model.image_features(pixels.to(device), texts)
            loss = nn.functional.cross_entropy(scale * cosine(images, texts.features), labels.to(device))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                precise = "" if precision == "float32" else f" or set training.precision=float32 (now {precision})"
                raise TrainingError(
                    f"the loss became {losses[-1]} at step {step + 1} of {steps}: lower training.lora.lr "
                    f"(now {settings.lora.lr:g}){precise}"
                )
            scaler.scale(loss).backward()
            for optimiser in optimisers:
                scaler.step(optimiser)
                optimiser.zero_grad()
            scaler.update()
            if progress is not None:
                progress(step + 1, steps, losses[-1])
    finally:
        model.train(False)
    _check_finite(groups.values(), steps)
    return losses


def _optimiser(parameters: list[nn.Parameter], recipe: OptimiserRecipe) -> torch.optim.Optimizer:
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.name == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, **options)
    # One kernel for all parameters: they are many and small.
    return torch.optim.AdamW(parameters, fused=parameters[0].device.type in ("cpu", "cuda"), **options)


def _cosine_rate(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _check_finite(groups: Iterable[list[nn.Parameter]], steps: int) -> None:
    # The last update follows the last loss, so that its result is checked here.
    if not all(bool(value.isfinite().all()) for group in groups for value in group):
        raise TrainingError(f"trained values are not finite after step {steps}: lower training.lora.lr")
