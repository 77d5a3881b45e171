"""Tuners: what is trained around a frozen backbone. `TunedModel` puts those of a recipe together."""

from atha.tuners.context import LearnedContext
from atha.tuners.lora import attach_lora, lora_layers
from atha.tuners.stacked import StackedModel, can_stack
from atha.tuners.strengths import HookedAlignment
from atha.tuners.tuned import ClassTexts, TunedModel, cosine

__all__ = [
    "ClassTexts",
    "HookedAlignment",
    "LearnedContext",
    "StackedModel",
    "TunedModel",
    "attach_lora",
    "can_stack",
    "cosine",
    "lora_layers",
]
