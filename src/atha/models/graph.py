"""What a prediction is made of, as plain modules of torch: no engine, no function with a backward pass by hand.

A graph for other programs is traced of them, in float32 and on the CPU. Weights are the backbone's own, and belong to
no module here: what is traced holds those that it reads.

Shapes: B normalised plain views of H x W, A aspects of each, N classes, E joint width, D vision width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from atha.backbones import Backbone
from atha.data.aspects import ASPECTS, NEARER, nearer_box
from atha.data.processor import ImageProcessor
from atha.models.encoder import Encoder
from atha.models.forms import graph_encoder


class Tower(nn.Module):
    """Image features, not normalised.

    Args:
        encoder: see `atha.models.forms.graph_encoder`.
        anchors: that tokens are aligned with.
    """

    def __init__(self, encoder: Encoder, anchors: Float[Tensor, "N D"] | None = None) -> None:
        super().__init__()
        self.encoder, self.anchors = encoder, anchors

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B E"]:
        return self.encoder.images(pixels, self.anchors)


class Unit(nn.Module):
    """Rows at length 1."""

    def forward(self, features: Float[Tensor, "B E"]) -> Float[Tensor, "B E"]:
        return nn.functional.normalize(features, dim=-1)


class Affine(nn.Module):
    """Products with one vector a class, and one number a class.

    Args:
        weights: the vectors.
        bias: the numbers, 0 if there are none.
    """

    def __init__(self, weights: Float[Tensor, "N E"], bias: Float[Tensor, "N"] | None = None) -> None:
        super().__init__()
        self.weights, self.bias = weights.float(), None if bias is None else bias.float()

    def forward(self, features: Float[Tensor, "B E"]) -> Float[Tensor, "B N"]:
        return nn.functional.linear(features, self.weights, self.bias)


class FrozenFeatures(nn.Module):
    """Features of the frozen backbone at unit length, of the mean over aspects; see `atha.methods.blend.features_of`.

    Args:
        backbone: on the CPU.
        aspects: one at least.
    """

    def __init__(self, backbone: Backbone, aspects: Sequence[str] = ("plain",)) -> None:
        super().__init__()
        self.tower, self.unit = Tower(graph_encoder(backbone)), Unit()
        self.aspects = list(aspects)
        self.nearer = Nearer(backbone.image_processor, backbone.image_size) if NEARER in aspects else None

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B E"]:
        seen = [self._seen(pixels, name) for name in self.aspects]
        features: Tensor = self.unit(self.tower(torch.cat(seen) if len(seen) > 1 else seen[0]))
        if len(seen) == 1:
            return features
        return self.unit(features.unflatten(0, (len(seen), -1)).mean(0))  # type: ignore[no-any-return]

    def _seen(self, pixels: Tensor, aspect: str) -> Tensor:
        if aspect == NEARER:
            assert self.nearer is not None
            return self.nearer(pixels)  # type: ignore[no-any-return]
        return ASPECTS[aspect](pixels)


class Nearer(nn.Module):
    """The nearer aspect: 8-bit values again, enlarged as Pillow does it, rounded behind each of its two passes.

    Args:
        processor: that normalised the views.
        size: height and width.
    """

    def __init__(self, processor: ImageProcessor, size: int) -> None:
        super().__init__()
        ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
        low, high = processor.normalise(ends)
        self.low: Tensor = low
        self.step: Tensor = (high - low) / 255
        left, _, right, _ = nearer_box(size, size)
        # What every pixel of a row weighs in each of the new row: the filter's answer to rows of one bright pixel.
        rows = Image.fromarray(np.eye(size, dtype=np.float32))
        made = rows.resize((size, size), Image.Resampling.BICUBIC, (left, 0, right, size))
        self.across = torch.from_numpy(np.array(made))  # (old, new)

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        values: Tensor = _to_8_bits((pixels - self.low) / self.step)
        values = _to_8_bits(values @ self.across)
        values = _to_8_bits(self.across.T @ values)
        return values * self.step + self.low


def _to_8_bits(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255)


class Probabilities(nn.Module):
    """Class probabilities; rows sum to 1.

    Args:
        scores: of images and classes.
    """

    def __init__(self, scores: nn.Module) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B N"]:
        return self.scores(pixels).softmax(dim=-1)  # type: ignore[no-any-return]
