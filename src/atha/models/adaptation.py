"""Adaptations of a backbone: tuners trained on a support set, and the class texts as they then are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from atha.backbones import Backbone, Prompts
from atha.data.views import SupportSet
from atha.devices import resolve_precision, seeded
from atha.models.encoder import ClassTexts, Encoder
from atha.models.forms import prediction_encoder, training_encoder
from atha.models.training import Observer, train
from atha.recipe import Recipe
from atha.tensors import check_no_others, check_tensors
from atha.tuners import Tuners


@dataclass(frozen=True)
class Adaptation:
    """What was trained, to be changed no more.

    Attributes:
        tuners: LoRA, context, strengths.
        texts: class text features and anchors to predict with.
        scale: of the cosines.
        losses: of each step; none of one that was saved.
    """

    tuners: Tuners
    texts: ClassTexts
    scale: float
    losses: list[float] = field(default_factory=list)

    @classmethod
    def load(cls, backbone: Backbone, recipe: Recipe, state: Mapping[str, Tensor], scale: float) -> "Adaptation":
        """One that was saved; losses are not part of it.

        Args:
            backbone: on its device.
            recipe: that trained it.
            state: see `state`.
            scale: of the cosines.

        Raises:
            TensorError: a tensor is missing, of another shape or type, or one too many.
        """
        shapes = Tuners.shapes(backbone, recipe) | {"class_text_features": ("N", backbone.joint_width)}
        if recipe.alignment:
            shapes["anchors"] = ("N", backbone.vision_widths[0])
        check_tensors(state, shapes)
        check_no_others(state, shapes)
        features = state["class_text_features"].float().to(backbone.device)
        anchors = state["anchors"].float().to(backbone.device) if recipe.alignment else None
        return cls(Tuners.load(backbone, recipe, state), ClassTexts(features, anchors), scale)

    def state(self) -> dict[str, Tensor]:
        """What was trained, and what was made of the class texts."""
        found = {**self.tuners.state(), "class_text_features": self.texts.features}
        return found if self.texts.anchors is None else found | {"anchors": self.texts.anchors}


def adapt(
    backbone: Backbone, recipe: Recipe, prompts: Prompts, support: SupportSet, observer: Observer | None = None
) -> Adaptation:
    """Train the recipe's tuners.

    Args:
        backbone: not changed.
        recipe: which tuners, and how to train them.
        prompts: tokenised class texts.
        support: images and labels; its seed fixes LoRA's start and dropout too.
        observer: told of every step.

    Raises:
        RecipeError: the tuners do not fit the backbone.
        TrainingError: the loss is not finite.
    """
    precision = resolve_precision(recipe.training.precision, backbone.device)
    with seeded(support.seed, backbone.device):
        tuners = Tuners.start(backbone, recipe, prompts)
        encoder = training_encoder(backbone, [tuners], precision)
        losses = train(encoder, prompts, [support], recipe, observer)[0]
    return _finished(backbone, precision, recipe, tuners, prompts, support, losses)


def adapt_together(
    backbone: Backbone,
    recipe: Recipe,
    prompts: Sequence[Prompts],
    supports: Sequence[SupportSet],
    observer: Observer | None = None,
) -> list[Adaptation]:
    """`adapt` for several episodes in one pass over the frozen weights: the same up to rounding, and faster.

    An episode of one image per class is too small to fill a processor. The episodes' images and texts go through the
    frozen weights together; what is trained is each episode's alone, starts as it would start by itself and draws its
    dropout from its own generator.

    Args:
        backbone: not changed.
        recipe: see `atha.models.forms.can_stack`.
        prompts: tokenised class texts of each episode, as many classes in each.
        supports: of each episode, as many images in each.
        observer: told of every step, with the mean loss.

    Raises:
        RecipeError: the tuners do not fit the backbone.
        TrainingError: a loss is not finite.
    """
    precision = resolve_precision(recipe.training.precision, backbone.device)
    encoder, whole = stacked(backbone, recipe, precision, prompts, [support.seed for support in supports])
    losses = train(encoder, whole, supports, recipe, observer)
    each = zip(encoder.tuners, prompts, supports, losses, strict=True)
    return [_finished(backbone, precision, recipe, *one) for one in each]


def stacked(
    backbone: Backbone, recipe: Recipe, precision: str, prompts: Sequence[Prompts], seeds: Sequence[int]
) -> tuple[Encoder, Prompts]:
    """A view that trains several episodes in one pass, and their class texts, one after the other.

    Args:
        backbone: not changed.
        recipe: see `atha.models.forms.can_stack`.
        precision: of the products.
        prompts: tokenised class texts of each episode.
        seeds: of each episode: LoRA's start and dropout.
    """
    tuners, generators = [], []
    for own, seed in zip(prompts, seeds, strict=True):
        with seeded(seed, backbone.device):
            tuners.append(Tuners.start(backbone, recipe, own))
            # Dropout goes on where LoRA's start leaves the generator.
            generators.append(torch.Generator())
            generators[-1].set_state(torch.get_rng_state())
    ids = [own.input_ids for own in prompts]
    encoder = training_encoder(backbone, tuners, precision, generators, [one.shape[1] for one in ids])
    return encoder, Prompts(_joined(ids), prompts[0].context)


@torch.no_grad()
def _finished(
    backbone: Backbone,
    precision: str,
    recipe: Recipe,
    tuners: Tuners,
    prompts: Prompts,
    support: SupportSet,
    losses: list[float],
) -> Adaptation:
    for values in tuners.parameters().values():
        for value in values:
            value.grad = None
    texts = prediction_encoder(backbone, precision, tuners).texts(prompts)
    return Adaptation(tuners, texts, recipe.training.resolve_logit_scale(support.shot), losses)


def _joined(ids: Sequence[Tensor]) -> Tensor:
    # A text that is longer by its last token, an end token or padding, is the same text to a causal tower.
    longest = max(one.shape[1] for one in ids)
    return torch.cat([torch.cat([one, one[:, -1:].expand(-1, longest - one.shape[1])], dim=1) for one in ids])
