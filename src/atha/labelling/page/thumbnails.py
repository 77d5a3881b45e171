"""Photos as the page shows them: read within the project's budgets, small, and the latest ones kept in memory."""

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from atha.data.images import ImageReader

#: Pixels of the longer side, of a photo and of one in the list.
SIDES = (1024, 160)
# Bytes that are kept, and photos that are read at once.
_KEPT, _AT_ONCE = 48 << 20, 2
_QUALITY = 85


class Thumbnails:
    """Makes them on demand; any number of threads may ask.

    Args:
        files: of the photos.
        reader: reads them.
        kept: bytes in memory.
    """

    def __init__(self, files: Sequence[Path], reader: ImageReader, kept: int = _KEPT) -> None:
        self._files, self._reader, self._kept = files, reader, kept
        self._made: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._size = 0
        self._lock, self._turn = threading.Lock(), threading.Semaphore(_AT_ONCE)

    def get(self, place: int, side: int) -> bytes:
        """A JPEG file.

        Args:
            place: of the photo.
            side: most pixels of its longer side.

        Raises:
            ImageProblem: the photo cannot be read.
        """
        key = place, side
        if (found := self._known(key)) is not None:
            return found
        with self._turn:
            if (found := self._known(key)) is not None:  # made while this one waited
                return found
            made = self._reader.make(self._files[place], lambda image: _small(image, side), side)
        with self._lock:
            if key not in self._made and len(made) <= self._kept:
                self._made[key] = made
                self._size += len(made)
            while self._size > self._kept:
                self._size -= len(self._made.popitem(last=False)[1])
        return made

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._size

    def _known(self, key: tuple[int, int]) -> bytes | None:
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
            return self._made.get(key)


def _small(image: Image.Image, side: int) -> bytes:
    image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=_QUALITY)
        return file.getvalue()
