"""CLIP, MetaCLIP 2, SigLIP and SigLIP 2 as plain modules, with the names of modules and weights that transformers has.

A checkpoint of transformers thus loads by name, and so does LoRA. How a tower is run, its family says: see
`atha.backbones.base.Backbone`.

Shapes: B images or texts, M tokens, D width, E joint width, S text tokens.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.backbones.configuration import (
    ClipConfig,
    ClipTextConfig,
    ClipVisionConfig,
    Configuration,
    MetaClip2Config,
    Siglip2Config,
    Siglip2VisionConfig,
    SiglipConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
)
from atha.backbones.layers import Blocks, Mlp


def _embedding(rows: int, width: int) -> nn.Embedding:
    # Its own random start, on the meta device, takes torch's compiler with it: a second of imports.
    made: nn.Embedding = nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)
    return made


class TextEmbeddings(nn.Module):
    """Tokens and their positions."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = _embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = _embedding(config.max_position_embeddings, config.hidden_size)


class VisionEmbeddings(nn.Module):
    """Patches of an image and their positions, behind a class token if there is one."""

    def __init__(self, config: ClipVisionConfig | SiglipVisionConfig, class_token: bool) -> None:
        super().__init__()
        width, side = config.hidden_size, config.patch_size
        self.image_size = config.image_size
        if class_token:
            self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(config.num_channels, width, side, stride=side, bias=not class_token)
        self.position_embedding = _embedding((config.image_size // side) ** 2 + class_token, width)
        self.class_token = class_token

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B M D"]:
        if pixels.shape[2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"images are {tuple(pixels.shape[2:])}, the model takes {self.image_size}x{self.image_size}"
            )
        tokens: Tensor = self.patch_embedding(pixels.to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2)
        if self.class_token:
            tokens = torch.cat([self.class_embedding.expand(tokens.shape[0], 1, -1), tokens], dim=1)
        return tokens + self.position_embedding.weight


class PatchEmbeddings(nn.Module):
    """Patches that are cut already, and their positions, in the grid of the position embedding."""

    def __init__(self, config: Siglip2VisionConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(config.num_channels * config.patch_size**2, config.hidden_size)
        self.position_embedding = _embedding(config.num_patches, config.hidden_size)


class ClipTextModel(nn.Module):
    """Causal, read at the end of the text."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Blocks(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class ClipVisionModel(nn.Module):
    """Read at the class token."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config, class_token=True)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # so spelt in checkpoints
        self.encoder = Blocks(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class SiglipTextModel(nn.Module):
    """Two-way, read at the last position."""

    def __init__(self, config: SiglipTextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Blocks(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.projection_size or config.hidden_size)


class PoolingHead(nn.Module):
    """A probe attends to all tokens."""

    def __init__(self, config: SiglipVisionConfig | Siglip2VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.probe = nn.Parameter(torch.zeros(1, 1, width))
        self.attention = nn.MultiheadAttention(width, config.num_attention_heads, batch_first=True)
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = Mlp(width, config.intermediate_size, config.hidden_act)

    def forward(self, hidden: Float[Tensor, "B M D"]) -> Float[Tensor, "B D"]:
        # With its weights, though nobody wants them: torch then computes it step by step, see `attend`.
        mixed = self.attention(self.probe.repeat(hidden.shape[0], 1, 1), hidden, hidden, need_weights=True)[0]
        result: Tensor = (mixed + self.mlp(self.layernorm(mixed)))[:, 0]
        return result


class SiglipVisionModel(nn.Module):
    """Read by a pooling head."""

    def __init__(self, config: SiglipVisionConfig | Siglip2VisionConfig) -> None:
        super().__init__()
        self.embeddings: nn.Module
        if isinstance(config, Siglip2VisionConfig):
            self.embeddings = PatchEmbeddings(config)
        else:
            self.embeddings = VisionEmbeddings(config, class_token=False)
        self.encoder = Blocks(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.use_head = config.vision_use_head
        if self.use_head:
            self.head = PoolingHead(config)


class ClipModel(nn.Module):
    """CLIP, and MetaCLIP 2."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        text, vision = config.text_config, config.vision_config
        self.text_model = ClipTextModel(text)
        self.vision_model = ClipVisionModel(vision)
        self.visual_projection = nn.Linear(vision.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(text.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.zeros(()))


class SiglipModel(nn.Module):
    """SigLIP, and SigLIP 2 with a variable grid, whose images are patches."""

    def __init__(self, config: SiglipConfig | Siglip2Config) -> None:
        super().__init__()
        self.config = config
        self.text_model = SiglipTextModel(config.text_config)
        self.vision_model = SiglipVisionModel(config.vision_config)
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1))


#: Name of a model in transformers -> its configuration, and its modules here.
MODELS: Mapping[str, tuple[type[Configuration], Callable[[Any], nn.Module]]] = {
    "CLIPModel": (ClipConfig, ClipModel),
    "MetaClip2Model": (MetaClip2Config, ClipModel),
    "SiglipModel": (SiglipConfig, SiglipModel),
    "Siglip2Model": (Siglip2Config, SiglipModel),
}


def empty(config: Configuration) -> nn.Module:
    """A model without weights."""
    make = next(make for kind, make in MODELS.values() if type(config) is kind)
    with torch.device("meta"):
        return make(config).eval()


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Of all weights that a model has."""
    return {name: value.shape for name, value in model.state_dict().items()}


def fill(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Put in all weights: these themselves, no copies."""
    model.load_state_dict(weights, assign=True)
    return model
