"""Several episodes trained in one pass: one frozen backbone, and for each episode tuners of its own.

An episode of one image per class is too small to fill a processor. The episodes' images and texts go through the
frozen weights together; what is trained is each episode's alone, starts as it would start by itself and draws its
dropout from its own generator, so that results differ from those of one at a time by rounding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.backbones import Backbone, Prompts
from atha.devices import seeded
from atha.recipe import Recipe
from atha.tuners.block import BlockLora, can_replace
from atha.tuners.context import LearnedContext
from atha.tuners.strengths import HookedAlignment
from atha.tuners.tuned import ClassTexts, TunedModel, encode_aligned, replace_blocks


class StackedModel:
    """The tuners of several episodes in one backbone.

    Args:
        backbone: its modules stay; until `detach`, its blocks are those made for training.
        recipe: which tuners; see `can_stack`.
        prompts: tokenised class texts, of each episode; as many classes each.
        seeds: of each episode: LoRA's start and dropout.
    """

    def __init__(self, backbone: Backbone, recipe: Recipe, prompts: Sequence[Prompts], seeds: Sequence[int]) -> None:
        self.backbone, self.recipe, self.groups = backbone, recipe, len(prompts)
        self.trains_texts = False
        self._lora: list[list[nn.Parameter]] = []
        self._generators: list[torch.Generator] = []
        layouts = [self._begin(own, seed) for own, seed in zip(prompts, seeds, strict=True)]
        self._layout: dict[Any, tuple[BlockLora, list[int], list[int]]] = layouts[0]
        self._lengths = [own.input_ids.shape[1] for own in prompts]
        self.prompts = Prompts(_joined([own.input_ids for own in prompts]), prompts[0].context)
        self.context: LearnedContext | None = None
        self.alignment: HookedAlignment | None = None
        backbone.tuned = self
        if recipe.prompt.learn_context:
            self.context = LearnedContext(backbone, self.prompts, self.groups)
        if recipe.alignment:
            self.alignment = HookedAlignment(backbone, recipe.alignment, self.groups)

    def _begin(self, prompts: Prompts, seed: int) -> dict[Any, tuple[BlockLora, list[int], list[int]]]:
        # LoRA's start is that of the episode by itself, and its dropout goes on where that leaves the generator.
        with seeded(seed, self.backbone.device):
            tuned = TunedModel(self.backbone, self.recipe, prompts)
            generator = torch.Generator()
            generator.set_state(torch.get_rng_state())
        self.trains_texts = tuned.trains_texts
        parameters = tuned.parameters().get("lora", [])
        places = {id(parameter): place for place, parameter in enumerate(parameters)}
        layout = {}
        for block in (*self.backbone.text_blocks, *self.backbone.vision_blocks):
            lora = BlockLora.of(block)
            layout[block] = (lora, [places[id(one)] for one in lora.a], [places[id(one)] for one in lora.b])
        tuned.detach()
        self._lora.append([nn.Parameter(parameter.detach().clone()) for parameter in parameters])
        self._generators.append(generator)
        return layout

    def parameters(self, group: int | None = None) -> dict[str, list[nn.Parameter]]:
        """What is trained, by tuner, of one episode or of all, in the order of `TunedModel.parameters`."""
        groups = range(self.groups) if group is None else [group]
        found: dict[str, list[nn.Parameter]] = {"lora": [], "context": [], "strengths": []}
        for index in groups:
            found["lora"] += self._lora[index]
            if self.context is not None:
                found["context"].append(self.context.of_groups[index])
            if self.alignment is not None:
                trained = self.alignment.of_groups[index].parameters()
                found["strengths"] += [value for value in trained if value.requires_grad]
        return {name: values for name, values in found.items() if values}

    def train(self, on: bool = True) -> None:
        """Switch the blocks made for training, with dropout, on or off. There is no other use of this model."""
        replace_blocks(self.backbone, self._of_block if on else None)

    def _of_block(self, block: Any) -> BlockLora:
        lora, a, b = self._layout[block]
        return BlockLora(
            lora.projections,
            [group[place] for place in a for group in self._lora],
            [group[place] for place in b for group in self._lora],
            lora.scaling,
            lora.dropout,
            self._generators,
            self._lengths if block in set(self.backbone.text_blocks) else None,
        )

    def texts(self) -> ClassTexts:
        """Class text features (G, N, E) and anchors (G, N, D) with the tuners as they are now."""
        texts = self.backbone.encode_text(self.prompts)
        anchors = self.backbone.anchors(texts, self.alignment.kind) if self.alignment else None
        shape = (self.groups, -1)
        return ClassTexts(
            texts.final.float().unflatten(0, shape), None if anchors is None else anchors.unflatten(0, shape)
        )

    def image_features(self, pixels: Float[Tensor, "GB 3 H W"], texts: ClassTexts) -> Float[Tensor, "GB E"]:
        """Image features, each aligned towards its own episode's anchors."""
        return encode_aligned(self.backbone, self.alignment, pixels, texts)

    def detach(self) -> None:
        """Give the backbone back as it was; what was trained stays in `parameters`."""
        self.train(False)
        for tuner in (self.context, self.alignment):
            if tuner is not None:
                tuner.detach()
        self.backbone.tuned = None


def can_stack(backbone: Backbone, recipe: Recipe) -> bool:
    """Whether episodes of a recipe can be trained together: LoRA in q, k, v alone, and blocks that can be replaced."""
    inside = recipe.lora is None or "out" not in recipe.lora.projections
    return inside and all(can_replace(block) for block in (*backbone.text_blocks, *backbone.vision_blocks))


def _joined(ids: Sequence[Tensor]) -> Tensor:
    # A text that is longer by its last token, an end token or padding, is the same text to a causal tower.
    longest = max(one.shape[1] for one in ids)
    return torch.cat([torch.cat([one, one[:, -1:].expand(-1, longest - one.shape[1])], dim=1) for one in ids])
