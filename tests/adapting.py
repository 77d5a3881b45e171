"""An adaptation with its views, for tests that look inside."""

from dataclasses import replace
from typing import NamedTuple

import torch

from atha.models.encoder import Encoder
from atha.models.forms import prediction_encoder, training_encoder
from atha.tuners import Tuners
from atha.tuners.lora import with_lora


def plain_encoder(backbone, tuners=None, precision="float32", dropout=0.0) -> Encoder:
    """A view whose blocks are the library's own, with LoRA in the place of their layers."""
    lora = tuners.lora if tuners is not None else None
    pairs, scaling = (lora.pairs(backbone), lora.scaling) if lora is not None else ({}, 1.0)
    towers = [
        [with_lora(block, pairs, scaling, dropout) for block in blocks]
        for blocks in (backbone.text_blocks, backbone.vision_blocks)
    ]
    return Encoder(backbone, *towers, precision, () if tuners is None else (tuners,))


class Adapting:
    """A backbone, the tuners of a recipe and the class texts that they are for."""

    def __init__(self, backbone, recipe, prompts) -> None:
        self.backbone, self.recipe, self.prompts = backbone, recipe, prompts
        self.tuners = Tuners.start(backbone, recipe, prompts)

    def training(self, precision="float32") -> Encoder:
        return training_encoder(self.backbone, [self.tuners], precision)

    def predicting(self, precision="float32", share=None) -> Encoder:
        return prediction_encoder(self.backbone, precision, self.tuners, share)

    def plain(self, precision="float32", dropout=0.0) -> Encoder:
        return plain_encoder(self.backbone, self.tuners, precision, dropout)

    def parameters(self):
        return self.tuners.parameters()

    def shake(self, amount=0.1, seed=0) -> "Adapting":
        """Move all that is trained from where it starts."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for values in self.parameters().values():
                for value in values:
                    value.add_(torch.randn(value.shape, generator=generator), alpha=amount)
        return self


def features(encoder, prompts, pixels, texts=None):
    """Image features, aligned towards the class texts."""
    texts = encoder.texts(prompts) if texts is None else texts
    return encoder.images(pixels, texts.anchors)


class TextFeatures(NamedTuple):
    final: torch.Tensor
    penultimate: torch.Tensor


def encode_image(backbone, pixels):
    """Features of the frozen backbone, through the library's own blocks."""
    return plain_encoder(backbone).images(pixels)


def encode_text(backbone, prompts) -> TextFeatures:
    """The same, of the last text block and of the last but one."""
    encoder = plain_encoder(backbone)
    shorter = replace(encoder, text_blocks=encoder.text_blocks[:-1])
    return TextFeatures(*(one.texts(prompts).features for one in (encoder, shorter)))
