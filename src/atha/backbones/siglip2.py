"""SigLIP 2 with a variable grid ("NaFlex"), as transformers' `Siglip2Model` (arXiv 2502.14786).

Its vision tower takes patches, of which there may be as many and in such a grid as an image's shape asks for. Here all
images are squares of one size, the one whose grid the position embedding was made for: a batch is one tensor, and
tokens stand at the same places in all images. Grids that keep the aspect ratio are not used.

Towers, pooling head and text-to-token map are SigLIP's. SigLIP 2 of a fixed resolution is of that family altogether.
"""

from math import isqrt
from typing import Any

from jaxtyping import Float
from torch import Tensor

from atha.backbones.base import NO_MASK, Tokens
from atha.backbones.siglip import SiglipBackbone


class Siglip2Backbone(SiglipBackbone):
    """SigLIP but for the way of an image into the vision tower."""

    family = "siglip2"
    about = "SigLIP 2 of variable resolution (NaFlex), used at one square size"
    examples = ("google/siglip2-base-patch16-naflex", "google/siglip2-so400m-patch16-naflex")
    model_class = "Siglip2Model"

    def __init__(self, model: Any, tokenizer: Any = None, image_processor: Any = None, **kwargs: Any) -> None:
        super().__init__(model, tokenizer, image_processor, **kwargs)
        if self.image_processor is not None:  # its own cuts images into patches, and views are made of images
            self.image_processor = self.image_processor.squared(self.image_size)

    @property
    def image_size(self) -> int:
        """Height and width of the square whose patches fill the grid of the position embedding."""
        config = self.model.config.vision_config
        return isqrt(config.num_patches) * int(config.patch_size)

    def embed_image(self, pixels: Float[Tensor, "B 3 H W"]) -> Tokens:
        """What the first vision block is given."""
        patches = patchify(pixels, self.model.config.vision_config.patch_size)
        embeddings = self.model.vision_model.embeddings
        # The grid is that of the position embedding, which is left as it is.
        return Tokens(embeddings.patch_embedding(patches) + embeddings.position_embedding.weight, NO_MASK)


def patchify(pixels: Float[Tensor, "B C H W"], side: int) -> Float[Tensor, "B L K"]:
    """Cut images into patches, row by row; K = side * side * C values each, by row, column and channel in this order.

    Args:
        pixels: images, whose height and width are multiples of ``side``.
        side: height and width of a patch.
    """
    cut = pixels.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # B, C, rows, side, columns, side
    patches: Tensor = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return patches
