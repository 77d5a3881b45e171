"""Features of many photos, made once and kept on disk by content, in bounded memory.

Shapes: E joint width.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from atha.data.cache import Cache
from atha.data.images import ImageProblem, ImageReader
from atha.data.loading import load_ahead
from atha.data.views import Views
from atha.models.frozen import Frozen, processor_settings

# Of how features are made: a change makes what is on disk worthless.
_VERSION = "1"
# Photos that are looked up at once, and that go through the model at once.
_LOOKED_UP, _AT_ONCE = 2048, 64


@dataclass(frozen=True)
class Photo:
    """What is known of a photo.

    Attributes:
        place: among those that were asked for.
        digest: SHA-256 of its bytes; empty where it cannot be read.
        features: of the plain view, not normalised; None where it cannot be read.
        problem: why it cannot.
    """

    place: int
    digest: str = ""
    features: Float[np.ndarray, "E"] | None = None
    problem: str = ""


class PhotoFeatures:
    """Makes features of photos, or finds them on disk.

    Args:
        frozen: the frozen backbone.
        views: makes the plain views.
        reader: reads the photos.
        transform: that ``views`` was made for.
        cache: on disk. Views are not kept in it: those of many photos would drive out their features.
    """

    def __init__(self, frozen: Frozen, views: Views, reader: ImageReader, transform: str, cache: Cache) -> None:
        self._frozen, self._views, self.reader, self._cache = frozen, views, reader, cache
        backbone = frozen.backbone
        self._what = [
            _VERSION, backbone.content_hash(), frozen.precision, backbone.device.type, transform,
            str(backbone.image_size), processor_settings(backbone), reader.reading.model_dump_json(),
        ]  # fmt: skip

    def stream(self, files: Sequence[Path], order: Iterable[int] | None = None) -> Iterator[list[Photo]]:
        """All photos, some at a time, as they are there.

        A file that has the size and the time of change that it had is taken for what it was.

        Args:
            files: of the photos.
            order: places in which they are wanted; None: as they are.
        """
        places = iter(range(len(files)) if order is None else order)
        while some := list(islice(places, _LOOKED_UP)):
            yield from self._stream(files, some)

    def _stream(self, files: Sequence[Path], places: Sequence[int]) -> Iterator[list[Photo]]:
        marks = {place: _mark(files[place]) for place in places}
        digests = self._cache.get(mark for mark in marks.values() if mark)
        known: dict[int, str] = {
            place: digests[mark].hex() for place, mark in marks.items() if mark is not None and mark in digests
        }
        kept = self._cache.get(map(self._key, known.values()))
        found, missing = [], []
        for place in places:
            value = kept.get(self._key(known[place])) if place in known else None
            if value is not None and len(value) == 4 * self._frozen.backbone.joint_width:
                found.append(Photo(place, known[place], np.frombuffer(value, np.float32)))
            else:
                missing.append(place)
        if found:
            yield found
        loaded = zip(missing, load_ahead(lambda place: self._load(files[place]), missing, 2 * _AT_ONCE), strict=True)
        while batch := list(islice(loaded, _AT_ONCE)):
            yield self._made(batch, marks)

    def _made(
        self, batch: Sequence[tuple[int, "tuple[str, Tensor] | ImageProblem"]], marks: dict[int, bytes | None]
    ) -> list[Photo]:
        good = [(place, *one) for place, one in batch if not isinstance(one, ImageProblem)]
        bad = [Photo(place, problem=str(one)) for place, one in batch if isinstance(one, ImageProblem)]
        if not good:
            return bad
        features = self._frozen.features(torch.stack([view for _, _, view in good]), self._views)
        values = {}
        for (place, digest, _), row in zip(good, features, strict=True):
            values[self._key(digest)] = row.tobytes()
            if (mark := marks[place]) is not None:
                values[mark] = bytes.fromhex(digest)
        self._cache.put(values)
        return [Photo(place, digest, row) for (place, digest, _), row in zip(good, features, strict=True)] + bad

    def _load(self, file: Path) -> tuple[str, UInt8[Tensor, "3 H W"]] | ImageProblem:
        try:
            view, digest = self.reader.make_hashed(file, self._views.plain)
            return digest, view
        except ImageProblem as problem:
            return problem

    def _key(self, digest: str) -> bytes:
        return Cache.key("photo", digest, *self._what)


def _mark(file: Path) -> bytes | None:
    """A key for what a file holds, as long as nobody touches it; None of one that is not there."""
    try:
        found = file.stat()
    except (OSError, ValueError):
        return None
    return Cache.key("file", str(file.absolute()), str(found.st_size), str(found.st_mtime_ns), str(found.st_ino))
