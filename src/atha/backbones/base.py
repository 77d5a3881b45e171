"""What the method needs to know of a frozen CLIP-like two-tower model.

Shapes: B images, P prefix tokens, L patch tokens, D vision width, E joint width, N class texts, S text tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from atha.anchors import adjoint_anchors, inverse_anchors, projection_inverse
from atha.backbones import identity
from atha.backbones.patterns import check_lengths
from atha.data.processor import ImageProcessor
from atha.errors import BackboneError, is_fault, reason

Tower = Literal["text", "vision"]

#: Options of blocks that see every token.
NO_MASK: Mapping[str, Any] = {"attention_mask": None}


@dataclass(frozen=True)
class Prompts:
    """Tokenised class texts."""

    input_ids: Int[Tensor, "N S"]
    context: slice = field(
        default_factory=lambda: slice(0, 0)
    )  # the positions, equal in all texts, of the words before the class name


class Tokens(NamedTuple):
    """What goes through the blocks of a tower."""

    values: Float[Tensor, "B M D"]
    options: Mapping[str, Any]  # what every block is called with besides: masks, positions


class Backbone(ABC):
    """A frozen two-tower model. A family is a sub-class in a file of its own and a line in `atha.backbones`.

    What is not said otherwise is that of transformers' two-tower models.

    Attributes:
        name: what the user asked for, as `atha.backbones.load_backbone` takes it.
        location: what loads it again from any working directory, where the name does not.
        load_tokenizer: gives the tokenizer, where it was not given.
        home: folder or hub repository of its files, for its model card.
        revision: the hub's commit, where there is one.
        model: the library's model, in float32; what it computes is never changed.
        prefix_tokens: how many tokens stand before the patches.
        pooled_tokens: image features are read from so many first tokens alone, behind a last block that
            `atha.models.engine.block.can_replace`; None: from all.
        text_to_token: one sentence, how class texts get into token space, and why so.
        unalignable: why tokens cannot be aligned, as the end of a sentence on the model; None where they can.
        fixed_length: whether a block is lost when there are more tokens than before, as with rotary positions.
    """

    family: ClassVar[str]
    about: ClassVar[str]  # what models these are, in a few words
    examples: ClassVar[Sequence[str]]  # what ``--model`` takes, one at least
    model_class: ClassVar[str]  # in transformers; see `atha.backbones.towers.MODELS`
    prefix_tokens: int
    pooled_tokens: int | None
    text_to_token: str
    load_tokenizer: Callable[[], Any] | None = None
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
        self.image_processor: Any = None if image_processor is None else ImageProcessor.of(image_processor)
        self._tokenizer = tokenizer
        self.name, self.revision = name, revision

    @property
    def tokenizer(self) -> Any:
        """The library's tokenizer, read and checked at the first use: images alone do not need it."""
        if self._tokenizer is None and self.load_tokenizer is not None:
            tokenizer = self.load_tokenizer()
            self.check_tokenizer(tokenizer)
            self._tokenizer = tokenizer
        return self._tokenizer

    def check_tokenizer(self, tokenizer: Any) -> None:  # noqa: B027 - most families need no more than was checked
        """See to it that a tokenizer is the text tower's; raises `BackboneError`."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Backbone":
        """Itself: nobody changes it."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process as where it came from; what is loaded there is held to its weights."""
        from atha.backbones import reload

        if self.home is None:
            raise BackboneError(
                f"the backbone '{self.name}' was not loaded from anywhere, so that another process cannot load it: "
                "save it to a folder and load it from there"
            )
        return reload, (self.location or self.name, self.revision, self.fingerprint(), str(self.device))

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
        """Move the weights.

        Args:
            device: where to.
        """
        self.model.to(device)
        return self

    def lora_layers(self, towers: Sequence[Tower], projections: Sequence[str]) -> dict[str, nn.Linear]:
        """The attention projections (q, k, v, out) of the towers' blocks, by their names in the model, in its order."""
        blocks = {"text": self.text_blocks, "vision": self.vision_blocks}
        found = {
            block.get_submodule(names[projection])
            for tower in towers
            for block in blocks[tower]
            if (names := self.projection_names(block))
            for projection in projections
        }
        return {name: layer for name, layer in self.model.named_modules() if layer in found}

    def projection_names(self, block: nn.Module) -> Mapping[str, str]:
        """Names within a block of its ``q``, ``k``, ``v`` and ``out`` layers; empty where they are no layers."""
        return {name: f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")}

    # A tower is run from tokens to features by `atha.models.encoder`; this is what stands before and behind its blocks.

    def embed_image(self, pixels: Float[Tensor, "B 3 H W"]) -> Tokens:
        """What the first vision block is given.

        Args:
            pixels: as the image processor makes them.
        """
        vision = self.model.vision_model
        tokens = vision.embeddings(pixels)
        return Tokens(vision.pre_layrnorm(tokens) if hasattr(vision, "pre_layrnorm") else tokens, NO_MASK)

    @abstractmethod
    def read_image(self, tokens: Float[Tensor, "B M D"]) -> Float[Tensor, "B E"]:
        """Image features, not normalised, of what the last vision block gives.

        Args:
            tokens: the block's output.
        """

    def embed_text(self, words: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Tokens:
        """What the first text block is given.

        Args:
            words: of `token_embedding`, where some may have been replaced.
            input_ids: the token ids themselves.
        """
        positions = self.model.text_model.embeddings.position_embedding.weight
        return Tokens(words + positions[: words.shape[1]], NO_MASK)

    @abstractmethod
    def read_text(self, tokens: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Float[Tensor, "N E"]:
        """Class text features, not normalised, of what a text block gives: the last one's, or one's before it.

        Args:
            tokens: the block's output.
            input_ids: of the texts, which say where each ends.
        """

    def run_block(
        self, block: Callable[..., Tensor], number: int, tokens: Float[Tensor, "B M D"], options: Mapping[str, Any]
    ) -> Float[Tensor, "B M D"]:
        """What a block makes of tokens.

        Args:
            block: the library's own module or a copy of it; or what stands for it, called as transformers' blocks are.
            number: which of its tower's.
            tokens: its input.
            options: of its tower, see `Tokens`.
        """
        return block(tokens, **options)

    def anchors(self, texts: Float[Tensor, "N E"], kind: Literal["adjoint", "inverse"]) -> Float[Tensor, "N D"]:
        """Class texts as vectors in patch-token space; see `atha.anchors`. Float32, autocast or not.

        Args:
            texts: class text features; for `inverse`, of the last but one text block.
            kind: which map.
        """
        with torch.autocast(self.device.type, enabled=False):
            if kind == "adjoint":
                return adjoint_anchors(texts.float(), self.projection)
            return inverse_anchors(
                texts.float() - self.projection_bias,
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
        check_lengths(texts)
        try:
            lengths = [len(tokens) for tokens in self.token_ids(texts)]
            if (longest := max(lengths, default=0)) > self.context_length:
                raise BackboneError(
                    f"the text of class '{names[lengths.index(longest)][:60]}' has {longest} tokens, {self.name} reads "
                    f"at most {self.context_length}: shorten the class name or the template '{template}'"
                )
            ids = self.tokenize(texts)
            positions = self._context_positions(ids, template)
        except BaseException as error:  # of libraries, that read the tokenizer's files as they like
            if isinstance(error, BackboneError) or not is_fault(error):
                raise
            raise BackboneError(
                f"the tokenizer of {self.name} cannot read the class texts ({reason(error)}): get the model again"
            ) from error
        known = self.token_embedding.num_embeddings
        if ids.shape[1] > self.context_length or not 0 <= int(ids.min()) <= int(ids.max()) < known:
            raise BackboneError(
                f"the tokenizer of {self.name} makes {ids.shape[1]} tokens up to number {int(ids.max())} of a text, "
                f"and its text tower knows {known} and reads {self.context_length}: get the model again"
            )
        return Prompts(ids.to(self.device), positions)

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
        """SHA-256 over a sample of the weights, see `atha.backbones.identity.fingerprint`."""
        return identity.fingerprint(self)

    def content_hash(self) -> str:
        """SHA-256 over all weights and settings, see `atha.backbones.identity.content_hash`."""
        return identity.content_hash(self)

    def settings(self) -> list[dict[str, Any]]:
        """What changes what the model computes without changing a weight."""
        config = self.model.config
        return [
            {key: getattr(part, key, None) for key in identity.SETTINGS}
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
                f"{self.name} {self.unalignable}, so that tokens cannot be aligned or shown: use the recipe probes or "
                "lora, or a method of atha bench other than atha:RECIPE"
            )
        if growing and self.fixed_length:
            raise BackboneError(
                f"{self.name} knows its patches by rotary positions, and alignment.keep_cls_out=false adds tokens that "
                "have none: set it to true, or use the recipe paper or released-fixed"
            )

    def describe(self) -> dict[str, Any]:
        """Structure in plain numbers, for people and for files."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
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
