"""Running a tower: what it is given, becomes tokens; they are aligned and go through block after block; features are
read from them.

An `Encoder` is one view of a backbone: frozen, adapted, or in training. Views are built once and called; any number of
them exist side by side and share the backbone's weights, which nobody changes.

Shapes: B images, M tokens, D vision width, N class texts, E joint width; G episodes that go through together, one
after the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.alignment import Watcher
from atha.backbones import Backbone, Prompts
from atha.devices import autocast
from atha.tuners import Tuners

#: A block in the form that it runs in: tokens and the tower's options to tokens.
Block = Callable[..., Tensor]


@dataclass(frozen=True)
class ClassTexts:
    """What the vision side needs of the classes; for several episodes, with a first dimension G."""

    features: Float[Tensor, "*G N E"]
    anchors: Float[Tensor, "*G N D"] | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """Features, and anchors where there are any."""
        return [self.features] if self.anchors is None else [self.features, self.anchors]

    def detached(self) -> "ClassTexts":
        """The same numbers as the start of another graph, whose gradients end in them."""
        return ClassTexts(*(value.detach().requires_grad_() for value in self.tensors))


@dataclass(frozen=True, eq=False)
class Encoder:
    """One view of a backbone.

    Attributes:
        backbone: on its device.
        text_blocks: of its text tower, in the form that they run in here.
        vision_blocks: of its vision tower, the same.
        precision: of the products: ``float32``, ``bfloat16`` or ``float16``.
        tuners: of each episode that goes through; none for the frozen backbone.
    """

    backbone: Backbone
    text_blocks: Sequence[Block]
    vision_blocks: Sequence[Block]
    precision: str
    tuners: Sequence[Tuners] = ()

    def images(
        self,
        pixels: Float[Tensor, "B 3 H W"],
        anchors: Float[Tensor, "*G N D"] | None = None,
        watch: Watcher | None = None,
    ) -> Float[Tensor, "B E"]:
        """Image features, not normalised.

        Args:
            pixels: normalised images; with several episodes, as many of each.
            anchors: class texts in token space, towards which tokens are aligned where there are strengths.
            watch: told of the input of every vision block, and of what is selected of it where that is aligned.
        """
        with autocast(self.precision, self.backbone.device):
            tokens, options = self.backbone.embed_image(pixels)
            for number, block in enumerate(self.vision_blocks):
                tokens = self._align(tokens, anchors, number, watch)
                tokens = self.backbone.run_block(block, number, tokens, options)
            return self.backbone.read_image(tokens)

    def texts(self, prompts: Prompts, kind: Literal["adjoint", "inverse"] | None = None) -> ClassTexts:
        """Class text features, float32, not normalised, and anchors.

        Args:
            prompts: tokenised class texts; with several episodes, as many of each.
            kind: of the anchors; by default what the strengths want, and no anchors where there are none.
        """
        if kind is None and self.tuners and self.tuners[0].strengths is not None:
            kind = self.tuners[0].strengths.kind
        ids = prompts.input_ids
        with autocast(self.precision, self.backbone.device):
            words = self._replace_context(self.backbone.token_embedding(ids), prompts.context)
            tokens, options = self.backbone.embed_text(words, ids)
            before = tokens
            for number, block in enumerate(self.text_blocks):
                before, tokens = tokens, self.backbone.run_block(block, number, tokens, options)
            features = self.backbone.read_text(tokens, ids).float()
            anchors = None
            if kind is not None:
                last = features if kind == "adjoint" else self.backbone.read_text(before, ids)
                anchors = self.backbone.anchors(last, kind)
        return ClassTexts(self._by_episode(features), None if anchors is None else self._by_episode(anchors))

    def parameters(self) -> dict[str, list[nn.Parameter]]:
        """What is trained, by tuner, of all episodes."""
        found: dict[str, list[nn.Parameter]] = {}
        for tuners in self.tuners:
            for name, values in tuners.parameters().items():
                found.setdefault(name, []).extend(values)
        return found

    def _align(self, tokens: Tensor, anchors: Tensor | None, number: int, watch: Watcher | None) -> Tensor:
        aligning = [tuners.strengths for tuners in self.tuners if tuners.strengths is not None]
        if not aligning or anchors is None:
            if watch is not None:
                watch(number, tokens, None)
            return tokens
        if anchors.ndim == 2:
            return aligning[0](tokens, anchors, number, watch)  # type: ignore[no-any-return]
        parts = zip(aligning, tokens.chunk(len(aligning)), anchors, strict=True)
        return torch.cat([own(part, towards, number, watch) for own, part, towards in parts])

    def _replace_context(self, words: Tensor, positions: slice) -> Tensor:
        learned = [tuners.context for tuners in self.tuners if tuners.context is not None]
        if not learned:
            return words
        return torch.cat([own(part, positions) for own, part in zip(learned, words.chunk(len(learned)), strict=True)])

    def _by_episode(self, values: Tensor) -> Tensor:
        return values.unflatten(0, (len(self.tuners), -1)) if len(self.tuners) > 1 else values


def cosine(images: Float[Tensor, "*G B E"], texts: Float[Tensor, "*G N E"]) -> Float[Tensor, "*G B N"]:
    """Cosine of every image and text feature (of an episode), in float32 whatever the precision of the rest."""
    with torch.autocast(images.device.type, enabled=False):
        unit = nn.functional.normalize
        return unit(images.float(), dim=-1) @ unit(texts.float(), dim=-1).mT
