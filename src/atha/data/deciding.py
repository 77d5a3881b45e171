"""How a data set is read, decided on the images that are learned from: their bands, their depth, their alpha."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from atha.data.cache import Cache
from atha.data.images import BandsProblem, ImageInput, ImageProblem, ImageReader
from atha.data.loading import load_ahead
from atha.data.reading import Reading, check_bands
from atha.data.samples import Opened, unknown_bands
from atha.data.stretch import Values, decide_stretch
from atha.defaults import MAX_PIXELS
from atha.errors import DataError

_AHEAD = 64
# Of a file whose four bands have no names, the first three are taken, and that is said.
_GUESSED = 4


@dataclass(frozen=True)
class Looked:
    """What one image says.

    Attributes:
        values: of an image of more than 8 bits.
        opacity: see `atha.data.samples.Opened.opacity`.
        unmarked: see `atha.data.samples.Opened`.
        problem: why its bands cannot be had.
    """

    values: Values | None = None
    opacity: float | None = None
    unmarked: int = 0
    problem: str = ""

    def to_bytes(self) -> bytes:
        """For a cache; nothing of an image that says nothing."""
        if self == Looked():
            return b""
        made: dict[str, Any] = {"opacity": self.opacity, "unmarked": self.unmarked, "problem": self.problem}
        if self.values is not None:
            made["values"] = vars(self.values) | {"quantiles": self.values.quantiles.tolist()}
        return json.dumps(made).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Looked":
        """Back from `to_bytes`."""
        if not content:
            return cls()
        said: dict[str, Any] = json.loads(content)
        if "values" in said:
            said["values"] = Values(**said["values"] | {"quantiles": np.array(said["values"]["quantiles"])})
        return cls(**said)


def decide_reading(
    images: Sequence[ImageInput], bands: Sequence[int] | None = None, max_pixels: int = MAX_PIXELS
) -> Reading:
    """The rule for a data set, by images of it. Those of 8 bits are not decoded, those that cannot be read passed over.

    Args:
        images: that are learned from.
        bands: numbers, from 1, of the bands that are red, green and blue, or of the one that is grey.
        max_pixels: of an image.

    Raises:
        DataError: bands are no such numbers, or no image has them, or nothing says which of many bands are wanted.
    """
    reader = _reader(bands, max_pixels)
    looked = list(load_ahead(lambda image: _look(reader, image), images, _AHEAD))
    return _decided(reader, looked, lambda other: [_look(other, image) for image in images])


def decide_reading_of_files(
    files: Sequence[Path],
    content: Sequence[str],
    cache: Cache,
    bands: Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """`decide_reading` of many files, remembered by what they hold.

    Args:
        files: the images.
        content: SHA-256 of each.
        cache: remembers what was found.
        bands: as of `decide_reading`.
        max_pixels: as of `decide_reading`.

    Raises:
        DataError: as of `decide_reading`.
    """

    def look(reader: ImageReader) -> list[Looked | None]:
        keys = [Cache.key("reading", digest, str(reader.reading.bands)) for digest in content]
        known = cache.get(keys)
        missing = {key: file for key, file in zip(keys, files, strict=True) if key not in known}
        found = dict(zip(missing, load_ahead(lambda file: _look(reader, file), missing.values(), _AHEAD), strict=True))
        cache.put({key: one.to_bytes() for key, one in found.items() if one is not None})
        return [found[key] if key in found else Looked.from_bytes(known[key]) for key in keys]

    reader = _reader(bands, max_pixels)
    return _decided(reader, look(reader), look)


def _reader(bands: Sequence[int] | None, max_pixels: int) -> ImageReader:
    return ImageReader(Reading(bands=None if bands is None else check_bands(bands)), max_pixels, quiet=True)


def _look(reader: ImageReader, image: ImageInput) -> Looked | None:
    """None of an image that cannot be read, which is said when it is read."""

    def use(found: Opened) -> Looked:
        if reader.reading.bands is None and found.unmarked:
            return Looked(unmarked=found.unmarked, problem=str(unknown_bands(found.name, found.unmarked)))
        found.check(reader.reading)
        values = found.values(reader.reading) if found.deep and not found.slow else None
        return Looked(values, found.opacity() if reader.reading.bands is None else None)

    try:
        return reader.look(image, use)
    except BandsProblem as problem:
        return Looked(problem=str(problem))
    except ImageProblem:
        return None


def _decided(
    reader: ImageReader, looked: Sequence[Looked | None], again: Callable[[ImageReader], Sequence[Looked | None]]
) -> Reading:
    found = [one for one in looked if one is not None]
    unmarked = {one.unmarked for one in found if one.unmarked}
    if unmarked == {_GUESSED} and all(one.unmarked for one in found):
        reader = replace(reader, reading=Reading(bands=(1, 2, 3)))
        found = [one for one in again(reader) if one is not None]
    if found and all(one.problem for one in found):
        raise DataError(found[0].problem)
    kinds: dict[tuple[bool, bool], list[Values]] = {}
    for one in found:
        if one.values is not None:
            kinds.setdefault((one.values.colour, one.values.floating), []).append(one.values)
    opacities = [one.opacity for one in found if one.opacity is not None]
    return Reading(
        bands=reader.reading.bands,
        stretches=tuple(decide_stretch(kinds[kind]) for kind in sorted(kinds)),
        alpha=None if not opacities else sum(opacities) / len(opacities) >= 0.5,
    )
