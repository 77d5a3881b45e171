"""CLIP, as transformers' `CLIPModel` (arXiv 2103.00020): CLS token, one linear projection, causal text tower."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from atha.backbones.base import Backbone, Tokens
from atha.errors import BackboneError

CAUSAL: Mapping[str, Any] = {"attention_mask": None, "is_causal": True}


class ClipBackbone(Backbone):
    """Text is read at the end-of-text token, images at CLS; W is the visual projection itself."""

    family = "clip"
    about = "CLIP as transformers has it: OpenAI's, LAION's, MetaCLIP, DFN, StreetCLIP, PLIP"
    examples: ClassVar[Sequence[str]] = (
        "openai/clip-vit-base-patch16",
        "openai/clip-vit-large-patch14-336",
        "facebook/metaclip-b32-400m",
        "WEIGHTS.safetensors",
    )
    prefix_tokens = 1
    pooled_tokens = 1
    model_class = "CLIPModel"
    largest_id: ClassVar[int | None] = 2  # the end token of old configurations, by which a text ends at its largest id
    text_to_token = (
        "CLS goes through post_layernorm and the visual projection W; a patch token is taken the same way, as both "
        "live in one residual stream."
    )

    def __init__(self, model: Any, tokenizer: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(model, tokenizer, *args, **kwargs)
        if tokenizer is not None:
            self.check_tokenizer(tokenizer)

    def check_tokenizer(self, tokenizer: Any) -> None:
        """See to it that texts end as the text tower expects it."""
        end = self.model.config.text_config.eos_token_id
        # Every text would be read at its start, without a word.
        if end not in (tokenizer.eos_token_id, self.largest_id):
            raise BackboneError(
                f"the tokenizer of {self.name} ends texts with token {tokenizer.eos_token_id} and its text tower reads "
                f"them at token {end}: correct eos_token_id in text_config of config.json"
            )

    @property
    def projection(self) -> Float[Tensor, "D E"]:
        """The visual projection."""
        return self.model.visual_projection.weight.T  # type: ignore[no-any-return]

    @property
    def projection_bias(self) -> float:
        """CLIP's projection has none."""
        return 0.0

    def read_image(self, tokens: Float[Tensor, "B M D"]) -> Float[Tensor, "B E"]:
        """CLS, through the last LayerNorm and the projection."""
        return self.model.visual_projection(self.post_norm(tokens[:, 0]))  # type: ignore[no-any-return]

    def embed_text(self, words: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Tokens:
        """The text tower is causal."""
        return super().embed_text(words, input_ids)._replace(options=CAUSAL)

    def read_text(self, tokens: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Float[Tensor, "N E"]:
        """The end token, through the last LayerNorm and the projection."""
        model = self.model
        end = model.config.text_config.eos_token_id
        ends = (input_ids if end == self.largest_id else (input_ids == end).int()).argmax(dim=1)
        last = model.text_model.final_layer_norm(tokens[torch.arange(len(tokens), device=tokens.device), ends])
        return model.text_projection(last)  # type: ignore[no-any-return]

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N S"]:
        """Padded to the longest text: exact, as the text tower is causal and is read at the first end token."""
        return self.tokenizer(list(texts), padding=True, return_tensors="pt")["input_ids"]  # type: ignore[no-any-return]
