"""CLIP, as transformers' `CLIPModel` (arXiv 2103.00020): CLS token, one linear projection, causal text tower."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from atha.backbones.base import Backbone


class ClipBackbone(Backbone):
    """Text is read at the end-of-text token, images at CLS; W is the visual projection itself."""

    family = "clip"
    about = "CLIP as transformers has it: OpenAI's, LAION's, MetaCLIP, DFN, StreetCLIP, PLIP"
    examples = ("openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14-336", "facebook/metaclip-b32-400m")
    prefix_tokens = 1
    pooled_tokens = 1
    model_class = "CLIPModel"
    text_to_token = "CLS goes through post_layernorm and the visual projection W; a patch token is taken the same way."

    @property
    def projection(self) -> Float[Tensor, "D E"]:
        """The visual projection."""
        return self.model.visual_projection.weight.T  # type: ignore[no-any-return]

    @property
    def projection_bias(self) -> float:
        """CLIP's projection has none."""
        return 0.0

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N S"]:
        """Padded to the longest text: exact, as the text tower is causal and is read at the first end token."""
        return self.tokenizer(list(texts), padding=True, return_tensors="pt")["input_ids"]  # type: ignore[no-any-return]
