"""Recipes: everything that defines an adaptation, as validated data.

A recipe is a preset (``presets/*.toml``), a TOML or JSON file, or either with ``key=value`` overrides. Unknown and
ill-typed keys are errors that name the nearest valid key. The resolved recipe is saved with every result.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
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
from atha.recipe_keys import explain, merged, override, split_override
from atha.texts import TextError, parse_toml, read_json, read_text

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

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class PromptRecipe(Part):
    """How a class name becomes a text. ``{}`` stands for the name; the words before it are the context."""

    template: str = "a photo of a {}."
    """``{}``, exactly once, stands for the class text; no other braces. The words before it are the context."""
    learn_context: bool = False
    """Train the token vectors of the words before ``{}``, shared by all classes; there must be such words."""

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
    """Of the two matrices whose product is added to a projection."""
    alpha: Positive = 8.0
    """Size of what is added, before it is divided as ``rank_stabilised`` says."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """On LoRA's input; on a CPU rounded to a multiple of 1/256."""
    rank_stabilised: bool = True
    """Scaling ``alpha / sqrt(rank)``, else ``alpha / rank``."""
    projections: list[Literal["q", "k", "v", "out"]] = Field(default=["q", "k", "v"], min_length=1)
    """Which attention projections."""
    towers: list[Literal["text", "vision"]] = Field(default=["text", "vision"], min_length=1)
    """Which towers."""


class AlignmentRecipe(Part):
    """Tail-head alignment. Blocks are counted in a tower of 12 and scaled to other depths."""

    head_ratio: Ratio = 0.1
    """Share of the patch tokens that are pulled."""
    tail_ratio: Ratio = 0.1
    """Share of the patch tokens that are pushed."""
    pull: Finite = 0.8
    """Pull strength at the start."""
    pull_block: Annotated[int, Field(ge=0, lt=12)] | None = 7
    """The block where the pull starts, in a tower of 12, scaled to the real depth; null: all blocks."""
    push: Finite = 0.01
    """Push strength at the start."""
    push_block: Annotated[int, Field(ge=0, lt=12)] | None = None
    """The same for the push."""
    anchors: Literal["adjoint", "inverse"] = "adjoint"
    """The map from class text to token space."""
    keep_cls_out: bool = True
    """False reproduces the released code's bug."""
    learn: bool = True
    """Train the strengths."""

    def strengths(self, blocks: int) -> tuple[list[float], list[float]]:
        """Pull and push at the start, one value for each of ``blocks`` vision blocks."""

        def spread(value: float, block: int | None) -> list[float]:
            at = range(blocks) if block is None else [block * blocks // 12]
            return [value if index in at else 0.0 for index in range(blocks)]

        return spread(self.pull, self.pull_block), spread(self.push, self.push_block)


class OptimiserRecipe(Part):
    """One optimiser, for one group of parameters."""

    name: Literal["adamw", "sgd"] = "adamw"
    """The rule of a step."""
    lr: Positive = 2e-4
    """Learning rate."""
    weight_decay: NonNegative = 0.01
    """Decoupled with ``adamw``, added to the gradient with ``sgd``."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """With ``sgd`` only."""


class TrainingRecipe(Part):
    """The loop: steps, batches, loss scale, precision, and an optimiser for each group of parameters."""

    steps: Count = 100
    """Optimisation steps."""
    steps_per: Literal["fit", "shot"] = "fit"
    """``shot``: ``steps`` times the images of the largest class."""
    batch_size: Count | None = None
    """Support images per step; null: the whole support set. With five views, five times as many are seen."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rates."""
    final_lr: NonNegative = 0.0
    """Where the cosine ends."""
    logit_scale: Positive | Literal["by-shot"] = "by-shot"
    """The factor of cosines in the loss; ``by-shot``: 4 if the largest class has five images, else 2."""
    precision: Precision = "auto"
    """``auto``: bfloat16 where the hardware multiplies in it, else float32; ``float16`` needs CUDA."""
    lora: OptimiserRecipe = OptimiserRecipe()
    """Optimiser of LoRA's matrices."""
    context: OptimiserRecipe = OptimiserRecipe(name="sgd", lr=2e-3, weight_decay=5e-4, momentum=0.9)
    """Optimiser of the learned context."""
    strengths: OptimiserRecipe = OptimiserRecipe()
    """Optimiser of the alignment's strengths."""

    def resolve_steps(self, shot: int) -> int:
        """Number of optimisation steps for a support set with ``shot`` images in its largest class."""
        return self.steps * (shot if self.steps_per == "shot" else 1)

    def resolve_logit_scale(self, shot: int) -> float:
        """The constant c of ``logits = c * cos`` for a support set with ``shot`` images in its largest class."""
        if isinstance(self.logit_scale, str):
            return 4.0 if shot == 5 else 2.0
        return self.logit_scale


class ViewsRecipe(Part):
    """What the model sees of an image."""

    transform: Transform = "processor"
    """Geometry of the plain view: the backbone's own, or that of the published benchmarks (squeezed to a square)."""
    support: SupportKind = "single"
    """What training sees of the support images."""


class BlendRecipe(Part):
    """A classifier as the weighted sum of members' scores.

    ``text`` is zero-shot, ``adapted`` what the rest of the recipe trains, the others are probes, classifiers fitted in
    closed form or convexly, on frozen image features. Without ``adapted``, nothing is trained in the backbone.
    ``auto`` is decided from the support images, see `atha.methods.automatic`.
    """

    members: list[Member] = Field(default=[TEXT, ADAPTED, "prototypes", "gaussian"], min_length=1)
    """What is summed."""
    weights: dict[Member, NonNegative] | Literal["auto"] = "auto"
    """Of their scores: a number for each member, not all 0."""
    views: list[AspectGroup] | Literal["auto"] = "auto"
    """What members on frozen features look at; the plain view is always among them."""

    @property
    def decides(self) -> bool:
        """Whether something is left to be decided from the support images."""
        return isinstance(self.weights, str) or isinstance(self.views, str)

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
    """Everything that defines a classifier. ``null`` for lora or alignment leaves that tuner out."""

    name: str = "custom"
    """The preset's, or the file's; ``+`` is added when keys were overridden."""
    prompt: PromptRecipe = PromptRecipe()
    """Class texts, and whether their context is learned."""
    lora: LoraRecipe | None = LoraRecipe()
    """Low-rank adaptation; null: none."""
    alignment: AlignmentRecipe | None = None
    """Tail-head alignment; null: none."""
    views: ViewsRecipe = ViewsRecipe()
    """What the model sees of an image."""
    training: TrainingRecipe = TrainingRecipe()
    """The loop."""
    blend: BlendRecipe | None = None
    """What the classifier is the sum of; null: of what is trained, alone."""

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
        values = source.model_dump() if isinstance(source, Recipe) else merged(cls().model_dump(), _read(source))
        changes = overrides.items() if isinstance(overrides, Mapping) else map(split_override, overrides)
        changed = False
        for key, value in changes:
            override(cls, values, key, value)
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
            raise RecipeError(explain(cls, error)) from None
        except (TypeError, ValueError) as error:
            raise RecipeError(f"the recipe holds a value that is no number, text, list or table ({error})") from None

    @classmethod
    def schema_of_files(cls) -> dict[str, Any]:
        """JSON Schema (2020-12) of recipe files: every key with its type, limits, default and meaning."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}

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
