"""What answers: a classifier, seen as views in and probabilities out.

Shapes: B images of a batch, N classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from atha.adapter.record import Record
    from atha.classifier import Classifier


class Model(Protocol):
    """What a service asks."""

    @property
    def labels(self) -> Sequence[str]:
        """N classes."""

    @property
    def batch(self) -> int:
        """Most images that are asked for at once."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What ``/info`` says, in plain types."""

    def prepare_thread(self) -> None:
        """Called at the start of each thread that decodes."""

    def view(self, path: Path) -> Any:
        """What the model takes of an image file; called in several threads.

        Raises:
            ImageProblem: it cannot be read.
        """

    def probabilities(self, views: Sequence[Any]) -> Float[np.ndarray, "B N"]:
        """Of every class; called in one thread, as all that follows."""

    def votes(self, views: Sequence[Any]) -> Mapping[str, Float[np.ndarray, "B N"]]:
        """Of every class, by each member of a blend; of other models empty."""

    def explain(self, path: Path, name: str, label: str | None) -> Callable[[], bytes] | None:
        """Where it looks: a function that draws it as PNG, in any one thread; None where that cannot be said.

        Raises:
            DataError: the image cannot be read, or there is no such class.
        """


class ClassifierModel:
    """A classifier as a service asks it; see `Model`.

    Args:
        classifier: with classes.
        plain: look at the plain view of an image alone.
        batch_size: most images at once; None: see `atha.models.inference.images_at_once`.

    Raises:
        DataError: the classes are not known.
    """

    def __init__(self, classifier: "Classifier", plain: bool = False, batch_size: int | None = None) -> None:
        from atha.models.inference import images_at_once

        self._classifier = classifier
        predictor = classifier.predictor(plain=plain)
        self._predictor = replace(predictor, reader=replace(predictor.reader, quiet=True))
        assert classifier.classes is not None
        self.labels = classifier.classes.labels
        self.batch = batch_size or images_at_once(classifier.backbone)
        self.about = _about(classifier)

    def prepare_thread(self) -> None:
        """See `Model`."""
        from atha.devices import on_one_core

        on_one_core()

    def view(self, path: Path) -> Any:
        """See `Model`."""
        return self._predictor.reader.make(path, self._predictor.views.plain)

    def probabilities(self, views: Sequence[Any]) -> Float[np.ndarray, "B N"]:
        """See `Model`."""
        return self._predictor.probabilities(list(views))

    def votes(self, views: Sequence[Any]) -> Mapping[str, Float[np.ndarray, "B N"]]:
        """See `Model`."""
        return self._predictor.fitted.votes(self._predictor.viewed(list(views)))

    def explain(self, path: Path, name: str, label: str | None) -> Callable[[], bytes] | None:
        """See `Model`."""
        found = replace(self._classifier.explain(path), file=name)
        chosen = found.label if label is None else label
        found.index(chosen)

        def draw() -> bytes:
            from atha.documents import figures
            from atha.reports import tokens

            with figures.style():
                show: tokens.Show = "before" if found.after is None else "after"
                return figures.save(tokens.draw(found, chosen, ["sum"], show), Path("map.png"))

        return draw


def of_classifier(classifier: "Classifier", plain: bool = False, batch_size: int | None = None) -> ClassifierModel:
    """A classifier as a service asks it.

    Args:
        classifier: fitted, or with classes given.
        plain: look at the plain view of an image alone, which is faster where a blend looks at several.
        batch_size: most images that go through the model at once.

    Raises:
        DataError: the classes are not known yet.
    """
    return ClassifierModel(classifier, plain, batch_size)


def _about(classifier: "Classifier") -> dict[str, Any]:
    """Nothing of the machine: no paths, no names of files."""
    backbone, record = classifier.backbone, classifier.record
    return {
        "classes": classifier.class_texts,
        "recipe": classifier.recipe.name,
        "backbone": {key: backbone.describe()[key] for key in ("family", "parameters")},
        "members": [] if record is None or record.blend is None else list(record.blend.members),
        "evaluation": _figures(record),
    }


def _figures(record: "Record | None") -> dict[str, Any] | None:
    if record is None or (figures := record.evaluation) is None:
        return None
    return {
        "images": figures.images,
        "accuracy": figures.accuracy,
        "interval95": figures.interval95,
        "calibration_error": figures.calibration_error,
    }
