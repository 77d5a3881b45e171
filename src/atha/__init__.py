"""Adapt CLIP-like models to image domains they have never seen, from a handful of labelled images per class."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atha.auditing.audit import Audit as Audit
    from atha.auditing.audit import audit as audit
    from atha.backbones import Backbone as Backbone
    from atha.backbones import load_backbone as load_backbone
    from atha.classifier import Classifier as Classifier
    from atha.data.drawing import draw as draw
    from atha.errors import AthaError as AthaError
    from atha.errors import AthaWarning as AthaWarning
    from atha.evaluation import Evaluation as Evaluation
    from atha.labelling.suggesting import Suggestion as Suggestion
    from atha.labelling.suggesting import Suggestions as Suggestions
    from atha.labelling.suggesting import suggest as suggest
    from atha.models.training import TrainingStep as TrainingStep
    from atha.prediction import Prediction as Prediction
    from atha.recipe import Recipe as Recipe
    from atha.recipe import presets as presets

# Public name -> its module. Imported at first use: torch and transformers take seconds to load.
_PUBLIC = {
    "Audit": "atha.auditing.audit",
    "AthaError": "atha.errors",
    "AthaWarning": "atha.errors",
    "Backbone": "atha.backbones",
    "Classifier": "atha.classifier",
    "Evaluation": "atha.evaluation",
    "Prediction": "atha.prediction",
    "Recipe": "atha.recipe",
    "Suggestion": "atha.labelling.suggesting",
    "Suggestions": "atha.labelling.suggesting",
    "TrainingStep": "atha.models.training",
    "audit": "atha.auditing.audit",
    "draw": "atha.data.drawing",
    "load_backbone": "atha.backbones",
    "presets": "atha.recipe",
    "suggest": "atha.labelling.suggesting",
}

__all__ = [
    "AthaError",
    "AthaWarning",
    "Audit",
    "Backbone",
    "Classifier",
    "Evaluation",
    "Prediction",
    "Recipe",
    "Suggestion",
    "Suggestions",
    "TrainingStep",
    "audit",
    "draw",
    "load_backbone",
    "presets",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # it takes longer than the rest of this file

        return version("atha")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'atha' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
