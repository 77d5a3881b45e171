"""Aspects of an image: its plain view as it is, mirrored, turned, or nearer. A prediction may look at several.

Shapes: n images of H x W.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from atha.recipe import AspectGroup

#: The one aspect that is no other order of the same pixels.
NEARER = "nearer"
# Share of each side that it shows.
_NEARER = 0.85


def nearer_box(width: int, height: int) -> tuple[float, float, float, float]:
    """What the nearer aspect shows of an image: left, top, right and bottom."""
    left, top = width * (1 - _NEARER) / 2, height * (1 - _NEARER) / 2
    return left, top, width - left, height - top


def _nearer(images: UInt8[Tensor, "n 3 H W"]) -> UInt8[Tensor, "n 3 H W"]:
    def one(image: Tensor) -> Tensor:
        height, width = image.shape[1:]
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        near = picture.resize((width, height), Image.Resampling.BICUBIC, nearer_box(width, height))
        return torch.frombuffer(bytearray(near.tobytes()), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)

    return torch.stack([one(image) for image in images]) if len(images) else images


#: By name: of plain views, which are square, to as many.
ASPECTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda images: images,
    "flip": lambda images: images.flip(-1),
    "turn-90": lambda images: images.rot90(1, (-2, -1)),
    "turn-180": lambda images: images.rot90(2, (-2, -1)),
    "turn-270": lambda images: images.rot90(3, (-2, -1)),
    NEARER: _nearer,
}
_GROUPS: Mapping[str, Sequence[str]] = {
    "plain": ["plain"],
    "flip": ["flip"],
    "quarter-turns": ["turn-90", "turn-180", "turn-270"],
    "scales": [NEARER],
}
TURNS = tuple(_GROUPS["quarter-turns"])


def aspects_of(groups: Sequence[AspectGroup]) -> tuple[str, ...]:
    """Names of the aspects of groups, six at most, the plain one first."""
    return ("plain", *(name for group in _GROUPS if group in groups and group != "plain" for name in _GROUPS[group]))
