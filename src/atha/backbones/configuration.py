"""``config.json`` of CLIP, MetaCLIP 2, SigLIP and SigLIP 2 as plain data: sizes and settings, and nothing that acts.

Names and defaults are those of transformers. Keys that are not named here are ignored, those that name files or code
among them.
"""

from math import isqrt
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from atha.errors import BackboneError

FILE = "config.json"
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish")

# Far above every model there is: a wrong number must not take all memory, or all time, before weights are looked at.
Size = Annotated[int, Field(ge=1, le=2**24)]
Depth = Annotated[int, Field(ge=1, le=2**10)]


class _Part(BaseModel):
    """What any part of a configuration may say. Where it has no meaning, it is kept as it is, for `content_hash`."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    hidden_act: Any = None
    num_attention_heads: Any = None
    num_hidden_layers: Any = None
    layer_norm_eps: Any = None
    image_size: Any = None
    patch_size: Any = None
    eos_token_id: Any = None
    bos_token_id: Any = None
    pad_token_id: Any = None
    max_position_embeddings: Any = None

    def to_dict(self) -> dict[str, Any]:
        """As PEFT asks a model's configuration for it."""
        return self.model_dump()


class TowerConfig(_Part):
    """What both towers have."""

    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_hidden_layers: Depth = 12
    num_attention_heads: Size = 12
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: Annotated[FiniteFloat, Field(gt=0)] = 1e-6

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} do not fit hidden_size {self.hidden_size}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act '{self.hidden_act}' is not one of {', '.join(ACTIVATIONS)}")
        return self


class TextConfig(TowerConfig):
    """What text towers have; numbers of tokens that are None are not used."""

    vocab_size: Size = 32000
    max_position_embeddings: Size = 64
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int | list[int] | None = 49407


class VisionConfig(TowerConfig):
    """What vision towers have."""

    num_channels: Literal[3] = 3
    patch_size: Size = 16


class ClipTextConfig(TextConfig):
    """CLIP's text tower."""

    hidden_size: Size = 512
    intermediate_size: Size = 2048
    num_attention_heads: Size = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Annotated[FiniteFloat, Field(gt=0)] = 1e-5
    vocab_size: Size = 49408
    max_position_embeddings: Size = 77
    eos_token_id: int = 49407


class SquareVisionConfig(VisionConfig):
    """A vision tower of one image size."""

    image_size: Size = 224

    @model_validator(mode="after")
    def _has_patches(self) -> Self:
        if self.image_size < self.patch_size:
            raise ValueError(f"image_size {self.image_size} is less than patch_size {self.patch_size}")
        return self


class ClipVisionConfig(SquareVisionConfig):
    """CLIP's vision tower."""

    hidden_act: str = "quick_gelu"
    layer_norm_eps: Annotated[FiniteFloat, Field(gt=0)] = 1e-5
    patch_size: Size = 32


class SiglipTextConfig(TextConfig):
    """SigLIP's text tower."""

    projection_size: Size | None = None  # the same as hidden_size


class SiglipVisionConfig(SquareVisionConfig):
    """SigLIP's vision tower."""

    vision_use_head: bool = True


class Siglip2VisionConfig(VisionConfig):
    """SigLIP 2's vision tower of variable grid."""

    num_patches: Size = 256
    vision_use_head: bool = True

    @model_validator(mode="after")
    def _is_square(self) -> Self:
        if isqrt(self.num_patches) ** 2 != self.num_patches:
            raise ValueError(f"num_patches {self.num_patches} is no square")
        return self


class Configuration(_Part):
    """Of a whole model."""

    model_type: ClassVar[str]
    text_config: TextConfig
    vision_config: VisionConfig


class ClipConfig(Configuration):
    """Of CLIP."""

    model_type = "clip"
    text_config: ClipTextConfig = Field(default_factory=ClipTextConfig)
    vision_config: ClipVisionConfig = Field(default_factory=ClipVisionConfig)
    projection_dim: Size = 512

    @model_validator(mode="before")
    @classmethod
    def _old_parts(cls, content: Any) -> Any:
        # Old configurations have a part a second time, and that one goes first, with its defaults.
        result = dict(content)
        for key, kind in (("text_config", ClipTextConfig), ("vision_config", ClipVisionConfig)):
            old = result.pop(f"{key}_dict", None)
            if isinstance(old, dict) and isinstance(result.get(key) or {}, dict):
                defaults = {
                    name: field.default for name, field in kind.model_fields.items() if field.default is not None
                }
                result[key] = {**(result.get(key) or {}), **defaults, **old}
        return result


class MetaClip2Config(ClipConfig):
    """Of MetaCLIP 2."""

    model_type = "metaclip_2"


class SiglipConfig(Configuration):
    """Of SigLIP."""

    model_type = "siglip"
    text_config: SiglipTextConfig = Field(default_factory=SiglipTextConfig)
    vision_config: SiglipVisionConfig = Field(default_factory=SiglipVisionConfig)


class Siglip2Config(Configuration):
    """Of SigLIP 2 with a variable grid."""

    model_type = "siglip2"
    text_config: SiglipTextConfig = Field(default_factory=SiglipTextConfig)
    vision_config: Siglip2VisionConfig = Field(default_factory=Siglip2VisionConfig)


def parse(kind: type[Configuration], content: dict[str, Any], name: str) -> Configuration:
    """The configuration of a model.

    Args:
        kind: of which family.
        content: of ``config.json``.
        name: of the model, for errors.

    Raises:
        BackboneError: a value is not what it should be; names the key.
    """
    given = {key: value for key, value in content.items() if value is not None or not key.endswith("_config")}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise BackboneError(f"{FILE} of {name} is damaged ({explain(error)}): get the model again") from None
    except UnicodeError:
        raise BackboneError(f"{FILE} of {name} holds a text that is none: get the model again") from None


def explain(error: ValidationError) -> str:
    """The first of the values that are wrong, and why, as part of a sentence."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = "".join(f"{part}." for part in first["loc"]).rstrip(".")
    problem = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] == "value_error" else f", not {str(first['input'])[:60]!r}"
    return f"{where}: {problem}{found}" if where else f"{problem}{found}"
