"""What an adapter's atha.json says: its backbone, support set, training, evaluation, and its files' checksums.

Entries that are not known are kept: a later version that adds one need not lose it when an earlier one notes an
evaluation.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, InstanceOf, ValidationError, model_validator

from atha.data.reading import AS_BEFORE, Reading
from atha.data.selection import Draw
from atha.documents import escaping
from atha.errors import AdapterError
from atha.recipe import ADAPTED
from atha.schema import Part

if TYPE_CHECKING:  # a mistake in a path is told before anything is loaded
    from atha.backbones import Backbone
    from atha.evaluation import Evaluation

FORMATS = (1, 2)
RECORD, TENSORS, RECIPE, CLASSES = "atha.json", "atha.safetensors", "recipe.json", "classes.json"
LORA_FILES = ("adapter_config.json", "adapter_model.safetensors")
SUPPORT = "support.safetensors"
#: The kind of fitted model that format 1 is for; see `atha.methods.base.Fitted`.
TRAINED = "recipe"
#: The kind of a sum of members; see `atha.methods.blend`.
BLEND = "blend"

# A file name need not be text that can be encoded.
Text = InstanceOf[str]
Count = Annotated[int, Field(ge=0)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
Checksum = Annotated[str, Field(min_length=1)]


class BackboneRecord(Part):
    """The backbone that an adapter is for, by name, place and the fingerprint of its weights."""

    name: Text
    revision: Text | None
    family: Text
    parameters: Count
    path: Text | None
    fingerprint: Text
    licence: Text | None = None

    @classmethod
    def of(cls, backbone: "Backbone") -> Self:
        """What is to be said of a backbone."""
        from atha.backbones import licence

        described = backbone.describe()
        return cls(
            **{key: described[key] for key in ("name", "revision", "family", "parameters")},
            path=backbone.location,
            fingerprint=backbone.fingerprint(),
            licence=licence(backbone),
        )


class SupportSetRecord(Part):
    """The support set: images of each class, all images' content hashes, and what was left out."""

    counts: dict[Text, Annotated[int, Field(ge=1)]]
    sha256: list[Text] = Field(default_factory=list)
    left_out: list[Text] = Field(default_factory=list)
    kept: bool = False  # whether pictures and features of it are in the folder
    drawn: Draw | None = None  # where it was drawn from more


class RunRecord(Part):
    """How it was fitted."""

    seed: int
    steps: Count
    logit_scale: float | None = None  # of what a recipe trains
    precision: Text
    device: Text
    threads: Annotated[int, Field(ge=1)] | None = None  # of torch, on a CPU
    seconds: float
    trained: dict[Text, Count]  # values by tuner, or by tensor
    lora_layers: Count
    losses: list[float] = Field(default_factory=list)  # of each step
    versions: dict[Text, Text]

    @property
    def place(self) -> str:
        """What it was fitted on, in words."""
        count = self.threads
        return self.device if count is None else f"{self.device} with {count} thread{'s' if count > 1 else ''}"


class MemberRecord(Part):
    """See `atha.methods.blend.Part`."""

    fitted: dict[str, Any]
    weight: Annotated[float, Field(ge=0)]
    scale: Annotated[float, Field(gt=0)]
    accuracy: float | None
    images: Count
    why: Text


class BlendRecord(Part):
    """The definition of an `atha.methods.blend.Blend`."""

    members: Annotated[dict[Text, MemberRecord], Field(min_length=1)]
    aspects: Annotated[list[Text], Field(min_length=1)]
    why: Text


class HeldOutRecord(Part):
    """Scores of support images by what did not learn from them; see `atha.doubt`."""

    strangeness: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)
    misfits: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)


class ClassFigures(Part):
    """Recall of one class."""

    images: Count
    accuracy: float | None  # of no image
    interval95: Interval


class ConfusionRecord(Part):
    """Images by their class and by what they were taken for."""

    classes: list[Text]
    rows_true_columns_predicted: list[list[Count]]

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        rows = self.rows_true_columns_predicted
        if {len(rows), *map(len, rows)} != {len(self.classes)}:
            raise ValueError("there is not one row and column a class")
        return self


class Figures(Part):
    """See `atha.evaluation.Evaluation`."""

    images: Count
    accuracy: float
    interval95: Interval
    balanced_accuracy: float
    calibration_error: float
    brier: float
    per_class: dict[Text, ClassFigures]
    confusion: ConfusionRecord
    left_out: list[Text]


class EvaluationRecord(Figures):
    """Figures of the adapted model, and of others on the same images."""

    baselines: dict[Text, Figures] = Field(default_factory=dict)

    @classmethod
    def of(cls, evaluations: "Mapping[str, Evaluation]") -> Self:
        """Of the result of `Classifier.compare`, or of ``{"adapted": ...}``."""
        others = {name: result.to_dict() for name, result in evaluations.items() if name != "adapted"}
        return cls.model_validate({**evaluations["adapted"].to_dict(), "baselines": others})


class Record(Part):
    """All of atha.json.

    Format 1 is for what a recipe trains in a backbone. Of any other fitted model, ``fitted`` is the definition, in
    format 2: a version that reads format 1 alone refuses it.
    """

    format: Literal[1, 2] = 1
    fitted: dict[str, Any] | None = None
    backbone: BackboneRecord
    support: SupportSetRecord
    reading: Reading | None = None  # of versions that had no such rule
    run: RunRecord
    held_out: HeldOutRecord | None = None  # of versions that had none
    evaluation: EvaluationRecord | None = None
    sha256: dict[str, Checksum] = Field(default_factory=dict)

    @classmethod
    def of(
        cls,
        definition: Mapping[str, Any],
        backbone: BackboneRecord,
        support: SupportSetRecord,
        reading: Reading,
        run: Mapping[str, Any],
        held_out: HeldOutRecord | None = None,
    ) -> Self:
        """The record of a new adapter.

        Args:
            definition: of the fitted model.
            backbone: it is for.
            support: it was fitted on.
            reading: how its images are read.
            run: entries of `RunRecord`, but for ``logit_scale``.
            held_out: scores of the support images.
        """
        shared: dict[str, Any] = {"backbone": backbone, "support": support, "reading": reading, "held_out": held_out}
        if definition["kind"] == TRAINED:
            return cls(**shared, run=RunRecord(**run, logit_scale=definition["logit_scale"]))
        return cls(format=2, fitted=dict(definition), **shared, run=RunRecord(**run))

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.format == 1) != (self.fitted is None):
            raise ValueError("the format is not that of the fitted model")
        if self.fitted is None and self.run.logit_scale is None:
            raise ValueError("there is no logit scale")
        if self.fitted is not None and not isinstance(self.fitted.get("kind"), str):
            raise ValueError("the fitted model is of no kind")
        _ = self.blend  # is valid, if it is one
        return self

    @property
    def definition(self) -> dict[str, Any]:
        """Of the fitted model; see `atha.methods.base.Fitted.definition`."""
        return {"kind": TRAINED, "logit_scale": self.run.logit_scale} if self.fitted is None else self.fitted

    @property
    def read_as(self) -> Reading:
        """How images are read."""
        return AS_BEFORE if self.reading is None else self.reading

    @property
    def kind(self) -> str:
        """Of the fitted model."""
        return str(self.definition["kind"])

    @property
    def blend(self) -> BlendRecord | None:
        """What is blended, why and how; None of other fitted models."""
        return BlendRecord.model_validate(self.definition) if self.kind == BLEND else None

    @property
    def logit_scale(self) -> float | None:
        """Of what a recipe trained, alone or in a blend; None where there is none."""
        if self.blend is None or ADAPTED not in self.blend.members:
            return self.run.logit_scale
        return self.blend.members[ADAPTED].fitted.get("logit_scale")

    @property
    def learned(self) -> str:
        """What was trained, in words, with its number of values; of a blend, what was trained in the backbone."""
        members = () if self.blend is None else self.blend.members
        parts = [
            f"{f'LoRA in {self.run.lora_layers} layers' if name == 'lora' else name} ({count:,} values)"
            for name, count in self.run.trained.items()
            if name not in members
        ]
        return ", ".join(parts) or "nothing in the backbone"

    def named(self, evaluations: "Mapping[str, Evaluation]") -> "dict[str, Evaluation]":
        """Evaluations by the names that people are shown: what is a blend is not called ``adapted``."""
        return {self.kind if (name, self.kind) == (ADAPTED, BLEND) else name: one for name, one in evaluations.items()}

    def noting(self, evaluations: "Mapping[str, Evaluation] | None") -> Self:
        """The record with an evaluation; as it is, without one."""
        return self if evaluations is None else self.model_copy(update={"evaluation": EvaluationRecord.of(evaluations)})

    def keeping(self, support: bool) -> Self:
        """The record, where something of the support set is kept or not."""
        return self.model_copy(update={"support": self.support.model_copy(update={"kept": support})})

    def to_json(self) -> str:
        """The content of atha.json."""
        absent: dict[str, Any] = {
            name: True for name in ("fitted", "evaluation", "reading", "held_out") if getattr(self, name) is None
        }
        if self.support.drawn is None:
            absent["support"] = {"drawn"}
        if self.run.threads is None:
            absent["run"] = {"threads"}
        return to_json(self.model_dump(exclude=absent))


def parse_record(content: Mapping[str, Any], folder: Path) -> Record:
    """The record of an adapter folder, from the content of its atha.json.

    Raises:
        AdapterError: of a newer format, incomplete or damaged.
    """
    file, found = folder / RECORD, content.get("format")
    if found not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise AdapterError(f"{folder} has format {found!r} and this version reads {known}: update atha")
    if not _lists_files(content.get("sha256")):
        raise AdapterError(f"{file} is damaged, its list of files is not as written: save the adapter again")
    try:
        return Record.model_validate(dict(content))
    except UnicodeError:
        raise AdapterError(f"{file} is damaged, it holds a text that is none: copy the adapter again") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    if first["type"] in ("model_type", "dict_type"):
        raise AdapterError(f"{file} is damaged, a part of it is no table: copy the adapter again")
    if first["type"] in ("missing", "value_error"):
        raise incomplete(folder)
    key = ".".join(map(str, first["loc"]))
    raise AdapterError(
        f"{file} is damaged, its {key} cannot be {json.dumps(first['input'])}: copy the adapter again or fit it again"
    )


def incomplete(folder: Path) -> AdapterError:
    """What is said of a record that lacks something."""
    return AdapterError(f"{folder} has an incomplete {RECORD}: copy the adapter again or fit it again")


def to_json(content: Any) -> str:
    """JSON for a file. A name that is no text becomes an escape that JSON reads back as it was."""
    return escaping.json(json.dumps(content, indent=2, ensure_ascii=False)) + "\n"


def _lists_files(checksums: Any) -> bool:
    always: Sequence[str] = (TENSORS, RECIPE, CLASSES)
    return isinstance(checksums, dict) and set(always) <= checksums.keys() <= {*always, SUPPORT, *LORA_FILES}
