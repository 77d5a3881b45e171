"""Images as their files hold them, whatever the depth and the number of bands, and how they become 8-bit RGB.

They are worked on in strips of rows, so that no second copy of a large image is made.

Shapes: H rows and W columns of an image, h rows of a strip, C bands that are wanted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from math import ceil, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atha.data.problems import BandsProblem, ImageProblem
from atha.data.reading import Chosen, Reading
from atha.data.stretch import Values, own_range, to_8_bits

# Pixels of a strip.
STRIP = 1 << 20
# Of one image, so many values are kept to find quantiles of a data set's.
_SAMPLE = 1 << 15
_LOOKED_AT = 1 << 24
_QUANTILES = np.linspace(0, 1, 401)

Tell = Callable[[str], None]
"""Told, once for a whole data set, of what a user should know."""


class Opened(ABC):
    """An image whose header is known and whose pixels are not made yet.

    Attributes:
        name: of the file, for messages.
        size: width and height.
        deep: whether it has more than 8 bits, so that a `Stretch` is wanted.
        unmarked: how many bands it has, where nothing says which of them are colours; else 0.
        slow: whether decoding may take long, by what the header says, and cannot be stopped.
        other: gives the same file by another decoder, where a rule needs it.
    """

    name: str
    size: tuple[int, int]
    deep: bool = False
    unmarked: int = 0
    slow: bool = False
    other: "Callable[[Reading], Opened | None] | None" = None

    @abstractmethod
    def memory(self, shrink: int) -> int:
        """Bytes that `render` takes, its result included."""

    @abstractmethod
    def render(self, reading: Reading, shrink: int, tell: Tell) -> Image.Image:
        """8-bit RGB, smaller by a factor."""

    @abstractmethod
    def check(self, reading: Reading) -> None:
        """See that it has the bands that are wanted.

        Raises:
            BandsProblem: it has not, or does not say which are colours.
        """

    def values(self, reading: Reading) -> Values | None:
        """What the data set's rule is to be decided on; None of what needs no stretch."""
        return None

    def opacity(self) -> float | None:
        """Share of what a TIFF file calls alpha that is 0 or full; None where it calls nothing so."""
        return None

    def orientation(self) -> int:
        """EXIF's number, 1 to 8, of what `render` gave; to be asked after it."""
        return 1

    def release(self) -> None:  # noqa: B027 - some hold little
        """Let go of the pixels that `render` was made of; may be asked again."""


class Samples(Opened):
    """An image of any depth and number of bands, read in rows.

    Args:
        name: for messages.
        size: width and height.
        bands: how many there are.
        dtype: of the values.
        read: gives the bands that are wanted, numbered from 0, as strips (h, W, C) from the top; any number of times.
        colours: the bands that are red, green and blue, or the one that is grey; None where nothing says so.
        need: bytes that reading takes.
        alpha: the band of transparency.
        premultiplied: whether colours are multiplied with it already.
        tagged: whether it is a TIFF file that calls it so.
        nodata: value of pixels without data.
        inverted: whether small values are bright.
        fixed: the values that the file itself says are black and white.
        full: the value that is white by the file's depth, where it says so.
        turned: gives EXIF's orientation, once pixels are made.
        close: lets go of what is read.
        slow: see `Opened`.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        bands: int,
        dtype: np.dtype[Any],
        read: Callable[[tuple[int, ...]], Iterator[NDArray[Any]]],
        colours: tuple[int, ...] | None,
        need: int,
        *,
        alpha: int | None = None,
        premultiplied: bool = False,
        tagged: bool = False,
        nodata: float | None = None,
        inverted: bool = False,
        fixed: tuple[float, float] | None = None,
        full: float | None = None,
        turned: Callable[[], int] = lambda: 1,
        close: Callable[[], object] = lambda: None,
        slow: bool = False,
    ) -> None:
        self.name, self.size, self.slow, self._turned, self._close = name, size, slow, turned, close
        self._bands, self._dtype, self._read, self._colours, self._need = bands, dtype, read, colours, need
        self._alpha, self._premultiplied, self._tagged = alpha, premultiplied, tagged
        self._nodata, self._inverted, self._full = nodata, inverted, full
        self._fixed = (0.0, 255.0) if fixed is None and dtype == np.uint8 else fixed
        self.deep = self._fixed is None
        self._share: float | None = None
        self.unmarked = bands if colours is None else 0

    def memory(self, shrink: int) -> int:
        """See `Opened`."""
        result = result_bytes(self.size, shrink)
        return max(self._need + result // 2, result)

    def check(self, reading: Reading) -> None:
        """See `Opened`."""
        self._chosen(reading)

    def render(self, reading: Reading, shrink: int, tell: Tell) -> Image.Image:
        """See `Opened`."""
        chosen = self._chosen(reading)
        low, high = self._range(chosen, reading, tell)
        if chosen.alpha is not None and self._tagged and reading.alpha is None and self.opacity() == 0:
            tell(NO_MASK)
            chosen = Chosen(chosen.bands)
        strips = (self._colours_of(strip, chosen, low, high) for strip in self._strips(chosen.all, shrink))
        return assemble(self.size, strips, shrink)

    def orientation(self) -> int:
        """See `Opened`."""
        return self._turned()

    def release(self) -> None:
        """See `Opened`."""
        self._close()

    def values(self, reading: Reading) -> Values | None:
        """See `Opened`."""
        chosen = self._chosen(reading)
        if self._fixed is not None:
            return None
        low, high, some, opaque = np.inf, -np.inf, [], 0
        # Of a very large image, every other row and column, or fewer.
        apart = ceil(sqrt(self.size[0] * self.size[1] / _LOOKED_AT))
        step = max(1, self.size[0] * self.size[1] * len(chosen.bands) // apart**2 // _SAMPLE)
        seen = 0
        for whole in self._strips(chosen.all, 1):
            strip = whole[::apart, ::apart]
            valid = self._valid(strip, chosen)
            seen += strip.shape[0] * strip.shape[1]
            opaque += 0 if chosen.alpha is None else self._opaque(strip[..., -1])
            if len(valid):
                low, high = min(low, float(valid.min())), max(high, float(valid.max()))
                some.append(valid[::step].astype(np.float64))
        if chosen.alpha is not None:
            self._share = opaque / seen
        if not some and chosen.alpha is None:
            raise ImageProblem(self.name, "no value of it is a number (all is NaN, infinity or no data)")
        if not some:  # nothing of it is seen
            low = high = 0.0
            some.append(np.zeros(1))
        quantiles = np.quantile(np.concatenate(some), _QUANTILES)
        floating, bits = self._dtype.kind == "f", 8 * self._dtype.itemsize
        full = self._full or (65535.0 if self._dtype.kind == "u" and bits == 16 else 0.0)
        return Values(len(chosen.bands) == 3, floating, bits, low, high, quantiles, full)

    def opacity(self) -> float | None:
        """See `Opened`."""
        if self._alpha is None or not self._tagged:
            return None
        if self._share is None:
            found = sum(self._opaque(strip) for strip in self._strips((self._alpha,), 1))
            self._share = found / (self.size[0] * self.size[1])
        return self._share

    def _opaque(self, alpha: NDArray[Any]) -> int:
        """How many values are 0 or full."""
        return int(((alpha == 0) | (alpha == self._full_alpha())).sum())

    def _chosen(self, reading: Reading) -> Chosen:
        if reading.bands is not None:
            return Chosen(wanted_bands(self.name, reading.bands, self._bands))
        if self._colours is None:
            raise unknown_bands(self.name, self._bands)
        return Chosen(self._colours, None if self._tagged and reading.alpha is False else self._alpha)

    def _strips(self, bands: tuple[int, ...], multiple: int) -> Iterator[NDArray[Any]]:
        rows = max(multiple, STRIP // self.size[0] // multiple * multiple)
        return in_strips(self._read(bands), rows)

    def _full_alpha(self) -> float:
        return 1.0 if self._dtype.kind == "f" else float(np.iinfo(self._dtype).max)

    def _without_data(self, colours: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Where values are no data, by value."""
        lacking = None
        if self._dtype.kind == "f":
            lacking = ~np.isfinite(colours)
            if self._dtype.itemsize > 2:
                lacking |= np.abs(colours) > _EXTREME
        if self._nodata is not None:
            here = colours == self._nodata
            lacking = here if lacking is None else lacking | here
        return lacking

    def _valid(self, strip: NDArray[Any], chosen: Chosen) -> NDArray[Any]:
        """Values that count, in one row."""
        colours = strip[..., : len(chosen.bands)]
        lacking = self._without_data(colours)
        if chosen.alpha is not None:
            hidden = np.broadcast_to(strip[..., -1:] == 0, colours.shape)
            lacking = hidden if lacking is None else lacking | hidden
        return colours.ravel() if lacking is None else colours[~lacking]

    def _range(self, chosen: Chosen, reading: Reading, tell: Tell) -> tuple[float, float]:
        """Values that become black and white."""
        if self._fixed is not None:
            return self._fixed
        colour, floating = len(chosen.bands) == 3, self._dtype.kind == "f"
        found = reading.stretch(colour, floating)
        if found is not None:
            return found.low, found.high
        values = self.values(reading)
        assert values is not None
        low, high = own_range(values)
        kind = f"{'floating-point' if floating else 'deep'} {'colour' if colour else 'grey'}"
        tell(f"there was no image in {kind} to learn from: each is stretched by itself")
        return low, high

    def _colours_of(self, strip: NDArray[Any], chosen: Chosen, low: float, high: float) -> Image.Image:
        colours = strip[..., : len(chosen.bands)]
        made = to_8_bits(colours, low, high)
        if self._inverted:
            made = 255 - made
        lacking = self._without_data(colours)
        if lacking is not None:
            made[lacking] = 0
        if chosen.alpha is not None:
            alpha = strip[..., -1:].astype(np.float32) / np.float32(self._full_alpha())
            alpha = np.nan_to_num(alpha).clip(0, 1)
            shown = made if self._premultiplied else made * alpha
            made = np.rint(shown + 255 * (1 - alpha)).clip(0, 255).astype(np.uint8)
        if made.shape[-1] == 1:
            return Image.fromarray(made[..., 0]).convert("RGB")
        return Image.fromarray(np.ascontiguousarray(made))


NO_MASK = (
    "what TIFF files call alpha is nowhere 0 or full, so it is taken for infrared or the like and left out; choose "
    "bands with --bands"
)
# Beyond this are the fill values of programs that have no other.
_EXTREME = 3.402e38


def result_bytes(size: tuple[int, int], shrink: int) -> int:
    """Bytes of an RGB image, and of a copy of it that is turned upright."""
    return 8 * -(-size[0] // shrink) * -(-size[1] // shrink)


def wanted_bands(name: str, wanted: tuple[int, ...], there: int) -> tuple[int, ...]:
    """Bands of an image, from 0, by their numbers from 1.

    Raises:
        BandsProblem: the image has fewer.
    """
    if max(wanted) > there:
        has = "1 band" if there == 1 else f"{there} bands"
        raise BandsProblem(name, f"has {has}, and band {max(wanted)} is wanted: give bands of up to {there} as --bands")
    return tuple(band - 1 for band in wanted)


def unknown_bands(name: str, there: int) -> BandsProblem:
    """Said of an image whose bands have no names."""
    return BandsProblem(
        name,
        f"has {there} bands and does not say which are red, green and blue: fit with --bands, such as --bands "
        f"{'4,3,2' if there > 3 else '1'}",
    )


def rows_of(whole: NDArray[Any], bands: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Some bands of an array (H, W, bands), in strips."""
    rows = max(1, STRIP // whole.shape[1])
    for top in range(0, len(whole), rows):
        yield whole[top : top + rows][..., list(bands)]


def in_strips(blocks: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """The same rows in strips of so many each, the last one of what is left."""
    left: list[NDArray[Any]] = []
    held = 0
    for block in blocks:
        start = 0
        while len(block) - start + held >= rows:
            part = block[start : start + rows - held]
            start += len(part)
            yield np.concatenate([*left, part]) if left else part
            left, held = [], 0
        if start < len(block):
            left.append(block[start:])
            held += len(block) - start
    if left:
        yield np.concatenate(left) if len(left) > 1 else left[0]


def assemble(size: tuple[int, int], strips: Iterable[Image.Image], shrink: int) -> Image.Image:
    """One image of strips, from the top, smaller by a factor that divides the height of all but the last."""
    width, height = -(-size[0] // shrink), -(-size[1] // shrink)
    rest = iter(strips)
    first = next(rest)
    if first.size == size:
        return first if shrink == 1 else first.reduce(shrink)
    whole, top = Image.new("RGB", (width, height)), 0
    for strip in chain([first], rest):
        small = strip if shrink == 1 else strip.reduce(shrink)
        whole.paste(small, (0, top))
        top += small.height
    return whole
