"""Models of open_clip (https://github.com/mlfoundations/open_clip): its own towers, timm's, and text towers of
transformers.

The model is open_clip's, with blocks prepared as `atha.backbones.blocks` says. Alignment needs to know of the vision
tower where its tokens are and how one of them gets into the joint space; `_VisionTower` says so for each pooling, and
docs/concepts/method.md why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer, text_global_pool
from timm.layers import AttentionPoolLatent
from timm.models import Eva
from timm.models import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from atha.backbones.base import Backbone, Tokens
from atha.backbones.blocks import call_plain, is_plain, prepare, projection_names
from atha.backbones.foreign import HollowTower, run_foreign
from atha.backbones.open_clip_files import ABOUT, EXAMPLES, FAMILY

_CLS = (
    "CLS goes through the last LayerNorm and the projection W; a patch token is taken the same way, as both live in "
    "one residual stream."
)
_MEAN = (
    "The mean of the patch tokens goes through W, so that each enters it linearly, through the last LayerNorm and W."
)
_ATTENTION = (
    "A patch token enters the pooled feature through a LayerNorm and the pooling head's W, the product of its value "
    "and output matrices and of what is linear behind them; attention weights and MLP are left out, as they are no "
    "linear map of one token."
)


@dataclass(frozen=True)
class _VisionTower:
    """What there is to know of one.

    Attributes:
        blocks: prepared; none where there are no tokens.
        prefix: how many tokens stand before the patches.
        pooled: see `Backbone.pooled_tokens`.
        grid: rows and columns of patches; without tokens, what takes as much memory.
        widths: of tokens, and of the MLP inside a block; the same.
        norm: the LayerNorm that a token goes through on its way.
        path: the rest of its way into the joint space, (..., D) to (..., E); affine.
        text_to_token: the same in one sentence.
        unalignable: why there is no such way.
    """

    blocks: Sequence[nn.Module]
    prefix: int
    pooled: int | None
    grid: tuple[int, int]
    widths: tuple[int, int]
    norm: Any = None
    path: Callable[[Tensor], Tensor] | None = None
    text_to_token: str = ""
    unalignable: str | None = None


class OpenClipBackbone(Backbone):
    """A model that open_clip makes.

    Args:
        model: open_clip's ``CLIP``, ``CustomTextCLIP`` or ``CoCa``; its blocks are changed in place, and a decoder of
            captions is dropped.
        tokenizer: open_clip's.
        image_processor: one of transformers with the model's geometry, mean and std.
        name: as `atha.backbones.load_backbone` takes it.
        revision: the hub's commit, where there is one.
        settings: of the model, as open_clip's configuration has them; the same weights with others are another model.
    """

    family = FAMILY
    about = ABOUT
    examples = EXAMPLES

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        image_processor: Any,
        name: str = "",
        revision: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        model.text_decoder = None  # CoCa's captions
        self._vision = _vision_tower(model.visual)
        self._hollow: HollowTower | None = None
        text = getattr(model, "text", model)  # open_clip's CLIP is its own text tower
        self._text_tower = text
        if isinstance(text, HFTextEncoder):
            encoder = getattr(text.transformer, "encoder", text.transformer)
            lists = (getattr(encoder, name, None) for name in ("layer", "layers", "block"))
            # Left as they are, for their projections are apart already.
            blocks = next(found for found in lists if isinstance(found, nn.ModuleList))
            self._text_blocks: Sequence[nn.Module] = list(blocks)
            self._hollow = HollowTower(text.transformer.eval().requires_grad_(False), blocks)
            self._cut = True  # padding is masked
        else:
            self._text_blocks = prepare(text.transformer.resblocks)
            # A causal tower that is read at the end of the text does not see what comes after it.
            pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
            self._cut = (
                text.attn_mask is not None
                and getattr(text, "cls_emb", None) is None
                and pool in ("argmax", "eos")
                and all(is_plain(block) for block in self._text_blocks)
            )
        self._own_settings = settings or {}
        self.prefix_tokens, self.pooled_tokens = self._vision.prefix, self._vision.pooled
        self.text_to_token, self.unalignable = self._vision.text_to_token, self._vision.unalignable
        self.fixed_length = getattr(getattr(model.visual, "trunk", None), "rope", None) is not None
        super().__init__(model, tokenizer, image_processor, name, revision)

    @property
    def vision_tower(self) -> nn.Module:
        """All of the model that images go through."""
        return self.model.visual  # type: ignore[no-any-return]

    @property
    def vision_blocks(self) -> Sequence[nn.Module]:
        """The blocks of the vision tower, first to last; none where it has no tokens."""
        return self._vision.blocks

    @property
    def text_blocks(self) -> Sequence[nn.Module]:
        """The blocks of the text tower, first to last."""
        return self._text_blocks

    @property
    def token_embedding(self) -> nn.Embedding:
        """The text tower's input embedding."""
        text = self._text_tower
        if isinstance(text, HFTextEncoder):
            return text.transformer.get_input_embeddings()  # type: ignore[no-any-return]
        return text.token_embedding  # type: ignore[no-any-return]

    @property
    def post_norm(self) -> nn.LayerNorm:
        """The LayerNorm that a token goes through on its way into the joint space."""
        self.check_alignable()
        return self._vision.norm  # type: ignore[no-any-return]

    @property
    def projection(self) -> Float[Tensor, "D E"]:
        """The rest of that way, as one matrix."""
        return self._along(torch.eye(self.vision_widths[0])) - self.projection_bias

    @property
    def projection_bias(self) -> Float[Tensor, "E"]:
        """What the rest of that way adds."""
        return self._along(torch.zeros(self.vision_widths[0]))

    def _along(self, tokens: Tensor) -> Tensor:
        self.check_alignable()
        assert self._vision.path is not None
        along: Tensor = self._vision.path(tokens.to(self.device))
        return along

    @property
    def image_size(self) -> int:
        """Height and width of the images that the vision tower takes."""
        return _side(self.model.visual)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self._vision.grid

    @property
    def vision_widths(self) -> tuple[int, int]:
        """D, and the inner width of the blocks' MLP."""
        return self._vision.widths

    @property
    def joint_width(self) -> int:
        """E."""
        text = self._text_tower
        if not isinstance(text, open_clip.CLIP):
            return int(text.output_dim)
        last = text.text_projection
        if last is None:
            return int(text.ln_final.normalized_shape[0])
        return int(last.out_features if isinstance(last, nn.Linear) else last.shape[1])

    @property
    def context_length(self) -> int:
        """The most tokens a text may have, special tokens included."""
        return int(self.tokenizer.context_length)

    def token_ids(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """Token ids of each text, neither padded nor cut; see `Backbone.token_ids`."""
        reader = self.tokenizer
        if not hasattr(reader, "tokenizer"):  # CLIP's own
            inner = [reader.encode(text) for text in texts]
            return [[reader.sot_token_id, *ids, reader.eot_token_id] if special else ids for ids in inner]
        own = not getattr(reader, "tokenizer_mode", "")  # its special tokens, or open_clip's: two and a class token
        read = reader.tokenizer(
            [reader.clean_fn(text) for text in texts],
            padding=False,
            truncation=False,
            verbose=False,
            add_special_tokens=special and own,
        )
        ends = reader.tokenizer
        return [
            ids if own or not special else [ends.bos_token_id, *ids, ends.eos_token_id, ends.cls_token_id]
            for ids in read["input_ids"]
        ]

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N S"]:
        """By open_clip's tokenizer; padded to the longest text where what comes after it is not seen."""
        ids: Tensor = self.tokenizer(list(texts))
        return ids[:, : max(map(len, self.token_ids(texts)))] if self._cut else ids

    def projection_names(self, block: nn.Module) -> Mapping[str, str]:
        """Names within a block of its ``q``, ``k``, ``v`` and ``out`` layers; empty where they are no layers."""
        return projection_names(block)

    def embed_image(self, pixels: Float[Tensor, "B 3 H W"]) -> Tokens:
        """What the first vision block is given; without blocks, what the whole tower makes of images."""
        visual = self.model.visual
        if not self.vision_blocks:
            features: Tensor = self.model.encode_image(pixels, normalize=False)
            return Tokens(features, {})
        if isinstance(visual, VisionTransformer):
            return Tokens(visual._embeds(pixels), {})
        trunk = visual.trunk
        tokens = trunk._pos_embed(trunk.patch_embed(pixels))
        if isinstance(trunk, Eva):
            tokens, rope = tokens
            mixed = getattr(trunk, "rope_mixed", False) and rope is not None  # each block has positions of its own
            return Tokens(trunk.norm_pre(tokens), {"ropes" if mixed else "rope": rope})
        return Tokens(trunk.norm_pre(trunk.patch_drop(tokens)), {})

    def read_image(self, tokens: Float[Tensor, "B M D"]) -> Float[Tensor, "B E"]:
        """Image features, not normalised."""
        visual = self.model.visual
        if not self.vision_blocks:
            return tokens
        if isinstance(visual, VisionTransformer):
            pooled, _ = visual._pool(tokens)
            return pooled if visual.proj is None else pooled @ visual.proj  # type: ignore[no-any-return]
        return visual.head(visual.trunk.forward_head(visual.trunk.norm(tokens)))  # type: ignore[no-any-return]

    def embed_text(self, words: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Tokens:
        """What the first text block is given."""
        text = self._text_tower
        if isinstance(text, HFTextEncoder):
            assert self._hollow is not None
            return self._hollow.before(words, input_ids != text.config.pad_token_id)
        mask = text.attn_mask
        if getattr(text, "cls_emb", None) is not None:
            words = torch.cat([words, text.cls_emb.to(words.dtype).expand(len(words), 1, -1)], dim=1)
        length = words.shape[1]
        if not isinstance(text, open_clip.CLIP) and (text.use_pad_mask or text.cls_emb is not None):
            own = text._build_additive_mask(input_ids, length, words.dtype)
            mask = own if mask is None else mask[:length, :length][None] + own
        elif mask is not None:
            mask = mask[:length, :length]
        return Tokens(words + text.positional_embedding[:length], {"attn_mask": mask})

    def run_block(
        self, block: Callable[..., Tensor], number: int, tokens: Float[Tensor, "B M D"], options: Mapping[str, Any]
    ) -> Float[Tensor, "B M D"]:
        """What a block makes of tokens; see `Backbone.run_block`."""
        if "first" in options:
            return run_foreign(block, number, tokens, options)
        if not isinstance(block, nn.Module) or is_plain(block):
            return call_plain(block, tokens, **options)
        if "ropes" in options:
            return block(tokens, rope=options["ropes"][number])  # type: ignore[no-any-return]
        return block(tokens, **options)  # type: ignore[no-any-return]

    def read_text(self, tokens: Float[Tensor, "N S W"], input_ids: Int[Tensor, "N S"]) -> Float[Tensor, "N E"]:
        """Class text features, not normalised."""
        text = self._text_tower
        if isinstance(text, HFTextEncoder):
            assert self._hollow is not None
            mask = input_ids != text.config.pad_token_id
            made = self._hollow.behind(tokens, self.token_embedding(input_ids), mask)
            return text.proj(text.pooler(made, mask.long()))  # type: ignore[no-any-return]
        pooled: Tensor
        if getattr(text, "cls_emb", None) is not None:
            pooled = text.ln_final(tokens[:, -1])  # the appended class token
        else:
            kind = text.text_pool_type if isinstance(text, open_clip.CLIP) else text.pool_type
            end = getattr(text, "text_eos_id" if isinstance(text, open_clip.CLIP) else "eos_id", None)
            pooled = text_global_pool(text.ln_final(tokens), input_ids, kind, end)
        last = text.text_projection
        if last is None:
            return pooled
        result: Tensor = last(pooled) if isinstance(last, nn.Linear) else pooled @ last
        return result

    def settings(self) -> list[dict[str, Any]]:
        """What changes what the model computes without changing a weight."""
        return [{"class": type(self.model).__name__, **self._own_settings}]


def _vision_tower(visual: Any) -> _VisionTower:
    if isinstance(visual, VisionTransformer):
        return _own_tower(visual)
    trunk = getattr(visual, "trunk", None)
    if isinstance(visual, TimmModel) and isinstance(trunk, TimmVisionTransformer | Eva):
        return _timm_tower(visual, trunk)
    side = _side(visual) // 32
    width = int(getattr(visual, "output_dim", 0) or getattr(trunk, "num_features", 0))
    # As many numbers as in a ViT of this patch size: what convolutions hold on their way is of that order.
    return _VisionTower(
        (), 0, None, (2 * side, 2 * side), (width, 4 * width),
        unalignable=f"has a {'ResNet' if trunk is None else type(trunk).__name__} for images, without patch tokens "
        "that are known here",
    )  # fmt: skip


def _own_tower(visual: Any) -> _VisionTower:
    blocks = prepare(visual.transformer.resblocks)
    width = int(visual.conv1.out_channels)
    projected = _matrix(visual.proj)
    norm: Any = visual.ln_post
    path: Callable[[Tensor], Tensor] = projected
    text_to_token = _CLS if visual.pool_type == "tok" else _MEAN
    unalignable = None
    if visual.attn_pool is not None:
        attention, norm, text_to_token = visual.attn_pool.attn, visual.attn_pool.ln_k, _ATTENTION
        if visual.attn_pool_contrastive is not None:
            unalignable = "pools its tokens twice, so that there is no map from class texts to them"

        def path(tokens: Tensor) -> Tensor:
            fused = attention.in_proj_weight
            value = attention.v_proj_weight if fused is None else fused[-attention.embed_dim :]
            bias = None if attention.in_proj_bias is None else attention.in_proj_bias[-attention.embed_dim :]
            mixed = attention.out_proj(nn.functional.linear(tokens, value, bias))
            return projected(mixed * visual.ln_post.weight)  # the scale of the LayerNorm behind it

    pooled = 1 if visual.attn_pool is None and visual.pool_type == "tok" and is_plain(blocks[-1]) else None
    return _VisionTower(
        blocks, 1, pooled, tuple(visual.grid_size), (width, _inner_width(blocks[-1], width)), norm, path,
        text_to_token, unalignable,
    )  # fmt: skip


def _timm_tower(visual: Any, trunk: Any) -> _VisionTower:
    blocks = prepare(trunk.blocks)
    width = int(trunk.embed_dim)
    pool = trunk.attn_pool
    norm = trunk.norm if isinstance(trunk.norm, nn.LayerNorm) else trunk.fc_norm
    unalignable = None
    if hasattr(visual.head, "mlp"):
        unalignable = "has an MLP as its projection, so that there is no linear map from class texts to tokens"
    elif not isinstance(norm, nn.LayerNorm) or norm.bias is None:
        unalignable = "has no LayerNorm behind its blocks, so that there is no map from class texts to tokens"
    elif pool is not None and not isinstance(pool, AttentionPoolLatent):
        unalignable = f"pools by a {type(pool).__name__}, for which there is no map from class texts to tokens"

    def path(tokens: Tensor) -> Tensor:
        if pool is not None:
            values = nn.functional.linear(
                tokens, pool.kv.weight[-width:], None if pool.kv.bias is None else pool.kv.bias[-width:]
            )
            tokens = pool.proj(values)
        return visual.head(trunk.head(tokens))  # type: ignore[no-any-return]

    kind = trunk.global_pool
    text_to_token = _ATTENTION if pool is not None else _CLS if kind == "token" else _MEAN
    if pool is None and kind not in ("token", "avg"):
        unalignable = unalignable or f"pools by '{kind}', for which there is no map from class texts to tokens"
    pooled = 1 if pool is None and kind == "token" and is_plain(blocks[-1]) else None
    grid = tuple(trunk.patch_embed.grid_size)
    return _VisionTower(
        blocks, int(trunk.num_prefix_tokens), pooled, grid, (width, _inner_width(blocks[-1], width)), norm, path,
        text_to_token, unalignable,
    )  # fmt: skip


def _side(visual: Any) -> int:
    size = visual.image_size
    return int(size if isinstance(size, int) else size[0])


def _matrix(projection: Tensor | None) -> Callable[[Tensor], Tensor]:
    return lambda tokens: tokens if projection is None else tokens @ projection.to(tokens.device)


def _inner_width(block: Any, width: int) -> int:
    sizes = [layer.out_features for layer in block.mlp.modules() if isinstance(layer, nn.Linear)]
    return max(sizes, default=4 * width)
