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
    """Hub id, folder or built-in name, as it was asked for."""
    revision: Text | None
    """Commit of a hub model; null of others."""
    family: Text
    """Such as ``clip`` or ``siglip``."""
    parameters: Count
    """How many values it has."""
    path: Text | None
    """Where it was on the machine, if it was a folder or a file."""
    fingerprint: Text
    """SHA-256 over a sample of its weights: with others the adapter is refused."""
    licence: Text | None = None
    """Under which it is given, where it says so."""

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
    """Images by class label."""
    sha256: list[Text] = Field(default_factory=list)
    """Of each image's content, in the order of the support set."""
    left_out: list[Text] = Field(default_factory=list)
    """Sentences on images that were not used."""
    kept: bool = False
    """Whether features and small pictures of it are in the folder."""
    drawn: Draw | None = None
    """How it was drawn, where it was drawn from more."""


class RunRecord(Part):
    """How it was fitted."""

    seed: int
    """For all that was random."""
    steps: Count
    """Training steps taken."""
    logit_scale: float | None = None
    """Factor of cosines, of what a recipe trains (format 1)."""
    precision: Text
    """``float32``, ``bfloat16`` or ``float16``."""
    device: Text
    """Such as ``cpu`` or ``cuda:0``."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Of torch, on a CPU."""
    seconds: float
    """Wall clock of fitting."""
    trained: dict[Text, Count]
    """Trained values by tuner, or by tensor."""
    lora_layers: Count
    """Layers that LoRA is in."""
    losses: list[float] = Field(default_factory=list)
    """Of each step."""
    versions: dict[Text, Text]
    """Of atha and torch."""

    @property
    def place(self) -> str:
        """What it was fitted on, in words."""
        count = self.threads
        return self.device if count is None else f"{self.device} with {count} thread{'s' if count > 1 else ''}"


class MemberRecord(Part):
    """See `atha.methods.blend.Part`."""

    fitted: dict[str, Any]
    """Definition of the member: its ``kind`` and what goes with it."""
    weight: Annotated[float, Field(ge=0)]
    """In the sum."""
    scale: Annotated[float, Field(gt=0)]
    """Its scores are divided by it: their standard deviation over classes on support images."""
    accuracy: float | None
    """On support images that it was fitted without, 0 to 1; null where there was none."""
    images: Count
    """Support images that it answered for."""
    why: Text
    """Where the weight is from, in words."""


class BlendRecord(Part):
    """The definition of an `atha.methods.blend.Blend`."""

    members: Annotated[dict[Text, MemberRecord], Field(min_length=1)]
    """By name."""
    aspects: Annotated[list[Text], Field(min_length=1)]
    """Views of an image that features are averaged over."""
    why: Text
    """Where these are from, in words."""


class HeldOutRecord(Part):
    """Scores of support images by what did not learn from them; see `atha.doubt`."""

    strangeness: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)
    """How unlike all classes each image is: what an unknown image is compared with."""
    misfits: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)
    """How little each image fits its own class: what sets of labels are made by."""


class ClassFigures(Part):
    """Recall of one class."""

    images: Count
    """Of this class."""
    accuracy: float | None
    """Share of them that was named right, 0 to 1; null without images."""
    interval95: Interval
    """Lower and upper end, 0 to 1."""


class ConfusionRecord(Part):
    """Images by their class and by what they were taken for."""

    classes: list[Text]
    """Labels, in the order of rows and columns."""
    rows_true_columns_predicted: list[list[Count]]
    """Counts."""

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        rows = self.rows_true_columns_predicted
        if {len(rows), *map(len, rows)} != {len(self.classes)}:
            raise ValueError("there is not one row and column a class")
        return self


class Figures(Part):
    """See `atha.evaluation.Evaluation`."""

    images: Count
    """Test images."""
    accuracy: float
    """Share named right, 0 to 1."""
    interval95: Interval
    """Lower and upper end, 0 to 1, over test images."""
    balanced_accuracy: float
    """Mean of the classes' accuracies, 0 to 1."""
    calibration_error: float
    """Expected calibration error, 15 bins, 0 to 1."""
    brier: float
    """Brier score, 0 to 2."""
    per_class: dict[Text, ClassFigures]
    """By label."""
    confusion: ConfusionRecord
    """Who was taken for whom."""
    left_out: list[Text]
    """Sentences on test images that were not counted."""


class EvaluationRecord(Figures):
    """Figures of the adapted model, and of others on the same images."""

    baselines: dict[Text, Figures] = Field(default_factory=dict)
    """Others on the same images: ``zero-shot``, ``linear probe``."""

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
    """1 for what a recipe trains alone, 2 for all else."""
    fitted: dict[str, Any] | None = None
    """Definition of the fitted model (format 2): its ``kind``, of a blend its members."""
    backbone: BackboneRecord
    """That it is for."""
    support: SupportSetRecord
    """That it was fitted on."""
    reading: Reading | None = None
    """How images become 8-bit RGB; absent in files of versions that had no such rule."""
    run: RunRecord
    """How it was fitted."""
    held_out: HeldOutRecord | None = None
    """By what unknown images and sets of labels are told; absent in files of versions that had none."""
    evaluation: EvaluationRecord | None = None
    """On test images, where there were some."""
    sha256: dict[str, Checksum] = Field(default_factory=dict)
    """Checksums of the other files, by name."""

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
