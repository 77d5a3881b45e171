"""What the method needs to know of a frozen CLIP-like two-tower model.

Shapes: B images, P prefix tokens, L patch tokens, D vision width, E joint width, N class texts, S text tokens.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atha.anchors import adjoint_anchors, inverse_anchors, projection_inverse
from atha.data.processor import ImageProcessor
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

    What is not said otherwise is that of transformers' two-tower models.

    Attributes:
        name: what the user asked for, as `atha.backbones.load_backbone` takes it.
        location: what loads it again from any working directory, where the name does not.
        home: folder or hub repository of its files, for its model card.
        revision: the hub's commit, where there is one.
        model: the library's model, in float32; what it computes is never changed.
        prefix_tokens: how many tokens stand before the patches.
        pooled_tokens: image features are read from so many first tokens alone, behind a last block that
            `atha.tuners.block.can_replace`; None: from all.
        text_to_token: one sentence, how class texts get into token space, and why so.
        unalignable: why tokens cannot be aligned, as the end of a sentence on the model; None where they can.
        fixed_length: whether a block is lost when there are more tokens than before, as with rotary positions.
    """

    family: ClassVar[str]
    about: ClassVar[str]  # what models these are, in a few words
    examples: ClassVar[Sequence[str]]  # what ``--model`` takes, one at least
    model_class: ClassVar[str]  # in transformers
    prefix_tokens: int
    pooled_tokens: int | None
    text_to_token: str
    location: str | None = None
    home: str | None = None
    unalignable: str | None = None
    fixed_length: bool = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        image_processor: Any = None,
        name: str = "",
        revision: str | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.image_processor: Any = None if image_processor is None else ImageProcessor.of(image_processor)
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

    # What transformers' models share; other libraries' say it themselves.

    @property
    def vision_tower(self) -> nn.Module:
        """All of the model that images go through."""
        return self.model.vision_model  # type: ignore[no-any-return]

    @property
    def vision_blocks(self) -> Sequence[nn.Module]:
        """The blocks of the vision tower, first to last; none where it has no tokens."""
        return self.model.vision_model.encoder.layers  # type: ignore[no-any-return]

    @property
    def text_blocks(self) -> Sequence[nn.Module]:
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
    def tokens(self) -> int:
        """M: tokens of an image, patches and others."""
        rows, columns = self.grid
        return self.prefix_tokens + rows * columns

    @property
    def vision_widths(self) -> tuple[int, int]:
        """D, and the inner width of the blocks' MLP."""
        config = self.model.config.vision_config
        return int(config.hidden_size), int(config.intermediate_size)

    @property
    def joint_width(self) -> int:
        """E."""
        return int(self.projection.shape[1])

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
        """The learned scale of zero-shot logits."""
        return float(self.model.logit_scale.exp())

    @property
    def logit_bias(self) -> float:
        """What a model trained with sigmoids adds to them; equal for all classes, so that it leaves shares alone."""
        bias = getattr(self.model, "logit_bias", None)
        return 0.0 if bias is None else float(bias)

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
        last = self.text_blocks[-1]
        kept: list[tuple[Tensor, Any]] = []

        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            kept.append((args[0] if args else kwargs["hidden_states"], output))

        handle = last.register_forward_hook(keep, with_kwargs=True)
        try:
            final = self._text_features(prompts.input_ids)
        finally:
            handle.remove()
        # Through the layers behind the blocks once more, whatever they are, with what the last block was given.
        hidden, output = kept[0]
        with _giving(self.text_blocks, (hidden, *output[1:]) if isinstance(output, tuple) else hidden):
            return TextFeatures(final, self._text_features(prompts.input_ids))

    def _text_features(self, input_ids: Int[Tensor, "N S"]) -> Float[Tensor, "N E"]:
        return self.model.get_text_features(input_ids=input_ids).pooler_output  # type: ignore[no-any-return]

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
        for name, tokens in zip(names, self.token_ids(texts), strict=True):
            if len(tokens) > self.context_length:
                raise BackboneError(
                    f"the text of class '{name[:60]}' has {len(tokens)} tokens, {self.name} reads at most "
                    f"{self.context_length}: shorten the class name or the template '{template}'"
                )
        ids = self.tokenize(texts).to(self.device)
        return Prompts(ids, self._context_positions(ids, template))

    def token_ids(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """Token ids of each text, neither padded nor cut.

        Args:
            texts: any.
            special: with the tokens that begin and end a text.
        """
        read = self.tokenizer(list(texts), padding=False, truncation=False, verbose=False, add_special_tokens=special)
        return read["input_ids"]  # type: ignore[no-any-return]

    def _context_positions(self, ids: Int[Tensor, "N S"], template: str) -> slice:
        before = template.split("{}", maxsplit=1)[0].strip()
        if not before:
            return slice(0, 0)
        words = self.token_ids([before], special=False)[0]
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
        for settings in self._settings():
            digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _settings(self) -> list[dict[str, Any]]:
        config = self.model.config
        return [
            {key: getattr(part, key, None) for key in _SETTINGS}
            for part in (config, config.vision_config, config.text_config)
        ]

    def check_alignable(self, growing: bool = False) -> None:
        """See to it that tokens can be aligned.

        Args:
            growing: whether the alignment adds tokens, as that of the released code does.

        Raises:
            BackboneError: the vision tower has no tokens, there is no map from class texts to them, or there must not
                be more of them.
        """
        if self.unalignable:
            raise BackboneError(
                f"{self.name} {self.unalignable}, so that tokens cannot be aligned or shown: use the recipe lora, or "
                "one of the methods zero-shot, prototypes, linear-probe, tip-adapter, tip-adapter-f, lora, clip-lora"
            )
        if growing and self.fixed_length:
            raise BackboneError(
                f"{self.name} knows its patches by rotary positions, and alignment.keep_cls_out=false adds tokens that "
                "have none: set it to true, or use the recipe paper or released-fixed"
            )

    def describe(self) -> dict[str, Any]:
        """Structure in plain numbers, for people and for files."""
        parameters = sum(parameter.numel() for name, parameter in self.model.named_parameters() if "lora_" not in name)
        return {
            "name": self.name,
            "revision": self.revision,
            "family": self.family,
            "parameters": parameters,
            "image_size": self.image_size,
            "patch_grid": list(self.grid) if self.vision_blocks else None,
            "prefix_tokens": self.prefix_tokens,
            "vision_blocks": len(self.vision_blocks),
            "text_blocks": len(self.text_blocks),
            "vision_width": self.vision_widths[0] if self.vision_blocks else None,
            "text_width": int(self.token_embedding.embedding_dim),
            "joint_width": self.joint_width,
            "context_length": self.context_length,
            "logit_scale": self.logit_scale,
            "logit_bias": self.logit_bias,
            "text_to_token_map": f"none: it {self.unalignable}" if self.unalignable else self.text_to_token,
        }


@contextmanager
def _giving(blocks: Sequence[nn.Module], result: Any) -> Iterator[None]:
    """Blocks that compute nothing, the last of which gives ``result``."""
    before = [block.__dict__.get("forward") for block in blocks]
    for block in blocks:
        block.forward = lambda *args, **kwargs: result
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward
