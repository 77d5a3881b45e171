"""16-bit PNG with colour or alpha, of which Pillow keeps the high bytes alone unless it is asked twice."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from atha.data.decoders.coloured import orientation_of
from atha.data.problems import trouble_is
from atha.data.samples import STRIP, Samples

# Pillow's name for the values in the file: its own mode, how many bands there are. "I;16B" is grey without alpha, and
# comes out whole.
_BANDS = {"RGB;16B": 3, "RGBA;16B": 4, "LA;16B": 2}


def is_deep(decoder: ImageFile.ImageFile) -> bool:
    """Whether a PNG whose header was read has 16 bits that Pillow would halve."""
    return _raw(decoder) in _BANDS


def open_deep_png(name: str, decoder: ImageFile.ImageFile) -> Samples:
    """An image whose values are put together of two halves, or of four bytes as grey and alpha."""
    raw = _raw(decoder)
    bands, size, tile = _BANDS[raw], decoder.size, decoder.tile[0]
    file = decoder.fp
    assert file is not None
    clear = decoder.info.get("transparency")
    colours = (0,) if bands == 2 else (0, 1, 2)
    keyed = bands == 3 and isinstance(clear, tuple)
    passes = 1 if bands == 2 else 2

    def half(form: str) -> Image.Image:
        with trouble_is(name):
            file.seek(0)
            again = type(decoder)(file, name)
            again.tile = [tile._replace(args=form)]
            again.load()
            return again

    @cache
    def halves() -> list[Image.Image]:
        # Grey and alpha are four bytes, as red, green, blue and alpha of 8 bits are.
        return [half(form) for form in (("RGBA",) if bands == 2 else (raw, raw.replace("16B", "16L")))]

    def read(wanted: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        rows = max(1, STRIP // size[0])
        for top in range(0, size[1], rows):
            box = (0, top, size[0], min(size[1], top + rows))
            parts = [np.asarray(image.crop(box)) for image in halves()]
            if bands == 2:
                values = parts[0].view(">u2").astype(np.uint16)
            else:
                values = parts[0].astype(np.uint16) << 8 | parts[1]
            if keyed:
                seen = (values != np.array(clear, dtype=np.uint16)).any(axis=2, keepdims=True)
                values = np.concatenate([values, seen.astype(np.uint16) * 65535], axis=2)
            yield values[..., list(wanted)]

    count = bands + keyed
    return Samples(
        name, size, count, np.dtype(np.uint16), read, colours, passes * 4 * size[0] * size[1] + 64 * STRIP,
        alpha=None if count == 3 else count - 1, turned=lambda: orientation_of(halves()[0]),
        close=halves.cache_clear,
    )  # fmt: skip


def _raw(decoder: ImageFile.ImageFile) -> str:
    return str(decoder.tile[0][3]) if decoder.tile else ""
