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
            KeyError, ValueError: values are missing or do not belong together.
        """
        aspects = {name: tensors[_key(name)].numpy() for name in ASPECTS if name == _PLAIN or _key(name) in tensors}
        features, labels = aspects[_PLAIN], tensors["labels"].numpy()
        ends, shown = tensors["picture_ends"].tolist(), tensors["shown"].tolist()
        joined = tensors["pictures"].numpy().tobytes()
        if features.ndim != 2 or labels.shape != features.shape[:1] or len({one.shape for one in aspects.values()}) > 1:
            raise ValueError(f"support features and labels have shapes {features.shape} and {labels.shape}")
        rising = all(start <= end for start, end in zip([0, *ends], ends, strict=False))
        if len(ends) != len(shown) or not rising or (ends and ends[-1] != len(joined)):
            raise ValueError("the support pictures are not whole")
        if not all(0 <= index < len(labels) for index in shown):
            raise ValueError("a support picture is of no image")
        pictures = tuple(joined[start:end] for start, end in zip([0, *ends], ends, strict=False))
        return cls(aspects, labels, pictures, tuple(shown))


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
