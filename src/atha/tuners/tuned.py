"""`TunedModel`: a backbone with the tuners of a recipe."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.backbones import Backbone, Prompts
from atha.recipe import Recipe
from atha.tuners.block import BlockLora, FusedBlock, can_replace
from atha.tuners.context import LearnedContext
from atha.tuners.lora import attach_lora, lora_layers
from atha.tuners.strengths import HookedAlignment


@dataclass(frozen=True)
class ClassTexts:
    """What the vision side needs of the classes."""

    features: Float[Tensor, "N E"]
    anchors: Float[Tensor, "N D"] | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """Features, and anchors where there are any."""
        return [self.features] if self.anchors is None else [self.features, self.anchors]

    def detached(self) -> "ClassTexts":
        """The same numbers as the start of another graph, whose gradients end in them."""
        return ClassTexts(*(value.detach().requires_grad_() for value in self.tensors))


def cosine(images: Float[Tensor, "*G B E"], texts: Float[Tensor, "*G N E"]) -> Float[Tensor, "*G B N"]:
    """Cosine of every image and text feature (of a group), in float32 whatever the precision of the rest."""
    with torch.autocast(images.device.type, enabled=False):
        unit = nn.functional.normalize
        return unit(images.float(), dim=-1) @ unit(texts.float(), dim=-1).mT


def replace_blocks(backbone: Backbone, lora: Callable[[Any], BlockLora] | None) -> None:
    """Make the blocks those for training, with the LoRA that ``lora`` gives for each, or give them back (None)."""
    last = backbone.vision_blocks[-1] if backbone.vision_blocks else None
    for blocks, pack in ((backbone.text_blocks, False), (backbone.vision_blocks, True)):  # texts are few and short
        for block in blocks:
            block.__dict__.pop("forward", None)
            if lora is not None and can_replace(block):
                block.forward = FusedBlock(block, lora(block), backbone.pooled_tokens if block is last else None, pack)


def encode_aligned(
    backbone: Backbone, alignment: HookedAlignment | None, pixels: Float[Tensor, "B 3 H W"], texts: ClassTexts
) -> Float[Tensor, "B E"]:
    """Image features, aligned towards the class texts' anchors on their way where there are any, not normalised."""
    with nullcontext() if alignment is None or texts.anchors is None else alignment.towards(texts.anchors):
        return backbone.encode_image(pixels)


class TunedModel:
    """A backbone with the tuners that a recipe names, and the class texts they are for.

    Args:
        backbone: its modules stay; PEFT wraps the adapted projections, hooks do the rest.
        recipe: which tuners.
        prompts: tokenised class texts.

    Raises:
        RecipeError: LoRA does not find its layers.
    """

    def __init__(self, backbone: Backbone, recipe: Recipe, prompts: Prompts) -> None:
        self.backbone, self.recipe, self.prompts = backbone, recipe, prompts
        self.groups = 1
        self.peft_model: Any = None
        self.context: LearnedContext | None = None
        self.alignment: HookedAlignment | None = None
        backbone.tuned = self
        try:
            if recipe.lora:  # first, so that its random start depends on no other tuner
                self.peft_model = attach_lora(backbone, recipe.lora)
            if recipe.prompt.learn_context:
                self.context = LearnedContext(backbone, prompts)
            if recipe.alignment:
                self.alignment = HookedAlignment(backbone, recipe.alignment)
            self.train(False)  # new modules start in training mode
        except BaseException:
            self.detach()
            raise

    @property
    def lora_layer_count(self) -> int:
        """How many layers LoRA adapts."""
        return len(list(lora_layers(self.peft_model))) if self.peft_model is not None else 0

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by tuner: ``lora``, ``context``, ``strengths``."""
        groups: dict[str, list[nn.Parameter]] = {}
        if self.peft_model is not None:
            groups["lora"] = [parameter for parameter in self.peft_model.parameters() if parameter.requires_grad]
        if self.context is not None:
            groups["context"] = [self.context.vectors]
        if self.alignment is not None:
            groups["strengths"] = [value for value in self.alignment.alignment.parameters() if value.requires_grad]
        return {name: group for name, group in groups.items() if group}

    def train(self, on: bool = True) -> None:
        """Switch LoRA's dropout and the blocks made for training on or off.

        The backbone itself always stays in evaluation mode.
        """
        if self.peft_model is not None:
            for layer in lora_layers(self.peft_model):
                layer.lora_dropout.train(on)
        replace_blocks(self.backbone, BlockLora.of if on and self.backbone.device.type == "cpu" else None)

    @property
    def trains_texts(self) -> bool:
        """Whether what is trained changes the class texts' features."""
        in_lora = self.recipe.lora is not None and "text" in self.recipe.lora.towers
        return in_lora or self.context is not None

    def texts(self) -> ClassTexts:
        """Class text features and anchors with the tuners as they are now."""
        texts = self.backbone.encode_text(self.prompts)
        anchors = self.backbone.anchors(texts, self.alignment.kind) if self.alignment else None
        return ClassTexts(texts.final.float(), anchors)

    def image_features(self, pixels: Float[Tensor, "B 3 H W"], texts: ClassTexts) -> Float[Tensor, "B E"]:
        """Image features, aligned towards the class texts' anchors on their way, not normalised."""
        return encode_aligned(self.backbone, self.alignment, pixels, texts)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The frozen backbone, as if there were no tuners. Alignment is off by itself: it needs anchors."""
        if self.context is not None:
            self.context.active = False
        # The blocks made for training know nothing of an adapter that is switched off.
        blocks = (*self.backbone.text_blocks, *self.backbone.vision_blocks)
        fused = [(block, block.__dict__.pop("forward")) for block in blocks if "forward" in block.__dict__]
        try:
            with self.peft_model.disable_adapter() if self.peft_model is not None else nullcontext():
                yield
        finally:
            for block, forward in fused:
                block.forward = forward
            if self.context is not None:
                self.context.active = True

    def detach(self) -> None:
        """Give the backbone back as it was."""
        for tuner in (self.context, self.alignment):
            if tuner is not None:
                tuner.detach()
        if self.peft_model is not None:
            self.peft_model.unload()
        self.backbone.tuned = None
