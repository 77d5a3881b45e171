"""What is exported, and what a format is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from atha.adapter.record import Record
from atha.adapter.support import SupportRecord
from atha.classes import Classes
from atha.data.images import ImageReader
from atha.data.views import Views
from atha.errors import ExportError
from atha.methods.base import Fitted, restore
from atha.models.frozen import Frozen
from atha.models.graph import Probabilities
from atha.prediction import Predictor
from atha.recipe import Recipe
from atha.snapshot import Snapshot

#: Told of (what is done, how much of it, of how much).
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Subject:
    """A classifier as exports see it: on the CPU, in float32.

    Attributes:
        fitted: the model.
        frozen: the backbone.
        views: makes tensors of images.
        reader: reads images.
        classes: labels and texts.
        recipe: the resolved one.
        record: of the adapter; None: nothing was fitted.
        support: what is kept of the support set.
        precision: that the classifier itself computes in.
    """

    fitted: Fitted
    frozen: Frozen
    views: Views
    reader: ImageReader
    classes: Classes
    recipe: Recipe
    record: Record | None
    support: SupportRecord | None
    precision: str

    @classmethod
    def of(cls, now: Snapshot) -> "Subject":
        """Of a classifier, that may compute in another precision.

        Raises:
            ExportError: it is on another device than the CPU.
            DataError: its classes are not known yet.
        """
        fitted, frozen, recipe = now.predictor().fitted, now.frozen, now.recipe
        device, precision = frozen.backbone.device, frozen.precision
        if device.type != "cpu":
            raise ExportError(f"the classifier is on {device} and exports are made on the CPU: load it with device cpu")
        if precision != "float32":
            training = recipe.training.model_copy(update={"precision": "float32"})
            recipe, frozen = recipe.model_copy(update={"training": training}), Frozen(frozen.backbone, "float32")
            fitted = restore(fitted.definition(), dict(fitted.state()), recipe, frozen)
        record, support = (None, None) if now.learned is None else (now.learned.record, now.learned.support)
        return cls(fitted, frozen, now.views, now.reader, now.classes, recipe, record, support, precision)

    @property
    def size(self) -> int:
        """Height and width of plain views."""
        return self.views.size

    @property
    def aspects(self) -> tuple[str, ...]:
        """What of an image goes through the backbone."""
        return tuple(getattr(self.fitted, "aspects", ("plain",)))

    def probabilities(self, images: Sequence[UInt8[Tensor, "3 H W"]]) -> Float[np.ndarray, "n N"]:
        """The classifier's own."""
        return Predictor(self.fitted, self.views, self.frozen, self.reader).probabilities(list(images))

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """From normalised plain views to probabilities, traced, for any number of images.

        Raises:
            ExportError: the model has no graph, or it cannot be traced.
        """
        graph = Probabilities(self.fitted.graph(self.frozen)).eval()
        example = self.views.normalise(torch.zeros(2, 3, self.size, self.size, dtype=torch.uint8))
        dynamic = ({0: torch.export.Dim("batch", min=1)},)
        try:
            with torch.no_grad():
                return torch.export.export(graph, (example,), dynamic_shapes=dynamic)
        except Exception as error:  # of whatever stands in the way of tracing another library's tower
            said = " ".join(str(error).split())[:200]
            name = self.frozen.backbone.name
            raise ExportError(
                f"{name} cannot be traced ({type(error).__name__}: {said}): use it through atha, or another model"
            ) from error


@dataclass(frozen=True)
class Options:
    """What was asked for besides the format.

    Attributes:
        quantize: ``int8``, or None.
        calibration: plain views to calibrate on.
        accept_difference: export what is not equal to the classifier, too.
    """

    quantize: str | None = None
    calibration: Sequence[UInt8[Tensor, "3 H W"]] = ()
    accept_difference: bool = False


class Script(NamedTuple):
    """Python of predict.py.

    Attributes:
        imports: lines.
        start: loads the model, from ``HERE``.
        run: lines of a function from ``pixels`` (3, height, width), an array, to an array of probabilities.
    """

    imports: str
    start: str
    run: str


@dataclass(frozen=True)
class Format(ABC):
    """One way to write a classifier.

    Attributes:
        subject: the classifier.
        options: what was asked for.
        told: of progress.
    """

    subject: Subject
    options: Options = field(default_factory=Options)
    told: Told = lambda what, done, of: None

    name: ClassVar[str]
    needs: ClassVar[Sequence[str]]  # libraries, those of predict.py
    reads_texts: ClassVar[bool] = False  # whether the product makes features of class texts itself, in float32

    @property
    @abstractmethod
    def script(self) -> Script:
        """What predict.py has of it."""

    @property
    def left_out(self) -> Sequence[str]:
        """What the product does not do that the classifier does, in sentences; none where it is equal."""
        return ()

    def check(self) -> None:  # noqa: B027 - most can write whatever has a graph
        """See to it, before work, that the classifier can be written; raises `ExportError`."""

    @abstractmethod
    def write(self, folder: Path) -> Mapping[str, Any]:
        """Write the model's files.

        Returns:
            What there is to know of them, for proof.json.
        """

    @abstractmethod
    def load(self, folder: Path) -> Callable[[Float[Tensor, "n 3 H W"]], Float[np.ndarray, "n N"]]:
        """What was written, as its users load it: normalised plain views to probabilities."""


def plain_subject(subject: Subject) -> Subject:
    """The same, looking at the plain view alone."""
    return replace(subject, fitted=subject.fitted.plain())


def subject_with_texts(subject: Subject) -> Subject:
    """The same, with class texts read in float32, in whatever precision they were read when it was fitted."""
    template = subject.recipe.prompt.template
    return replace(subject, fitted=subject.fitted.with_texts(subject.frozen, subject.classes.texts, template))
