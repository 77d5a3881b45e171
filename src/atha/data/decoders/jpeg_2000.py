"""JPEG 2000 with colours of more than 8 bits, of which Pillow keeps the high ones; by imagecodecs (extra ``geo``)."""

from functools import cache
from io import BufferedReader
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atha.data.headers import Jpeg2000
from atha.data.problems import TRUNCATED, ImageProblem, MissingExtra, trouble_is
from atha.data.samples import STRIP, Samples, rows_of

# Bytes of a value in decoding.
_BYTES = 10


def open_jpeg_2000(name: str, head: Jpeg2000, file: BufferedReader) -> Samples:
    """An image of three bands or more.

    Raises:
        MissingExtra: imagecodecs is not installed.
    """
    try:
        from imagecodecs import jpeg2k_decode
    except ImportError:
        raise MissingExtra(name, f"JPEG 2000 of {head.bits} bits in colour", "geo") from None
    if head.bits > 16:
        raise ImageProblem(name, f"has {head.bits} bits, and 16 are read: save it as TIFF")
    width, height = head.size

    @cache
    def pixels() -> NDArray[Any]:
        with trouble_is(name):
            file.seek(0)
            made = np.asarray(jpeg2k_decode(file.read()))
            if made.shape != (height, width, head.components):
                raise ImageProblem(name, TRUNCATED)
            return made

    need = _BYTES * head.components * width * height + 64 * STRIP
    dtype = np.dtype(np.int16 if head.signed else np.uint16)
    colours = (0, 1, 2) if head.components < 5 else None
    return Samples(
        name, head.size, head.components, dtype, lambda wanted: rows_of(pixels(), wanted), colours, need,
        full=float(2**head.bits - 1), close=pixels.cache_clear, slow=head.slow,
    )  # fmt: skip
