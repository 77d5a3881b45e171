"""What the parts of files that are read back have in common."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen, strict types, finite numbers; entries of later versions are kept."""

    model_config = ConfigDict(
        extra="allow", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
