"""Images as methods are given them: by their files, or as views that are made already.

Shapes: n images, E joint width.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from atha.data.aspects import ASPECTS
from atha.data.views import Views
from atha.errors import DataError
from atha.models.frozen import Frozen, FrozenModel, ImageFile


class Images(ABC):
    """Some images, in whatever form a method wants them."""

    frozen: Frozen

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def features(self) -> Float[np.ndarray, "n E"]:
        """Frozen image features, not normalised, of the plain view."""

    @abstractmethod
    def plain(self, squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """The plain view of each; see `atha.data.views.Views`."""

    @abstractmethod
    def views(self, squeeze_to_size: bool = False) -> Views:
        """What makes these views, and normalises them."""

    @abstractmethod
    def decoded(self) -> list[Image.Image]:
        """The images themselves, as they were taken."""

    @abstractmethod
    def aspect(self, name: str) -> "Images":
        """The same images, seen as one of `atha.data.aspects.ASPECTS`; of the plain ones."""

    @abstractmethod
    def take(self, places: Sequence[int]) -> "Images":
        """Some of the images."""


@dataclass(frozen=True)
class FileImages(Images):
    """Images of an episode, by their files."""

    files: Sequence[ImageFile]
    frozen: FrozenModel
    seen: str = "plain"

    def __len__(self) -> int:
        return len(self.files)

    @property
    def features(self) -> Float[np.ndarray, "n E"]:
        """See `Images`; from the cache where they are there."""
        return self.frozen.image_features(self.files, self.seen)

    def plain(self, squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """See `Images`."""
        return ASPECTS[self.seen](self.frozen.plain(self.files, squeeze_to_size))

    def aspect(self, name: str) -> "FileImages":
        """See `Images`."""
        return replace(self, seen=name)

    def take(self, places: Sequence[int]) -> "FileImages":
        """See `Images`."""
        return replace(self, files=[self.files[place] for place in places])

    def views(self, squeeze_to_size: bool = False) -> Views:
        """See `Images`."""
        return self.frozen.views(squeeze_to_size)

    def decoded(self) -> list[Image.Image]:
        """See `Images`."""
        return self.frozen.decoded(self.files)


@dataclass(frozen=True)
class ViewedImages(Images):
    """Images whose plain views are made already, in the one form that is wanted of them.

    Attributes:
        made: the views.
        maker: what made them.
        frozen: the frozen backbone.
        sources: the images themselves, where a method wants them.
        seen: the aspect.
        known: features of each aspect that were asked for: members of a blend and their baselines ask for the same.
    """

    made: UInt8[Tensor, "n 3 H W"]
    maker: Views
    frozen: Frozen
    sources: Sequence[Image.Image] = ()
    seen: str = "plain"
    known: dict[str, Float[np.ndarray, "n E"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.made)

    @property
    def features(self) -> Float[np.ndarray, "n E"]:
        """See `Images`."""
        if self.seen not in self.known:
            self.known[self.seen] = self.frozen.features(self.made, self.maker)
        return self.known[self.seen]

    def plain(self, squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """See `Images`."""
        return self.made

    def views(self, squeeze_to_size: bool = False) -> Views:
        """See `Images`."""
        return self.maker

    def decoded(self) -> list[Image.Image]:
        """See `Images`."""
        return list(self.sources)

    def aspect(self, name: str) -> "ViewedImages":
        """See `Images`."""
        return self if name == self.seen else replace(self, made=ASPECTS[name](self.made), seen=name)

    def take(self, places: Sequence[int]) -> "ViewedImages":
        """See `Images`."""
        sources = [self.sources[place] for place in places] if self.sources else ()
        return replace(self, made=self.made[list(places)], sources=sources, known={})


@dataclass(frozen=True)
class KnownImages(Images):
    """Images of which frozen features are all that is known.

    Attributes:
        known: features by aspect.
        frozen: what they are of.
        seen: the aspect.
    """

    known: Mapping[str, Float[np.ndarray, "n E"]]
    frozen: Frozen
    seen: str = "plain"

    def __len__(self) -> int:
        return len(self.features)

    @property
    def features(self) -> Float[np.ndarray, "n E"]:
        """See `Images`."""
        return self.known[self.seen]

    def aspect(self, name: str) -> "KnownImages":
        """See `Images`."""
        return replace(self, seen=name)

    def take(self, places: Sequence[int]) -> "KnownImages":
        """See `Images`."""
        return replace(self, known={name: rows[list(places)] for name, rows in self.known.items()})

    def plain(self, squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """There are none."""
        raise _not_at_hand()

    def views(self, squeeze_to_size: bool = False) -> Views:
        """There are none."""
        raise _not_at_hand()

    def decoded(self) -> list[Image.Image]:
        """There are none."""
        raise _not_at_hand()


def _not_at_hand() -> DataError:
    return DataError("the images themselves are not at hand, only features of them: fit on the images")
