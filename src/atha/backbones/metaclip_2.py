"""MetaCLIP 2, as transformers' `MetaClip2Model` (arXiv 2507.22062): CLIP in many languages, with their vocabulary."""

from typing import Any

from atha.backbones.clip import ClipBackbone
from atha.errors import BackboneError


class MetaClip2Backbone(ClipBackbone):
    """CLIP but for the tokenizer, whose padding is not its end token."""

    family = "metaclip_2"
    examples = (
        "facebook/metaclip-2-worldwide-b32",
        "facebook/metaclip-2-worldwide-l14",
        "facebook/metaclip-2-worldwide-huge-quickgelu",
    )
    model_class = "MetaClip2Model"

    def __init__(self, model: Any, tokenizer: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, tokenizer, *args, **kwargs)
        end = model.config.text_config.eos_token_id
        if tokenizer is not None and tokenizer.eos_token_id != end:  # the library would read all texts at the start
            raise BackboneError(
                f"the tokenizer of {self.name} ends texts with token {tokenizer.eos_token_id} and its text tower reads "
                f"them at token {end}: correct eos_token_id in text_config of config.json"
            )
