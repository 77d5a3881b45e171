"""Methods that train tuners in the backbone: everything about them is in a recipe."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atha import defaults
from atha.alignment import Watcher
from atha.backbones import Backbone
from atha.data.views import SupportSet, crop_source
from atha.devices import resolve_precision
from atha.errors import DataError
from atha.methods.automatic import RULE, fit_blend, halves, needs_halves
from atha.methods.base import Counterpart, Fitted, Method, Options, Support, cosines, text_anchors
from atha.methods.images import Images
from atha.models.adaptation import Adaptation, adapt, adapt_together
from atha.models.encoder import Encoder
from atha.models.forms import can_stack, graph_encoder, prediction_encoder
from atha.models.frozen import Frozen, without
from atha.models.graph import Affine, Tower, Unit
from atha.models.inference import in_groups
from atha.models.training import Observer, TrainingStep
from atha.recipe import Recipe
from atha.tuners import Tuners


@dataclass(frozen=True)
class FittedRecipe(Fitted, kind="recipe"):
    """What a recipe trained, in front of the frozen backbone.

    Attributes:
        recipe: the resolved one.
        adaptation: what was trained.
        frozen: the backbone; its weights are shared.
    """

    recipe: Recipe
    adaptation: Adaptation
    frozen: Frozen

    @cached_property
    def encoder(self) -> Encoder:
        """The adapted view that predicts."""
        frozen = self.frozen
        precision = resolve_precision(self.recipe.training.precision, frozen.backbone.device)
        share = frozen.encoder if precision == frozen.precision else None
        return prediction_encoder(frozen.backbone, precision, self.adaptation.tuners, share)

    def scores(self, images: Images) -> Float[np.ndarray, "Q N"]:
        """Scaled cosines of image and class text features."""
        return self.look(images)

    def look(self, images: Images, watch: Watcher | None = None) -> Float[np.ndarray, "Q N"]:
        """See `Fitted`; in one forward pass, and the scores of an image depend on no other."""
        texts, encoder, squeeze = self.adaptation.texts, self.encoder, squeezes(self.recipe)

        def work(pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B E"]:
            return encoder.images(pixels, texts.anchors, watch).float()

        plain, views = images.plain(squeeze), images.views(squeeze)
        features = in_groups(plain, views, encoder, work, watch is not None).numpy()
        return self.adaptation.scale * cosines(features, texts.features.float().cpu().numpy())

    def anchors(
        self, frozen: Frozen, texts: Sequence[str], template: str, kind: Literal["adjoint", "inverse"]
    ) -> Float[Tensor, "N D"]:
        """See `Fitted`; those that tokens are aligned with, where they are."""
        own = self.adaptation.texts.anchors
        return text_anchors(self.encoder, texts, template, kind) if own is None else own

    @property
    def classes(self) -> int:
        """See `Fitted`."""
        return len(self.adaptation.texts.features)

    @property
    def tuners(self) -> Tuners:
        """See `Fitted`."""
        return self.adaptation.tuners

    @property
    def trained(self) -> dict[str, int]:
        """See `Fitted`; by tuner."""
        return {name: sum(map(Tensor.numel, values)) for name, values in self.tuners.parameters().items()}

    @property
    def losses(self) -> list[float]:
        """See `Fitted`; not kept by `state`."""
        return self.adaptation.losses

    def state(self) -> dict[str, Tensor]:
        """What was trained, and what was made of the class texts."""
        return self.adaptation.state()

    def definition(self) -> dict[str, Any]:
        """The scale of the cosines."""
        return super().definition() | {"logit_scale": self.adaptation.scale}

    @classmethod
    def restore(
        cls, definition: Mapping[str, Any], tensors: Mapping[str, Tensor], recipe: Recipe, frozen: Frozen
    ) -> "FittedRecipe":
        """See `Fitted`."""
        scale = float(definition["logit_scale"])
        return cls(recipe, Adaptation.load(frozen.backbone, recipe, tensors, scale), frozen)

    def graph(self, frozen: Frozen) -> nn.Module:
        """See `Fitted`."""
        texts = self.adaptation.texts
        tower = Tower(graph_encoder(frozen.backbone, self.adaptation.tuners), texts.anchors)
        unit = nn.functional.normalize(texts.features.float(), dim=-1)
        return nn.Sequential(tower, Unit(), Affine(self.adaptation.scale * unit))

    def counterpart(self, frozen: Frozen) -> Counterpart:
        """See `Fitted`."""
        moved = self.strengths is not None and any(map(any, self.strengths))
        left_out = ("alignment of tokens at run time is left out",) if moved else ()
        return Counterpart(self.tuners, self.adaptation.scale, left_out)

    @torch.no_grad()
    def with_texts(self, frozen: Frozen, texts: Sequence[str], template: str) -> "FittedRecipe":
        """See `Fitted`; in the recipe's precision."""
        made = self.encoder.texts(frozen.backbone.prompts(texts, template))
        return replace(self, adaptation=replace(self.adaptation, texts=made))

    def release(self) -> None:
        """Weights in the precision of the products."""
        vars(self).pop("encoder", None)

    def __getstate__(self) -> dict[str, Any]:
        return without(self, "encoder")


def fit_recipe(recipe: Recipe, support: Support, observer: Observer | None = None) -> Fitted:
    """Fit what a recipe says: what it trains, or a blend.

    Args:
        recipe: the resolved one.
        support: what to learn from.
        observer: told of every step, counted over all that is trained.

    Raises:
        RecipeError, BackboneError, TrainingError: as for `train_recipe`.
    """
    if recipe.blend is None:
        return train_recipe(recipe, support, observer)
    backbone = support.frozen.backbone
    steps = sum(each for each, _ in planned(recipe, support.labels, support.seed, backbone))
    before = count(1)

    def train(supports: Sequence[Support], *, on_halves: bool) -> Iterable[FittedRecipe]:
        def counted(now: TrainingStep, tuners: Sequence[Tuners]) -> None:
            if observer is not None:
                observer(TrainingStep(next(before), steps, now.loss, on_halves), tuners)

        own = _shorter(recipe) if on_halves else recipe
        together = on_halves and _halves_go_together(backbone, own, [half.labels for half in supports])
        return train_each(own, supports, together, counted)

    return fit_blend(recipe.blend, support, train)


def planned(recipe: Recipe, labels: Int[np.ndarray, "n"], seed: int, backbone: Backbone) -> list[tuple[int, int]]:
    """What `fit_recipe` trains, one after the other: the steps of each, and the images that go through a step.

    Args:
        recipe: that trains something.
        labels: class indices of the support set.
        seed: of it.
        backbone: that is trained in.
    """
    trainings = [(recipe, [labels])]
    if recipe.blend is not None and needs_halves(recipe.blend):
        own, parts = _shorter(recipe), [labels[~part] for part in halves(labels, seed)]
        together = _halves_go_together(backbone, own, parts)
        trainings += [(own, parts)] if together else [(own, [part]) for part in parts]
    return [
        (
            own.training.resolve_steps(int(np.bincount(parts[0]).max())),
            sum(min(own.training.batch_size or len(some), len(some)) for some in parts),
        )
        for own, parts in trainings
    ]


def _shorter(recipe: Recipe) -> Recipe:
    training = recipe.training.model_copy(update={"steps": -(-recipe.training.steps * 3 // 4)})
    return recipe.model_copy(update={"training": training})


def train_recipe(recipe: Recipe, support: Support, observer: Observer | None = None) -> FittedRecipe:
    """Train what a recipe says.

    Args:
        recipe: the resolved one.
        support: what to learn from; the class texts are filled into the recipe's template.
        observer: told of every step.

    Raises:
        RecipeError: the tuners do not fit the backbone.
        BackboneError: a class text is too long.
        TrainingError: the loss is not finite.
    """
    backbone = support.frozen.backbone
    prompts = backbone.prompts(support.texts, recipe.prompt.template)
    adaptation = adapt(backbone, recipe, prompts, support_set(recipe, support), observer)
    return FittedRecipe(recipe, adaptation, support.frozen)


def train_each(
    recipe: Recipe, supports: Sequence[Support], together: bool, observer: Observer | None = None
) -> Generator[FittedRecipe]:
    """Train what a recipe says on several support sets of one backbone, each by itself.

    Args:
        recipe: the resolved one.
        supports: what to learn from.
        together: whether they go through the frozen weights in one pass, see `adapt_together`.
        observer: told of every step, of each training or of all that go together.

    Yields:
        For each support set what `train_recipe` returns; one that was trained by itself before the next is trained.

    Raises:
        RecipeError, BackboneError, TrainingError: as for `train_recipe`.
    """
    if not together:
        yield from (train_recipe(recipe, support, observer) for support in supports)
        return
    frozen = supports[0].frozen
    prompts = [frozen.backbone.prompts(support.texts, recipe.prompt.template) for support in supports]
    sets = [support_set(recipe, support) for support in supports]
    for adaptation in adapt_together(frozen.backbone, recipe, prompts, sets, observer):
        yield FittedRecipe(recipe, adaptation, frozen)


def _go_together(backbone: Backbone, recipe: Recipe, labels: Sequence[Int[np.ndarray, "n"]]) -> bool:
    """Whether several support sets, of these class indices, can be trained on in one pass."""
    alike = len({(len(some), int(np.bincount(some).max())) for some in labels}) == 1
    return len(labels) > 1 and alike and can_stack(backbone, recipe)


def _halves_go_together(backbone: Backbone, recipe: Recipe, labels: Sequence[Int[np.ndarray, "n"]]) -> bool:
    """Whether halves of one can. Elsewhere than on a CPU, a support set alone goes through the library's own blocks."""
    return backbone.device.type == "cpu" and _go_together(backbone, recipe, labels)


def support_set(recipe: Recipe, support: Support) -> SupportSet:
    """The support images as a recipe trains on them."""
    kind, squeeze = recipe.views.support, squeezes(recipe)
    views = support.images.views(squeeze)
    sources = support.images.decoded() if kind == "random-crop" else []
    return SupportSet(
        support.images.plain(squeeze),
        torch.from_numpy(support.labels),
        views,
        kind,
        support.seed,
        [crop_source(image, views.size) for image in sources],
    )


def squeezes(recipe: Recipe) -> bool:
    """Whether plain views are squeezed to the size itself; see `atha.data.views.Views`."""
    return recipe.views.support == "five-view"


class Tuned(Method):
    """A recipe on an episode. Run options decide on geometry, precision and, where given, template."""

    summary = "ATHA: the preset or recipe file after the colon"
    takes_argument = True
    uses_recipe = True
    together = True
    preset: str | None = None  # fixed by a sub-class; else it is the argument

    def __init__(self, argument: str | None = None, options: Options = Options()) -> None:  # noqa: B008 - frozen
        super().__init__(argument, options)
        source = self.preset or argument
        if source is None:
            raise DataError(f"atha needs a recipe: write atha:{defaults.RECIPE}, another preset or a recipe file")
        recipe = Recipe.load(source, options.overrides)
        fixed: dict[str, str] = {"views.transform": options.transform}
        if recipe.training.precision == "auto":
            fixed["training.precision"] = options.precision
        if options.template is not None:
            fixed["prompt.template"] = options.template
        # Its name stays: what the run fixes, it fixes for all methods.
        self.recipe = Recipe.load(recipe, fixed).model_copy(update={"name": recipe.name})

    @property
    def template(self) -> str:
        """The recipe's."""
        return self.recipe.prompt.template

    def fit(self, support: Support) -> Fitted:
        """Train on the support images."""
        return fit_recipe(self.recipe, support)

    def fit_each(self, supports: Sequence[Support]) -> Generator[Fitted]:
        """Train on all episodes' support images in one pass, where backbone and recipe allow it."""
        if self.recipe.blend is not None:
            return super().fit_each(supports)
        together = _go_together(supports[0].frozen.backbone, self.recipe, [support.labels for support in supports])
        return train_each(self.recipe, supports, together)

    def definition(self) -> dict[str, Any]:
        """The resolved recipe; precision and template are in it. What it leaves open, a rule decides."""
        blend = self.recipe.blend
        decided = {} if blend is None or not blend.decides else {"rule": RULE}
        return {"recipe": self.recipe.model_dump(mode="json", exclude={"name"}), **decided}

    def label(self, name: str) -> str:
        """By the recipe's name, which ends in + where keys were changed, and not by its file's place."""
        return self.recipe.name if self.preset is not None else f"{name.partition(':')[0]}:{self.recipe.name}"


class Lora(Tuned):
    """LoRA with learned context: ATHA's own baseline."""

    summary = "LoRA with learned context, no alignment (preset lora)"
    takes_argument = False
    preset = "lora"


class ClipLora(Tuned):
    """CLIP-LoRA (arXiv 2405.18541)."""

    summary = "CLIP-LoRA (preset clip-lora)"
    takes_argument = False
    preset = "clip-lora"
