"""The support set's images: decoded and hashed, those that cannot be used named."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from PIL import Image

from atha.data import LabelledImages, Sample
from atha.data.images import ImageProblem, ImageReader, image_name
from atha.data.loading import load_ahead
from atha.data.problems import two_labels
from atha.errors import AthaWarning, DataError

Made = TypeVar("Made")
_AHEAD = 16


@dataclass
class SupportImages(Generic[Made]):
    """What can be learned from.

    Attributes:
        made: what was made of each image.
        names: what the images are called.
        labels: raw labels.
        hashes: see `atha.data.images.content_hash`.
        unread: label of each image that cannot be read, and why.
    """

    made: list[Made] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    unread: list[tuple[str, ImageProblem]] = field(default_factory=list)

    @property
    def left_out(self) -> list[str]:
        """Sentences on images that cannot be read."""
        return [str(problem) for _, problem in self.unread]


def decode_support(
    data: LabelledImages, reader: ImageReader, make: Callable[[Image.Image], Made]
) -> SupportImages[Made]:
    """Decode images, in order and in background threads.

    Args:
        data: the images.
        reader: reads them.
        make: of each image, what is kept of it: photos as they are may be larger than memory.

    Raises:
        DataError: one image is in two classes.

    Warns:
        AthaWarning: for each image that cannot be read.
    """

    def load(sample: Sample) -> tuple[Made, str] | ImageProblem:
        try:
            return reader.make_hashed(sample.image, make)
        except ImageProblem as problem:
            return problem

    found: SupportImages[Made] = SupportImages()
    first: dict[str, Sample] = {}
    for sample, loaded in zip(data.samples, load_ahead(load, data.samples, _AHEAD), strict=True):
        if isinstance(loaded, ImageProblem):
            found.unread.append((sample.label, loaded))
            warnings.warn(f"not used: {loaded}", AthaWarning, stacklevel=3)
            continue
        made, digest = loaded
        twin = first.setdefault(digest, sample)
        if twin.label != sample.label:
            here, there = image_name(sample.image), image_name(twin.image)
            raise DataError(two_labels(here, sample.label, there, twin.label))
        found.made.append(made)
        found.names.append(image_name(sample.image))
        found.labels.append(sample.label)
        found.hashes.append(digest)
    return found
