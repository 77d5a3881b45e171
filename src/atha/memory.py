"""How much memory a model takes, from its sizes alone: to know before a download or a long run.

Shapes: M tokens of an image, D their width, F inner width of a block's MLP, K blocks.
"""

from dataclasses import dataclass

from atha.backbones import Backbone
from atha.models.engine.parts import can_replace
from atha.models.inference import image_numbers, images_at_once
from atha.models.training import part_size

# What Python takes with torch and transformers imported, on Linux.
_LIBRARIES = 800 << 20
# A block under autograd keeps about so many times what one with a backward pass by hand does.
_AUTOGRAD = 2.5


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a process on a CPU; `benchmarks/cost.py` measures what a fit takes.

    Attributes:
        predict: with as many images at once as `atha.models.inference.images_at_once` says.
        fit: five images a step.
        fit_large: many images a step, which are worked on in parts.
    """

    predict: int
    fit: int
    fit_large: int


def estimate_memory(backbone: Backbone, precision: str) -> MemoryEstimate:
    """Estimate what a backbone needs, right to about a third.

    Args:
        backbone: on the CPU.
        precision: of forward passes: ``float32`` or ``bfloat16``.
    """
    size = 4 if precision == "float32" else 2
    weights: int = 4 * sum(value.numel() for value in backbone.model.parameters())
    vision = sum(value.numel() for value in backbone.vision_tower.parameters())
    frozen = size * (weights // 4)  # once in the precision of the products; in training, vision in both directions
    width, inner = backbone.vision_widths
    tokens, blocks = backbone.tokens, max(len(backbone.vision_blocks), 1)
    # Kept for the backward pass of a token in a block: residual stream and its middle in float32; input, dropout,
    # query, key, value of attention, its shares (one head per 64 of width) and both sides of the MLP's activation.
    kept = blocks * tokens * (8 * width + size * (8 * width + tokens * width // 64 + 2 * inner))
    plain = all(can_replace(block) for block in backbone.vision_blocks)
    kept = int(kept if plain and backbone.vision_blocks else _AUTOGRAD * kept)
    part = part_size(backbone)

    def fit(images: int) -> int:
        return _LIBRARIES + weights + frozen + size * vision + min(images, part) * kept

    predict = _LIBRARIES + weights + frozen + images_at_once(backbone) * 4 * image_numbers(backbone)
    return MemoryEstimate(predict, fit(5), fit(part) + 100 * 3 * 4 * backbone.image_size**2)
