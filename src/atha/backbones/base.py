"""What the method needs to know of a frozen CLIP-like two-tower model.

Shapes: B images, P prefix tokens, L patch tokens, D vision width, E joint width, N class texts, S text tokens.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atha.anchors import adjoint_anchors, inverse_anchors, projection_inverse
from atha.errors import BackboneError

Tower = Literal["text", "vision"]

# Of configurations: what changes the result without changing a weight. Others come and go with the library's version.
_SETTINGS = (
    "hidden_act", "num_attention_heads", "num_hidden_layers", "layer_norm_eps", "image_size", "patch_size",
    "eos_token_id", "bos_token_id", "pad_token_id", "max_position_embeddings",
)  # fmt: skip


@dataclass(frozen=True)
class Prompts:
    """Tokenised class texts."""

    input_ids: Int[Tensor, "N S"]
    context: slice = field(
        default_factory=lambda: slice(0, 0)
    )  # the positions, equal in all texts, of the words before the class name


@dataclass(frozen=True)
class TextFeatures:
    """Class texts in the joint space, not normalised: what is classified against, and what `inverse` anchors use."""

    final: Float[Tensor, "N E"]
    penultimate: Float[Tensor, "N E"]  # taken after the last but one text block, through the same last layers


class Backbone(ABC):
    """A frozen two-tower model. A family is a sub-class in a file of its own and a line in `atha.backbones`.

    Attributes:
        name: what the user asked for: ``nano``, a hub id or a folder.
        revision: the hub's commit, where there is one.
        model: the transformers model, in float32, unmodified.
    """

    family: ClassVar[str]
    prefix_tokens: ClassVar[int]
    pooled_tokens: ClassVar[int | None]  # image features are read from so many first tokens alone; None: from all
    model_class: ClassVar[str]  # in transformers
    text_to_token: ClassVar[str]  # one sentence: how class texts get into token space

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        image_processor: Any = None,
        name: str = "",
        revision: str | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.image_processor = tokenizer, image_processor
        self.name, self.revision = name, revision
        self.tuned: Any = None  # the tuners that are in it just now, as a TunedModel

    # What a family must say.

    @property
    @abstractmethod
    def projection(self) -> Float[Tensor, "D E"]:
        """W of ``features = post_norm(token) @ W``: the linear path of one token into the joint space."""

    @property
    @abstractmethod
    def projection_bias(self) -> Float[Tensor, "E"] | float:
        """The constant that the same path adds."""

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N S"]:
        """Token ids as the text tower was trained to read them; texts fit, see `prompts`."""

    @abstractmethod
    def _pool_text(self, hidden: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Float[Tensor, "N E"]:
        """Output of a text block, taken through the last layers of the text tower into the joint space."""

    # What all families share.

    @property
    def vision_blocks(self) -> nn.ModuleList:
        """The blocks of the vision tower, first to last."""
        return self.model.vision_model.encoder.layers  # type: ignore[no-any-return]

    @property
    def text_blocks(self) -> nn.ModuleList:
        """The blocks of the text tower, first to last."""
        return self.model.text_model.encoder.layers  # type: ignore[no-any-return]

    @property
    def token_embedding(self) -> nn.Embedding:
        """The text tower's input embedding."""
        return self.model.text_model.embeddings.token_embedding  # type: ignore[no-any-return]

    @property
    def post_norm(self) -> nn.LayerNorm:
        """The vision tower's last LayerNorm."""
        return self.model.vision_model.post_layernorm  # type: ignore[no-any-return]

    @property
    def image_size(self) -> int:
        """Height and width of the images that the vision tower takes."""
        return int(self.model.config.vision_config.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.image_size // int(self.model.config.vision_config.patch_size)
        return side, side

    @property
    def context_length(self) -> int:
        """The most tokens a text may have, special tokens included."""
        return int(self.model.config.text_config.max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def logit_scale(self) -> float:
        """The learned scale of zero-shot logits. A bias, where a family has one, is equal for all classes."""
        return float(self.model.logit_scale.exp())

    def to(self, device: torch.device) -> "Backbone":
        """Move the weights."""
        self.model.to(device)
        return self

    def lora_pattern(self, towers: Sequence[Tower], projections: Sequence[str]) -> str:
        """Regular expression, over module names, of the attention projections (q, k, v, out) of the towers' blocks."""
        tower = "|".join(f"{tower}_model" for tower in towers)
        return rf"({tower})\.encoder\.layers\.\d+\.self_attn\.({'|'.join(projections)})_proj"

    def encode_image(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B E"]:
        """Image features, not normalised."""
        return self.model.get_image_features(pixel_values=pixels).pooler_output  # type: ignore[no-any-return]

    def encode_text(self, prompts: Prompts) -> TextFeatures:
        """Class text features, not normalised."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        blocks = self.text_blocks
        handle = blocks[max(len(blocks) - 2, 0)].register_forward_hook(keep)
        try:
            final = self.model.get_text_features(input_ids=prompts.input_ids).pooler_output
        finally:
            handle.remove()
        return TextFeatures(final, self._pool_text(kept[0], prompts.input_ids))

    def anchors(self, texts: TextFeatures, kind: Literal["adjoint", "inverse"]) -> Float[Tensor, "N D"]:
        """Class texts as vectors in patch-token space; see `atha.anchors`. Float32, autocast or not."""
        with torch.autocast(self.device.type, enabled=False):
            if kind == "adjoint":
                return adjoint_anchors(texts.final.float(), self.projection)
            return inverse_anchors(
                texts.penultimate.float() - self.projection_bias,
                self.projection,
                self.post_norm.weight,
                self.post_norm.bias,
                self._projection_inverse,
            )

    @cached_property
    def _projection_inverse(self) -> Float[Tensor, "E D"]:
        return projection_inverse(self.projection)

    def prompts(self, names: Sequence[str], template: str) -> Prompts:
        """Tokenise ``template`` filled with each class name.

        Raises:
            BackboneError: a text is longer than the text tower's context (names the class), or the words before the
                class name are not the same tokens in every text.
        """
        texts = [template.replace("{}", name) for name in names]
        lengths = [
            len(ids) for ids in self.tokenizer(texts, padding=False, truncation=False, verbose=False)["input_ids"]
        ]
        for name, length in zip(names, lengths, strict=True):
            if length > self.context_length:
                raise BackboneError(
                    f"the text of class '{name[:60]}' has {length} tokens, {self.name} reads at most "
                    f"{self.context_length}: shorten the class name or the template '{template}'"
                )
        ids = self.tokenize(texts).to(self.device)
        return Prompts(ids, self._context_positions(ids, template))

    def _context_positions(self, ids: Int[Tensor, "N S"], template: str) -> slice:
        before = template.split("{}", maxsplit=1)[0].strip()
        if not before:
            return slice(0, 0)
        words = self.tokenizer(before, add_special_tokens=False)["input_ids"]
        rows = ids.tolist()
        for start in range(2):  # texts begin with a start token, or do not
            if all(row[start : start + len(words)] == words for row in rows):
                return slice(start, start + len(words))
        raise BackboneError(
            f"'{before}' is not read as the same tokens in every class text: end the template's words with a space"
        )

    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and a sample of the values of all weights: tells one checkpoint from another."""
        digest = hashlib.sha256(self.family.encode())
        for name, value in sorted(self.model.state_dict().items()):
            if ".lora_" in name:
                continue
            flat = value.detach().flatten()
            sample = flat[:: max(1, flat.numel() // 64)].float().cpu().contiguous()
            digest.update(f"{name.replace('.base_layer', '')} {tuple(value.shape)}".encode())
            digest.update(sample.numpy().tobytes())
        return digest.hexdigest()

    def content_hash(self) -> str:
        """SHA-256 over all that decides what the model computes: every byte of its weights, and its settings.

        Slower than `fingerprint` and without its blind spots: the same weights under another activation, or a few
        changed rows, are another model. The tuners must be out of it.
        """
        digest = hashlib.sha256(self.family.encode())
        for part in (self.model.config, self.model.config.vision_config, self.model.config.text_config):
            settings = {key: getattr(part, key, None) for key in _SETTINGS}
            digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Structure in plain numbers, for people and for files."""
        parameters = sum(parameter.numel() for name, parameter in self.model.named_parameters() if "lora_" not in name)
        return {
            "name": self.name,
            "revision": self.revision,
            "family": self.family,
            "parameters": parameters,
            "image_size": self.image_size,
            "patch_grid": list(self.grid),
            "prefix_tokens": self.prefix_tokens,
            "vision_blocks": len(self.vision_blocks),
            "text_blocks": len(self.text_blocks),
            "vision_width": int(self.projection.shape[0]),
            "joint_width": int(self.projection.shape[1]),
            "context_length": self.context_length,
            "text_to_token_map": self.text_to_token,
        }


#: Loads a backbone of one family: (source, name, revision) -> Backbone.
Loader = Callable[[str, str, str | None], Backbone]
