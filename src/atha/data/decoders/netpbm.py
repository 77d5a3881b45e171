"""PGM and PPM whose white is another number than 255: Pillow goes through their pixels one by one, and keeps 8 bits."""

from collections.abc import Iterator
from io import BufferedReader
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from atha.data.problems import TRUNCATED, ImageProblem
from atha.data.samples import STRIP, Samples


def open_netpbm(name: str, decoder: ImageFile.ImageFile, file: BufferedReader) -> Samples | None:
    """A binary file with a white of its own; None of others, which Pillow reads as they are.

    Raises:
        ImageProblem: there are fewer values than the header says.
    """
    codec, _, start, given = decoder.tile[0]
    if codec != "ppm" or not isinstance(given, tuple):
        return None
    white = int(given[1])
    bands = 3 if decoder.mode == "RGB" else 1
    dtype = np.dtype("u1" if white < 256 else ">u2")
    width, height = decoder.size
    row = width * bands * dtype.itemsize
    if file.seek(0, 2) - start < row * height:
        raise ImageProblem(name, TRUNCATED)

    def read(wanted: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        rows = max(1, STRIP // width)
        for top in range(0, height, rows):
            count = min(rows, height - top)
            file.seek(start + top * row)
            values = np.frombuffer(file.read(count * row), dtype).reshape(count, width, bands)
            yield values[..., list(wanted)].astype(dtype.newbyteorder("="))

    colours = (0, 1, 2) if bands == 3 else (0,)
    return Samples(
        name, decoder.size, bands, dtype.newbyteorder("="), read, colours, 64 * STRIP,
        fixed=(0.0, float(white)) if white < 256 else None, full=float(white),
    )  # fmt: skip
