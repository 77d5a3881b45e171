"""SigLIP, as transformers' `SiglipModel` (arXiv 2303.15343): no CLS token, attention pooling, two-way text tower.

SigLIP 2 of a fixed resolution loads as `SiglipModel` too, with Gemma's tokenizer.

Text-to-token map. The pooled feature is ``f = h + MLP(LayerNorm(h))`` with ``h = (sum_i a_i LN(v_i)) Wv Wo + c``: a
probe attends to the patch tokens v_i after post_layernorm. A token enters f linearly through the value and output
matrices (summed over heads, with equal attention in each), so W = Wv Wo takes the part of the visual projection and
c = bv Wo + bo of its bias. The attention weights and the MLP, which bend this path, are left out: they are no map of
one token. Joint and token width are equal.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor

from atha.backbones.base import Backbone
from atha.errors import BackboneError


class SiglipBackbone(Backbone):
    """Text is read at the last position (padding included), images by attention pooling; no prefix token."""

    family = "siglip"
    about = "SigLIP, and SigLIP 2 of a fixed resolution, as transformers has them"
    examples: ClassVar[Sequence[str]] = ("google/siglip-base-patch16-224", "google/siglip2-base-patch16-256")
    prefix_tokens = 0
    pooled_tokens = None
    model_class = "SiglipModel"
    text_to_token = (
        "A patch token enters the pooled feature through post_layernorm and the pooling head's W = Wv Wo; attention "
        "weights and MLP are left out, as they are no linear map of one token."
    )

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

    def read_image(self, tokens: Float[Tensor, "B M D"]) -> Float[Tensor, "B E"]:
        """The last LayerNorm and attention pooling."""
        return self.model.vision_model.head(self.post_norm(tokens))  # type: ignore[no-any-return]

    def read_text(self, tokens: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Float[Tensor, "N E"]:
        """The last position, through the last LayerNorm and the head."""
        text = self.model.text_model
        return text.head(text.final_layer_norm(tokens[:, -1]))  # type: ignore[no-any-return]

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N S"]:
        """Lower case, padded at the end to the full context, without a mask, as SigLIP was trained."""
        # Gemma's tokenizer pads at the start where nobody says otherwise.
        options = {"padding": "max_length", "padding_side": "right", "max_length": self.context_length}
        return self.tokenizer(self._cased(texts), return_tensors="pt", **options)["input_ids"]  # type: ignore[no-any-return]

    def token_ids(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """Token ids of each text in lower case, neither padded nor cut."""
        return super().token_ids(self._cased(texts), special)

    def _cased(self, texts: Sequence[str]) -> list[str]:
        # SigLIP's own tokenizer says so itself; Gemma's keeps capitals, which SigLIP 2 has never seen.
        return [text.lower() for text in texts] if getattr(self.tokenizer, "do_lower_case", True) else list(texts)
