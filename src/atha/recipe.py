"""Recipes: everything that defines an adaptation, as validated data.

A recipe is a preset (``presets/*.toml``), a TOML or JSON file, or either with ``key=value`` overrides. Unknown and
ill-typed keys are errors that name the nearest valid key. The resolved recipe is saved with every result.
"""

import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from atha.errors import RecipeError
from atha.texts import TextError, parse_json, parse_toml, read_json, read_text

Ratio = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Transform = Literal["processor", "cdfsl"]
SupportKind = Literal["single", "five-view", "random-crop"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
AspectGroup = Literal["plain", "flip", "quarter-turns", "scales"]
Probe = Literal["prototypes", "gaussian", "logistic", "tip-adapter", "gda", "proker", "lp-plus-plus", "clap"]
Member = Literal["text", "adapted", Probe]
#: The members that are no probe: class texts, and what is trained in the backbone.
TEXT: Literal["text"] = "text"
ADAPTED: Literal["adapted"] = "adapted"


class Part(BaseModel):
    """Base of the recipe's parts: frozen, strict types, unknown keys forbidden."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PromptRecipe(Part):
    """How a class name becomes a text. ``{}`` stands for the name; the words before it are the context."""

    template: str = "a photo of a {}."
    learn_context: bool = False  # train the context's token vectors, shared by the classes, from the words' own

    @field_validator("template")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if value.count("{}") != 1 or "{" in value.replace("{}", "") or "}" in value.replace("{}", ""):
            raise ValueError("must contain {} once, for the class name, and no other braces")
        return value

    @model_validator(mode="after")
    def _context_to_learn(self) -> Self:
        if self.learn_context and not self.template.split("{}")[0].strip():
            raise ValueError(f"learn_context needs words before {{}} to start from, the template is '{self.template}'")
        return self


class LoraRecipe(Part):
    """Low-rank adaptation of attention projections, as PEFT defines it."""

    rank: Count = 16
    alpha: Positive = 8.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    rank_stabilised: bool = True  # scaling alpha / sqrt(rank), else alpha / rank
    projections: list[Literal["q", "k", "v", "out"]] = Field(default=["q", "k", "v"], min_length=1)
    towers: list[Literal["text", "vision"]] = Field(default=["text", "vision"], min_length=1)


class AlignmentRecipe(Part):
    """Tail-head alignment. Blocks are counted in a tower of 12 and scaled to other depths."""

    head_ratio: Ratio = 0.1
    tail_ratio: Ratio = 0.1
    pull: Finite = 0.8
    pull_block: Annotated[int, Field(ge=0, lt=12)] | None = 7  # null: the same pull at every block
    push: Finite = 0.01
    push_block: Annotated[int, Field(ge=0, lt=12)] | None = None
    anchors: Literal["adjoint", "inverse"] = "adjoint"
    keep_cls_out: bool = True
    learn: bool = True  # whether the strengths are trained

    def strengths(self, blocks: int) -> tuple[list[float], list[float]]:
        """Pull and push at the start, one value for each of ``blocks`` vision blocks."""

        def spread(value: float, block: int | None) -> list[float]:
            at = range(blocks) if block is None else [block * blocks // 12]
            return [value if index in at else 0.0 for index in range(blocks)]

        return spread(self.pull, self.pull_block), spread(self.push, self.push_block)


class OptimiserRecipe(Part):
    """One optimiser, for one group of parameters."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 2e-4
    weight_decay: NonNegative = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0  # sgd only


class TrainingRecipe(Part):
    """The loop: steps, batches, loss scale, precision, and an optimiser for each group of parameters."""

    steps: Count = 100
    steps_per: Literal["fit", "shot"] = "fit"  # "shot": steps times the images of the largest class
    batch_size: Count | None = None  # null: the whole support set in every step
    schedule: Literal["constant", "cosine"] = "constant"
    final_lr: NonNegative = 0.0  # where the cosine ends
    logit_scale: Positive | Literal["by-shot"] = "by-shot"  # by-shot: 4 at five shots, else 2
    precision: Precision = "auto"
    lora: OptimiserRecipe = OptimiserRecipe()
    context: OptimiserRecipe = OptimiserRecipe(name="sgd", lr=2e-3, weight_decay=5e-4, momentum=0.9)
    strengths: OptimiserRecipe = OptimiserRecipe()

    def resolve_steps(self, shot: int) -> int:
        """Number of optimisation steps for a support set with ``shot`` images in its largest class."""
        return self.steps * (shot if self.steps_per == "shot" else 1)

    def resolve_logit_scale(self, shot: int) -> float:
        """The constant c of ``logits = c * cos`` for a support set with ``shot`` images in its largest class."""
        if isinstance(self.logit_scale, str):
            return 4.0 if shot == 5 else 2.0
        return self.logit_scale


class ViewsRecipe(Part):
    """What the model sees of an image.

    ``transform`` is the geometry of the plain view: ``processor`` as the backbone's own image processor has it,
    ``cdfsl`` as the published benchmarks have it (squeezed to a square).
    """

    transform: Transform = "processor"
    support: SupportKind = "single"


class BlendRecipe(Part):
    """A classifier as the weighted sum of members' scores.

    ``text`` is zero-shot, ``adapted`` what the rest of the recipe trains, the others are probes, classifiers fitted in
    closed form or convexly, on frozen image features. Without ``adapted``, nothing is trained in the backbone.
    ``auto`` is decided from the support images, see `atha.methods.automatic`.
    """

    members: list[Member] = Field(default=[TEXT, ADAPTED, "prototypes", "gaussian"], min_length=1)
    weights: dict[Member, NonNegative] | Literal["auto"] = "auto"
    views: list[AspectGroup] | Literal["auto"] = "auto"  # that probes look at, of support images and in prediction

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.members)) < len(self.members):
            raise ValueError("members must differ from each other")
        if not isinstance(self.weights, str) and self.weights.keys() != set(self.members):
            raise ValueError(f"weights must be auto or one number for each of {', '.join(self.members)}")
        if not isinstance(self.weights, str) and not any(self.weights.values()):
            raise ValueError("weights must not all be 0")
        return self


class Recipe(Part):
    """Everything that defines a classifier. ``null`` for lora or alignment leaves that tuner out.

    Attributes:
        name: the preset's name, or the file's; ``+`` is added when keys were overridden.
        prompt: class texts, and whether their context is learned.
        lora: low-rank adaptation.
        alignment: tail-head alignment.
        views: image geometry and augmentation.
        training: the loop.
        blend: what the classifier is the sum of; null: of what is trained, alone.
    """

    name: str = "custom"
    prompt: PromptRecipe = PromptRecipe()
    lora: LoraRecipe | None = LoraRecipe()
    alignment: AlignmentRecipe | None = None
    views: ViewsRecipe = ViewsRecipe()
    training: TrainingRecipe = TrainingRecipe()
    blend: BlendRecipe | None = None

    @property
    def trains(self) -> bool:
        """Whether something is trained in the backbone."""
        return self.blend is None or ADAPTED in self.blend.members

    @model_validator(mode="before")
    @classmethod
    def _nothing_in_vain(cls, values: Any) -> Any:
        """A blend that has no use for what is trained, trains nothing."""
        blend = values.get("blend") if isinstance(values, dict) else None
        if isinstance(blend, dict) and ADAPTED not in blend.get("members", [ADAPTED]):
            prompt = values.get("prompt")
            prompt = {**prompt, "learn_context": False} if isinstance(prompt, dict) else prompt
            return {**values, "lora": None, "alignment": None, **({"prompt": prompt} if prompt is not None else {})}
        return values

    @model_serializer(mode="wrap")
    def _without_no_blend(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A recipe without a blend reads, and is hashed, as it was before there were any."""
        found: dict[str, Any] = serialise(self)
        if found.get("blend", ...) is None:
            del found["blend"]
        return found

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if not self.trains:
            return self
        learns = self.lora is not None or self.prompt.learn_context
        if not learns and not (self.alignment is not None and self.alignment.learn):
            raise ValueError("nothing would be trained: keep lora, prompt.learn_context or alignment.learn")
        return self

    @classmethod
    def load(cls, source: "str | Path | Recipe", overrides: Sequence[str] | Mapping[str, Any] = ()) -> "Recipe":
        """Read a preset or a recipe file, and apply overrides.

        Args:
            source: name of a preset (see `presets`), path of a ``.toml`` or ``.json`` file, or a recipe.
            overrides: ``"training.steps=50"`` strings, or a mapping from such keys to values.

        Raises:
            RecipeError: no such preset or file; an unknown or ill-typed key, named with the nearest valid one.
        """
        values = source.model_dump() if isinstance(source, Recipe) else _merged(cls().model_dump(), _read(source))
        changes = overrides.items() if isinstance(overrides, Mapping) else map(_split_override, overrides)
        changed = False
        for key, value in changes:
            _override(values, key, value)
            changed = changed or key != "name"
        if changed and not str(values.get("name", "custom")).endswith("+"):
            values["name"] = f"{values.get('name', 'custom')}+"
        return cls.check(values)

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> "Recipe":
        """Validate plain values, as from a file.

        Raises:
            RecipeError: an unknown or ill-typed key, named with the nearest valid one.
        """
        try:
            return cls.model_validate_json(json.dumps(values))
        except ValidationError as error:
            raise RecipeError(_explain(error)) from None
        except (TypeError, ValueError) as error:
            raise RecipeError(f"the recipe holds a value that is no number, text, list or table ({error})") from None

    def digest(self) -> str:
        """SHA-256 over all that defines the recipe, its name left out."""
        content = self.model_dump(mode="json", exclude={"name"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def presets() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("atha") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if isinstance(source, str) and source in presets():
        values = parse_toml((resources.files("atha") / "presets" / f"{source}.toml").read_text("utf-8"))
        return {"name": source} | values
    if path.suffix.lower() not in {".toml", ".json"}:
        near = difflib.get_close_matches(str(source), presets(), n=1)
        hint = f"did you mean '{near[0]}'? Presets" if near else "presets"
        raise RecipeError(
            f"no recipe is called '{source}': {hint} are {', '.join(presets())}; a recipe file ends in .toml or .json"
        )
    try:
        values = read_json(path) if path.suffix.lower() == ".json" else parse_toml(read_text(path))
    except TextError as error:
        raise RecipeError(f"recipe file {path} {error}: {error.mend}") from None
    return {"name": path.stem} | values


def _merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Values over defaults, section by section: a section that is given in part keeps its own default for the rest."""
    made = dict(defaults)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = _merged(made[key], value) if both else value
    return made


def _split_override(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise RecipeError(f"'{text}' is no override, write it as key=value, for example training.steps=50")
    value = value.strip()
    try:
        return key.strip(), None if value.lower() in {"none", "null"} else parse_json(value)
    except ValueError:
        lowered = {"true": True, "false": False}
        return key.strip(), lowered.get(value.lower(), value)


def _override(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key. The key is checked here, before validation, as a section may be absent."""
    *sections, last = key.split(".")
    model: type[BaseModel] | None = Recipe
    for section in sections:
        if model is None or section not in model.model_fields:
            raise RecipeError(_unknown_key(key))
        model = _section(model, section)
    if model is None or last not in model.model_fields:
        raise RecipeError(_unknown_key(key))
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    values[last] = value


def _section(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    annotation = model.model_fields[field].annotation
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


def _keys(model: type[BaseModel] = Recipe, before: str = "") -> Iterable[str]:
    for field in model.model_fields:
        yield before + field
        if (section := _section(model, field)) is not None:
            yield from _keys(section, f"{before}{field}.")


def _unknown_key(key: str) -> str:
    def likeness(valid: str) -> float:
        leaf = difflib.SequenceMatcher(None, key.rsplit(".", maxsplit=1)[-1], valid.rsplit(".", maxsplit=1)[-1]).ratio()
        return leaf + difflib.SequenceMatcher(None, key, valid).ratio()

    return f"recipes have no key '{key}', the nearest is '{max(_keys(), key=likeness)}'"


def _explain(error: ValidationError) -> str:
    """The first problem of a failed validation, as one sentence."""
    details = error.errors(include_url=False)
    first = details[0]
    key = _key_of(first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown_key(key)
    # A key of several types reports one problem for each: say them all.
    messages = dict.fromkeys(
        detail["msg"].removeprefix("Value error, ") for detail in details if _key_of(detail["loc"]) == key
    )
    expected = " or ".join(message[0].lower() + message[1:] for message in messages)
    return (
        f"recipe key '{key}' cannot be {json.dumps(first['input'])}: {expected}"
        if key
        else f"the recipe is not valid: {expected}"
    )


def _key_of(location: tuple[int | str, ...]) -> str:
    """The dotted key of a validation error's location, without the names of a union's branches."""
    model: type[BaseModel] | None = Recipe
    parts: list[str] = []
    for part in map(str, location):
        if model is None:
            break
        if part in model.model_fields:
            parts.append(part)
            model = _section(model, part)
        elif "[" not in part and part != location[-1]:
            continue
        else:
            parts.append(part)
            break
    return ".".join(parts)
