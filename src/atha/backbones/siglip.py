"""SigLIP, as transformers' `SiglipModel` (arXiv 2303.15343): no CLS token, attention pooling, two-way text tower.

Text-to-token map. The pooled feature is ``f = h + MLP(LayerNorm(h))`` with ``h = (sum_i a_i LN(v_i)) Wv Wo + c``: a
probe attends to the patch tokens v_i after post_layernorm. A token enters f linearly through the value and output
matrices (summed over heads, with equal attention in each), so W = Wv Wo takes the part of the visual projection and
c = bv Wo + bo of its bias. The attention weights and the MLP, which bend this path, are left out: they are no map of
one token. Joint and token width are equal.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from atha.backbones.base import Backbone
from atha.errors import BackboneError


class SiglipBackbone(Backbone):
    """Text is read at the last position (padding included), images by attention pooling; no prefix token."""

    family = "siglip"
    about = "SigLIP, and SigLIP 2 of a fixed resolution, as transformers has them"
    examples = ("google/siglip-base-patch16-224", "google/siglip2-base-patch16-256")
    prefix_tokens = 0
    pooled_tokens = None
    model_class = "SiglipModel"
    text_to_token = "A patch token enters the pooled feature through post_layernorm and the pooling head's W = Wv Wo."

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, *args, **kwargs)
        if not model.vision_model.use_head:
            raise BackboneError("this SigLIP has no pooling head (vision_use_head is false), use a checkpoint with one")

    @property
    def _value_output(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        attention = self.model.vision_model.head.attention
        width = attention.embed_dim
        return (
            attention.in_proj_weight[2 * width :],
            attention.in_proj_bias[2 * width :],
            attention.out_proj.weight,
            attention.out_proj.bias,
        )

    @property
    def projection(self) -> Float[Tensor, "D E"]:
        """Value and output matrices of the pooling head, multiplied."""
        value, _, output, _ = self._value_output
        return (output @ value).T

    @property
    def projection_bias(self) -> Float[Tensor, "E"]:
        """What the biases of the same two layers add."""
        _, value_bias, output, output_bias = self._value_output
        return value_bias @ output.T + output_bias

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N S"]:
        """Padded to the full context, without a mask, as SigLIP was trained."""
        tokens = self.tokenizer(list(texts), padding="max_length", max_length=self.context_length, return_tensors="pt")
        return tokens["input_ids"]  # type: ignore[no-any-return]
