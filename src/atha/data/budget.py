"""How much work one image may be: pixels, memory and time, all known from headers, before pixels are made."""

import ctypes
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil

from atha.data.problems import TooLarge
from atha.defaults import MAX_PIXELS

MEMORY = 880 << 20
"""Bytes that decoding may take, of all threads together; with what the libraries take, less than 1 GB."""

SECONDS = 20
"""Longer than this no image is decoded."""

# Bytes that are worth the time of giving them back to the system.
_LARGE = 256 << 20
# Largest factor by which an image is made smaller to fit, where `MEMORY` is not enough for its full size.
_SMALLEST = 8


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        pixels: of an image. Where more than `MAX_PIXELS` are, memory grows with them.
    """

    pixels: int = MAX_PIXELS

    @property
    def memory(self) -> int:
        """Bytes for one image."""
        return max(MEMORY, ceil(MEMORY * self.pixels / MAX_PIXELS))

    def check(self, name: str, size: tuple[int, int]) -> None:
        """See that an image has no more pixels.

        Raises:
            TooLarge: it has.
        """
        width, height = size
        if width * height > self.pixels:
            raise TooLarge(
                name,
                f"{width} x {height} is {width * height:,} pixels, the limit is {self.pixels:,}: "
                f"make it smaller, or allow it with --max-pixels {width * height}",
            )

    def too_big(self, needed: int, pixels: int) -> str:
        """What is wrong with bytes that an image takes at its smallest, or nothing."""
        if needed <= self.memory:
            return ""
        allow = ceil(max(pixels, MAX_PIXELS * needed / MEMORY) / 1e6) * 10**6
        return (
            f"it takes {needed / 1e9:.1f} GB to decode, the limit is {self.memory / 1e9:.1f} GB: save it smaller or in "
            f"another format, or allow it with --max-pixels {allow}"
        )


def shrinks() -> Iterator[int]:
    """Factors to try, in turn, until an image fits."""
    factor = 1
    while factor <= _SMALLEST:
        yield factor
        factor *= 2


class Room:
    """Memory that threads share: whoever wants more than is left waits, in the order of asking.

    Args:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def taken(self, needed: int) -> Iterator[None]:
        """Hold some of it. More than there is at all is had when nobody else holds any."""
        needed, ticket = min(needed, self._size), object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self._taken + needed <= self._size)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
            self._taken += needed
        try:
            yield
        finally:
            if needed > _LARGE:
                _give_back()
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()


def _give_back() -> None:
    """Return freed memory to the system: the C library of Linux keeps what each thread has freed for that thread."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


ROOM = Room(MEMORY)
"""Of this process."""
