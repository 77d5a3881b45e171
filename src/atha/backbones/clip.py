"""CLIP, as transformers' `CLIPModel` (arXiv 2103.00020): CLS token, one linear projection, causal text tower."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atha.backbones.base import Backbone

# Configurations written before the end-of-text id was stored right carry this value and read at the largest id.
LEGACY_EOS = 2


class ClipBackbone(Backbone):
    """Text is read at the end-of-text token, images at CLS; W is the visual projection itself."""

    family = "clip"
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

    def _pool_text(self, hidden: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Float[Tensor, "N E"]:
        eos = self.model.config.text_config.eos_token_id
        end = input_ids.argmax(dim=-1) if eos == LEGACY_EOS else (input_ids == eos).int().argmax(dim=-1)
        hidden = self.model.text_model.final_layer_norm(hidden)
        return self.model.text_projection(hidden[torch.arange(len(hidden), device=hidden.device), end])  # type: ignore[no-any-return]
