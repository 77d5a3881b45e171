"""Features of images and texts, for search, clustering and whatever else is built on them.

Shapes: n images or texts, E joint width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from atha.data.images import SeveralImages
from atha.methods.base import unit
from atha.snapshot import Snapshot


class Embedder(ABC):
    """What has a frozen backbone, and gives its features."""

    @property
    @abstractmethod
    def _now(self) -> Snapshot:
        """What answers are made from."""

    def embed(self, images: SeveralImages) -> Float[np.ndarray, "n E"]:
        """Features of images in the space that the frozen backbone shares with texts, float32, at length 1.

        They are of the plain view, and the same before and after `fit`: what is adapted is no part of them.

        Args:
            images: as for `predict`.

        Raises:
            DataError: an image cannot be read.
        """
        return self._now.embed(images)

    def embed_texts(self, texts: Sequence[str], template: str = "{}") -> Float[np.ndarray, "n E"]:
        """Features of texts, float32, at length 1: their products with those of `embed` are cosines.

        Args:
            texts: whole ones, or what fills the template.
            template: such as ``a photo of a {}.``.

        Raises:
            BackboneError: a text is longer than the tower reads.
        """
        return unit(self._now.frozen.text_features(texts, template))
