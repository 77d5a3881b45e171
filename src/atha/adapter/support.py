"""What an adapter keeps of its support set: frozen features for the linear baseline, and small pictures for reports."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from atha.data.aspects import ASPECTS
from atha.tensors import TensorError, check_tensors

_PLAIN = "plain"
#: Pixels of a picture's long side, and how many are kept: of a class, and in all.
_SIDE, _PER_CLASS, _IN_ALL = 80, 8, 160


@dataclass(frozen=True)
class SupportRecord:
    """What is kept of n support images.

    Attributes:
        aspects: features of the frozen backbone by aspect of the images, not normalised, float32: of the plain view,
            and of all others that were looked at.
        labels: (n,) class indices.
        pictures: JPEG files of some of the images, a few of each class.
        shown: which images these are.
    """

    aspects: Mapping[str, Float[np.ndarray, "n E"]]
    labels: Int[np.ndarray, "n"]
    pictures: tuple[bytes, ...]
    shown: tuple[int, ...]

    @property
    def features(self) -> Float[np.ndarray, "n E"]:
        """Of the plain view."""
        return self.aspects[_PLAIN]

    def to_tensors(self) -> dict[str, Tensor]:
        """As safetensors can hold it."""
        joined = b"".join(self.pictures)
        return {
            **{_key(name): _tensor(rows) for name, rows in self.aspects.items()},
            "labels": torch.from_numpy(np.asarray(self.labels, dtype=np.int64)),
            "pictures": torch.frombuffer(bytearray(joined), dtype=torch.uint8) if joined else torch.empty(0).byte(),
            "picture_ends": torch.tensor(np.cumsum([len(one) for one in self.pictures]), dtype=torch.int64),
            "shown": torch.tensor(self.shown, dtype=torch.int64),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "SupportRecord":
        """Back from `to_tensors`.

        Raises:
            TensorError: values are missing or do not belong together.
        """
        names = [name for name in ASPECTS if name == _PLAIN or _key(name) in tensors]
        sizes = check_tensors(tensors, {_key(name): ("n", "E") for name in names}, [torch.float32])
        check_tensors(tensors, {"labels": ("n",), "picture_ends": ("p",), "shown": ("p",)}, [torch.int64], sizes)
        check_tensors(tensors, {"pictures": ("b",)}, [torch.uint8])
        aspects = {name: tensors[_key(name)].numpy() for name in names}
        labels = tensors["labels"].numpy()
        ends, shown = tensors["picture_ends"].tolist(), tensors["shown"].tolist()
        joined = tensors["pictures"].numpy().tobytes()
        rising = all(start <= end for start, end in zip([0, *ends], ends, strict=False))
        if not rising or (ends and ends[-1] != len(joined)):
            raise TensorError("does not say where pictures end", "picture_ends")
        if not all(0 <= index < len(labels) for index in shown):
            raise TensorError("names images that are not there", "shown")
        pictures = tuple(joined[start:end] for start, end in zip([0, *ends], ends, strict=False))
        return cls(aspects, labels, pictures, tuple(shown))

    def check(self, counts: Sequence[int], digests: Sequence[str]) -> None:
        """See to it that it is what an adapter's record says.

        Args:
            counts: images of each class.
            digests: content hashes of the images; of some versions none.

        Raises:
            TensorError: it is not.
        """
        if self.labels.min(initial=0) < 0 or self.labels.max(initial=0) >= len(counts):
            raise TensorError("names classes that are not there", "labels")
        if np.bincount(self.labels, minlength=len(counts)).tolist() != list(counts):
            raise TensorError("has other numbers of images of the classes than the record", "labels")
        if len(digests) not in (0, len(self.labels)):
            raise TensorError(f"has {len(self.labels)} images and the record {len(digests)}", "labels")


def _key(aspect: str) -> str:
    """The name of a tensor."""
    return "features" if aspect == _PLAIN else f"features.{aspect}"


def _tensor(rows: Float[np.ndarray, "n E"]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))


def choose_pictures(labels: Sequence[int]) -> tuple[int, ...]:
    """Which images of a support set to keep a picture of: the first of each class, until there are enough."""
    places: dict[int, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    chosen = [rows[rank] for rank in range(_PER_CLASS) for rows in places.values() if rank < len(rows)]
    return tuple(sorted(chosen[:_IN_ALL]))


def picture(image: Image.Image, side: int = _SIDE) -> bytes:
    """A small JPEG of an image."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82)
    return file.getvalue()
