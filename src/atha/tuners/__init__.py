"""Tuners: what is trained around a frozen backbone, as values beside it: `atha.models.encoder` runs a tower with them.

A tuner is an ``nn.Module`` with ``trained`` (parameters, in a fixed order), ``shapes``, ``state`` and ``load``. A new
one is a file beside this one and a line in `Tuners.start`; where in a tower it acts, `atha.models.encoder` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from atha.backbones import Backbone, Prompts
from atha.devices import seeded
from atha.recipe import Recipe
from atha.tuners.context import LearnedContext
from atha.tuners.lora import Lora
from atha.tuners.strengths import Strengths

__all__ = ["LearnedContext", "Lora", "Strengths", "Tuners"]


@dataclass(frozen=True)
class Tuners:
    """The tuners of one adaptation; None for those that its recipe leaves out."""

    lora: Lora | None = None
    context: LearnedContext | None = None
    strengths: Strengths | None = None

    @classmethod
    def start(cls, backbone: Backbone, recipe: Recipe, prompts: Prompts) -> "Tuners":
        """Those of a recipe, as training begins; LoRA's start comes from torch's global generator.

        Raises:
            RecipeError: LoRA does not find its layers.
            BackboneError: the backbone has no tokens that can be aligned.
        """
        return cls(
            Lora(backbone, recipe.lora) if recipe.lora else None,
            LearnedContext.start(backbone, prompts) if recipe.prompt.learn_context else None,
            Strengths(backbone, recipe.alignment) if recipe.alignment else None,
        )

    @property
    def parts(self) -> dict[str, Lora | LearnedContext | Strengths]:
        """Those that are there, by the name of their optimiser in a recipe."""
        found = {"lora": self.lora, "context": self.context, "strengths": self.strengths}
        return {name: part for name, part in found.items() if part is not None}

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by tuner."""
        return {name: part.trained for name, part in self.parts.items() if part.trained}

    def state(self) -> dict[str, Tensor]:
        """All values that were trained, or are needed beside them."""
        return {name: value for part in self.parts.values() for name, value in part.state().items()}

    @classmethod
    def shapes(cls, backbone: Backbone, recipe: Recipe) -> dict[str, tuple[int | str, ...]]:
        """Those of all values of `state`, before there are any; see `atha.tensors.check_tensors`.

        Raises:
            RecipeError: LoRA does not find its layers.
        """
        return {
            **(Lora.shapes(backbone, recipe.lora) if recipe.lora else {}),
            **(LearnedContext.shapes(backbone) if recipe.prompt.learn_context else {}),
            **(Strengths.shapes(backbone) if recipe.alignment else {}),
        }

    @classmethod
    def load(cls, backbone: Backbone, recipe: Recipe, state: Mapping[str, Tensor]) -> "Tuners":
        """Those of a recipe, with the values of `state`, which have their shapes; there may be others."""
        context = LearnedContext(state["context"].to(backbone.device)) if recipe.prompt.learn_context else None
        with seeded(0, backbone.device):  # what LoRA starts from is overwritten: leave the caller's generator alone
            lora = Lora(backbone, recipe.lora) if recipe.lora else None
        tuners = cls(lora, context, Strengths(backbone, recipe.alignment) if recipe.alignment else None)
        for part in tuners.parts.values():
            part.load(state)
        return tuners

    @property
    def trains_texts(self) -> bool:
        """Whether what is trained changes the class texts' features."""
        return self.context is not None or (self.lora is not None and "text" in self.lora.recipe.towers)
