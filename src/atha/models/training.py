"""The one fit loop: every method that trains goes through it. It sees support images, and nothing else."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from atha.backbones import Backbone, Prompts
from atha.data.views import SupportSet
from atha.errors import DataError, TrainingError
from atha.models.encoder import ClassTexts, Encoder, cosine
from atha.models.optimisers import Optimiser
from atha.recipe import Recipe
from atha.tuners import Tuners


@dataclass(frozen=True)
class TrainingStep:
    """A training step that is done, as the callbacks of `atha.Classifier.fit` get it.

    Attributes:
        step: its number, from 1, counted over all that this fit trains.
        steps: how many there are in all.
        loss: mean cross-entropy over the images of the step, in nats, before its update.
        half: whether one half of the support set is trained on, to weigh the members of a blend by the other; what is
            trained so is not kept.
    """

    step: int
    steps: int
    loss: float
    half: bool = False


#: Told of a step, and of the tuners as they are now.
Observer = Callable[[TrainingStep, Sequence[Tuners]], None]

# Tokens that go through a step at once. On a CPU, more are not faster; a GPU wants many.
_PART_TOKENS = {"cpu": 4096, "cuda": 65536}


def train(
    encoder: Encoder, prompts: Prompts, supports: Sequence[SupportSet], recipe: Recipe, observer: Observer | None = None
) -> list[list[float]]:
    """Train the tuners of a view on support sets; the last step is the one that counts.

    Loss: cross-entropy of ``c * cos(image, text)`` over the classes, without a validation set or early stop.

    Args:
        encoder: whose tuners to train, in float32; see `atha.models.forms.training_encoder`.
        prompts: tokenised class texts of its episodes, one after the other.
        supports: of each episode, as many images and as large a shot in each; labels index the episode's class texts.
        recipe: steps, optimisers, loss scale.
        observer: told of every step, with the mean loss.

    Returns:
        For each episode, the loss of each step.

    Raises:
        TrainingError: a loss is not finite; names the step and what to change.
        ValueError: support sets of different sizes.
    """
    settings, device, precision = recipe.training, encoder.backbone.device, encoder.precision
    if len({(len(support.labels), support.shot) for support in supports}) > 1:
        raise ValueError("support sets that are trained together must have as many images and as large a shot each")
    steps = settings.resolve_steps(supports[0].shot)
    scale = settings.resolve_logit_scale(supports[0].shot)
    groups = encoder.parameters()
    trains_texts = encoder.tuners[0].trains_texts
    optimisers = [Optimiser(parameters, getattr(settings, name)) for name, parameters in groups.items()]
    start_rates = [optimiser.lr for optimiser in optimisers]
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    losses: list[list[float]] = []
    batches = zip(*(support.batches(settings.batch_size) for support in supports), strict=True)
    for step, batch in zip(range(steps), batches, strict=False):
        if settings.schedule == "cosine":
            for optimiser, rate in zip(optimisers, start_rates, strict=True):
                optimiser.lr = _cosine_rate(rate, settings.final_lr, step / steps)
        if step == 0 or trains_texts:
            texts = encoder.texts(prompts)
        losses.append(_backward(encoder, texts, batch, scale, scaler))
        if not all(map(math.isfinite, losses[-1])):
            precise = "" if precision == "float32" else f" or set training.precision=float32 (now {precision})"
            wrong = next(loss for loss in losses[-1] if not math.isfinite(loss))
            raise TrainingError(
                f"the loss became {wrong} at step {step + 1} of {steps}: lower training.lora.lr "
                f"(now {settings.lora.lr:g}){precise}"
            )
        for optimiser in optimisers:
            scaler.step(cast(torch.optim.Optimizer, optimiser))
            optimiser.zero_grad()
        scaler.update()
        if observer is not None:
            observer(TrainingStep(step + 1, steps, sum(losses[-1]) / len(supports)), encoder.tuners)
    _check_finite(groups.values(), steps)
    return [list(of_one) for of_one in zip(*losses, strict=True)]


def observer_of(callbacks: Iterable[Callable[[TrainingStep], object]]) -> Observer | None:
    """What calls each callback in turn; None where there is none.

    Args:
        callbacks: functions of a step.

    Raises:
        DataError: it is one function, or holds what cannot be called.
    """
    if callable(callbacks):
        raise DataError(f"callbacks is {callbacks!r}: give a list of functions, [{_name(callbacks)}]")
    each = list(callbacks)
    if wrong := [one for one in each if not callable(one)]:
        raise DataError(f"callbacks holds {wrong[0]!r}, which cannot be called: give functions of a TrainingStep")

    def observe(now: TrainingStep, _: Sequence[Tuners]) -> None:
        for one in each:
            one(now)

    return observe if each else None


def _name(function: object) -> str:
    return str(getattr(function, "__name__", "function"))


def _backward(
    encoder: Encoder,
    texts: ClassTexts,
    batch: Sequence[tuple[Tensor, Tensor]],
    scale: float,
    scaler: torch.amp.GradScaler,
) -> list[float]:
    """Gradients of one step, and the loss of each episode.

    The images go through in parts, so that memory is bounded: the gradient of the texts is that of all parts.
    """
    device = encoder.backbone.device
    pixels, labels = (
        batch[0][index][None] if len(batch) == 1 else torch.stack([one[index] for one in batch]) for index in (0, 1)
    )
    groups, count = labels.shape
    learned = texts.features.requires_grad
    cut = texts.detached() if learned else texts
    sums = torch.zeros(groups)
    parts = math.ceil(count / max(1, part_size(encoder.backbone) // groups))
    for some, wanted in zip(pixels.tensor_split(parts, dim=1), labels.tensor_split(parts, dim=1), strict=True):
        images = encoder.images(some.flatten(0, 1).to(device), cut.anchors)
        features = images.unflatten(0, (groups, -1)), cut.features.reshape(groups, -1, images.shape[-1])
        logits = scale * cosine(*features)
        each = nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten().to(device), reduction="none")
        loss = each.view(groups, -1).sum(dim=1) / count
        scaler.scale(loss.sum()).backward()
        sums += loss.detach().cpu()
    if learned:
        pairs = [(whole, part.grad) for whole, part in zip(texts.tensors, cut.tensors, strict=True)]
        reached = [(whole, gradient) for whole, gradient in pairs if gradient is not None]
        torch.autograd.backward([whole for whole, _ in reached], [gradient for _, gradient in reached])
    return sums.tolist()


def part_size(backbone: Backbone) -> int:
    """Images that go through a training step at once: what it keeps for the backward pass grows with them."""
    tokens = _PART_TOKENS.get(backbone.device.type, _PART_TOKENS["cuda"])
    return max(1, tokens // backbone.tokens)


def _cosine_rate(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def _check_finite(groups: Iterable[list[nn.Parameter]], steps: int) -> None:
    # The last update follows the last loss, so that its result is checked here.
    if not all(bool(value.isfinite().all()) for group in groups for value in group):
        raise TrainingError(f"trained values are not finite after step {steps}: lower training.lora.lr")
