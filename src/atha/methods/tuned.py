"""Methods that train tuners in the backbone: everything about them is in a recipe."""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from atha import defaults
from atha.adaptation import adapt, adapt_together
from atha.backbones import Prompts
from atha.data.views import SupportSet, crop_source
from atha.errors import DataError
from atha.inference import Inference
from atha.methods.base import Images, Method, Options, Predictor, Support, softmax
from atha.recipe import Recipe
from atha.tuners import ClassTexts, TunedModel, can_stack, cosine

# Query images that go through the model at once: always the same ones of an episode together.
_BATCH = defaults.BATCH_SIZE


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
        self._tuned: TunedModel | None = None

    @property
    def template(self) -> str:
        """The recipe's."""
        return self.recipe.prompt.template

    def fit(self, support: Support) -> Predictor:
        """Train on the support images, in the shared backbone."""
        labelled, prompts = self._ready(support)
        self._tuned, texts, _ = adapt(support.frozen.backbone, self.recipe, prompts, labelled)
        return self._predictor(self._tuned, texts, labelled)

    def fit_each(self, supports: Sequence[Support]) -> Generator[Predictor]:
        """Train on all episodes' support images in one pass, where backbone and recipe allow it."""
        if len(supports) == 1 or not can_stack(supports[0].frozen.backbone, self.recipe):
            yield from super().fit_each(supports)
            return
        ready = [self._ready(support) for support in supports]
        labelled, prompts = [one for one, _ in ready], [one for _, one in ready]
        attach = adapt_together(supports[0].frozen.backbone, self.recipe, prompts, labelled)
        for attached, one in zip(attach, labelled, strict=True):
            self._tuned, texts = attached()
            yield self._predictor(self._tuned, texts, one)
            self.release()

    def _ready(self, support: Support) -> tuple[SupportSet, Prompts]:
        return self.support_set(support), support.frozen.backbone.prompts(support.texts, self.recipe.prompt.template)

    @property
    def _squeeze(self) -> bool:
        return self.recipe.views.support == "five-view"

    def _predictor(self, tuned: TunedModel, texts: ClassTexts, labelled: SupportSet) -> Predictor:
        scale = self.recipe.training.resolve_logit_scale(labelled.shot)
        inference = Inference(tuned.backbone, tuned, self.recipe.training.precision)

        @torch.no_grad()
        def predict(query: Images) -> Float[np.ndarray, "Q N"]:
            logits = []
            for batch in query.plain(self._squeeze).split(_BATCH):
                pixels = labelled.views.normalise(batch).to(tuned.backbone.device)
                with inference.running():
                    features = tuned.image_features(pixels, texts)
                logits.append(scale * cosine(features, texts.features))
            return softmax(torch.cat(logits).cpu().numpy())

        return predict

    def support_set(self, support: Support) -> SupportSet:
        """The support images as the recipe trains on them."""
        kind, views = self.recipe.views.support, support.frozen.views(self._squeeze)
        sources = support.images.decoded() if kind == "random-crop" else []
        return SupportSet(
            support.images.plain(self._squeeze),
            torch.from_numpy(support.labels),
            views,
            kind,
            support.seed,
            [crop_source(image, views.size) for image in sources],
        )

    def release(self) -> None:
        """Take the tuners out of the backbone."""
        if self._tuned is not None:
            self._tuned.detach()
            self._tuned = None

    def definition(self) -> dict[str, Any]:
        """The resolved recipe; precision and template are in it."""
        return {"recipe": self.recipe.model_dump(mode="json", exclude={"name"})}

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
