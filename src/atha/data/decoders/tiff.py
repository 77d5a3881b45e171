"""TIFF: what Pillow reads as it is meant goes to Pillow, many bands and deep colours to tifffile (extra ``geo``)."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from itertools import groupby, islice
from math import ceil, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from atha.data.budget import MEMORY, Limits
from atha.data.decoders.coloured import Coloured, pixel_bytes
from atha.data.problems import TRUNCATED, ImageProblem, MissingExtra, trouble_is
from atha.data.reading import Reading
from atha.data.samples import STRIP, Opened, Samples
from atha.defaults import MAX_PIXELS

# It logs what it finds odd in files; whatever matters of that is said in our words.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK = range(5)
#: Photometric interpretations of more than one band that Pillow turns into RGB: inks, luminance and chroma, CIE Lab.
_OTHER_COLOURS = (5, 6, 8, 9, 10)
_UNSIGNED, _SIGNED, _FLOATING = 1, 2, 3
_PLANES = 2
#: Compressions that Pillow's libtiff is built without: LERC, WebP, JPEG XL.
_NOT_PILLOWS = (34887, 50001, 50002, 52546)
# Each strip or tile costs a call, and each page; and these are bytes that may be gone through.
_SEGMENTS, _MOST_PAGES, _MOST_BYTES = 1 << 17, 1024, 2_500_000_000
# Entries of a directory: tifffile reads no more, and 16 bits count them where 64 do not.
_MOST_TAGS = 4096


@dataclass(frozen=True)
class TiffHead:
    """What the first directory of a TIFF file says.

    Attributes:
        size: width and height.
        samples: bands.
        bits: of the deepest band.
        kind: of values: unsigned, signed or floating-point.
        photometric: what bands mean.
        extra: what those beyond the colours mean: 1 and 2 are alpha.
        segment: bytes of a strip or tile.
        segments: how many there are.
        compression: how they are compressed; 1: not.
        planes: whether each band is stored by itself.
        turned: whether EXIF's orientation is another than upright.
        nodata: value of pixels without data, where a geographic program says it.
        named: bands that are named red, green and blue by such a program, from 0.
        raw: whether it is a small picture of one that is elsewhere in the file, as cameras' raw files have it.
    """

    size: tuple[int, int]
    samples: int
    bits: int
    kind: int
    photometric: int
    extra: tuple[int, ...]
    segment: int
    segments: int
    compression: int
    planes: bool
    turned: bool
    nodata: float | None
    named: tuple[int, ...] | None
    raw: bool

    @property
    def alpha(self) -> int | None:
        """The band that the file calls alpha, from 0."""
        first = self.samples - len(self.extra)
        return next((first + place for place, what in enumerate(self.extra) if what in (1, 2)), None)

    @property
    def colours(self) -> tuple[int, ...] | None:
        """Bands that are red, green and blue, or the one that is grey; None where nothing says so."""
        if self.named is not None:
            return self.named
        opaque = self.samples - (self.alpha is not None)
        if self.photometric == _RGB and self.samples >= 3:
            return 0, 1, 2
        return (0, 1, 2) if opaque == 3 else (0,) if opaque == 1 else None

    @property
    def for_pillow(self) -> bool:
        """Whether Pillow reads it as it is meant."""
        if self.compression in _NOT_PILLOWS:
            return False
        if self.photometric in _OTHER_COLOURS and self.samples >= 3:
            return True
        if self.samples == 1:
            signed = self.kind == _SIGNED and self.bits <= 8
            return self.bits <= 32 and not signed and (self.kind != _FLOATING or self.bits == 32)
        if self.bits > 8 or self.kind not in (_UNSIGNED, 4):
            return False
        if self.photometric == _RGB:
            # In planes, Pillow knows alpha alone as the fourth.
            four = self.alpha == 3 or not self.planes
            return self.samples == 3 or (self.samples == 4 and four and self.named in (None, (0, 1, 2)))
        return self.samples == 2 and self.alpha == 1


def open_tiff(
    name: str,
    file: BufferedReader,
    limits: Limits,
    read_header: Callable[[str, BufferedReader], ImageFile.ImageFile],
) -> Opened:
    """Reads the first directory and chooses who reads the pixels.

    Args:
        name: for messages.
        file: at its beginning.
        limits: of pixels.
        read_header: Pillow's way.

    Raises:
        ImageProblem: it is damaged, or of a kind that is not read.
        MissingExtra: tifffile is not installed, and the file needs it.
    """
    with trouble_is(name):
        head = _head(name, file)
    if head.raw:
        raise ImageProblem(name, "is a camera's raw file, with a small picture first: export it as JPEG, PNG or TIFF")
    limits.check(name, head.size)
    if head.segments > _SEGMENTS:
        raise ImageProblem(name, f"it is cut in {head.segments:,} parts, which would take too long: save it again")
    if (total := head.segment * head.segments) > _MOST_BYTES * limits.memory / MEMORY:
        allow = ceil(MAX_PIXELS * total / _MOST_BYTES / 1e6) * 10**6
        raise ImageProblem(
            name,
            f"it holds {total / 1e9:.1f} GB of values, which would take too long: save fewer bands or pixels, or allow "
            f"it with --max-pixels {allow}",
        )
    if not head.for_pillow:
        return _by_tifffile(name, file, head)
    decoder = read_header(name, file)
    held = pixel_bytes(decoder.mode) * decoder.width * decoder.height
    need = held * (1 + head.turned) + (head.segment if head.compression != 1 else 0)
    if decoder.mode.startswith("I") or decoder.mode == "F":
        from atha.data.decoders.files import of_deep_grey

        made: Opened = of_deep_grey(
            name, decoder, nodata=head.nodata, inverted=head.photometric == _WHITE_IS_ZERO, need=need
        )
    else:
        four = decoder.mode in ("RGBA", "RGBa", "RGBX")
        tagged = decoder.mode == "RGBA" and head.alpha is not None
        alpha = not four or head.alpha is not None
        made = Coloured(name, decoder, lambda shrink: need, alpha=alpha, tagged=tagged)
        if len(decoder.getbands()) < head.samples:
            made.other = partial(_beyond, name, file, head, len(decoder.getbands()))
        elif tagged and 1 in head.extra:
            made.other = partial(_unmultiplied, name, file, head, made)
    if head.samples == 1:
        made.other = partial(_pages, name, file, head)
    return made


def _head(name: str, file: BufferedReader) -> TiffHead:
    start = file.read(8)
    if large := start[2:4] in (b"+\x00", b"\x00+"):
        start += file.read(8)
    tags = ImageFileDirectory_v2(start)
    file.seek(tags.next)
    count = int.from_bytes(file.read(8 if large else 2), "little" if start[:1] == b"I" else "big")
    if count > _MOST_TAGS:
        raise ImageProblem(name, f"its directory has {count:,} entries, at most {_MOST_TAGS:,} are read: save it again")
    file.seek(tags.next)
    tags.load(file)
    file.seek(0)

    def number(tag: int, default: int) -> int:
        value = tags.get(tag, default)
        return int(value[0] if isinstance(value, tuple) else value)

    def numbers(tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
        value = tags.get(tag, default)
        return tuple(map(int, value)) if isinstance(value, tuple) else (int(value),)

    width, height, samples = number(256, 0), number(257, 0), number(277, 1)
    photometric = number(262, _BLACK_IS_ZERO)
    if 277 not in tags and photometric in (_RGB, 6):
        samples = 3
    bits = max(numbers(258, (1,)))
    if min(width, height, samples, bits) < 1:
        raise ValueError("a size is missing")
    planes = number(284, 1) == _PLANES
    inside = 1 if planes else samples
    if 322 in tags:
        tile = number(322, 0), number(323, 0)
        across, down = ceil(width / tile[0]), ceil(height / tile[1])
    else:
        tile = width, min(height, number(278, height))
        across, down = 1, ceil(height / tile[1])
    return TiffHead(
        (width, height),
        samples,
        bits,
        number(339, _UNSIGNED),
        photometric,
        numbers(338, ()) if 338 in tags else (),
        tile[0] * tile[1] * inside * max(1, bits // 8),
        across * down * (samples // inside),
        number(259, 1),
        planes,
        number(274, 1) not in (0, 1),
        _nodata(tags.get(42113)),
        _named(tags.get(42112), samples),
        # DNG's version; or a reduced picture, where others are below it.
        50706 in tags or (bool(number(254, 0) & 1) and 330 in tags),
    )


def _nodata(given: Any) -> float | None:
    try:
        value = float(str(given).strip("\x00 "))
    except ValueError:
        return None
    return value if isfinite(value) else None


def _named(given: Any, samples: int) -> tuple[int, ...] | None:
    """Bands that GDAL's metadata name red, green and blue."""
    items = re.findall(r'<Item\b([^>]{0,200}role="colorinterp"[^>]{0,200})>([A-Za-z]{1,20})<', str(given)[:100_000])
    found = {}
    for attributes, colour in items:
        if place := re.search(r'sample="(\d{1,5})"', attributes):
            found[colour.lower()] = int(place.group(1))
    named = tuple(found.get(colour, samples) for colour in ("red", "green", "blue"))
    return named if max(named) < samples else None


def _by_tifffile(name: str, file: BufferedReader, head: TiffHead) -> Opened:
    try:
        import tifffile
    except ImportError:
        bands = "1 band" if head.samples == 1 else f"{head.samples} bands"
        raise MissingExtra(name, f"a TIFF of {bands} of {head.bits} bits", "geo") from None
    if head.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        raise ImageProblem(
            name, f"its colours (photometric interpretation {head.photometric}) are not read: save it as RGB"
        )
    with trouble_is(name):
        file.seek(0)
        page = tifffile.TiffFile(file, name=name).pages[0]
        dtype = page.dtype
        if dtype is None or dtype.kind not in "uif":
            raise ImageProblem(name, f"its values ({head.bits} bits, sample format {head.kind}) are not read")
        orientation = int(page.tags[274].value) if 274 in page.tags else 1
    return Samples(
        name, head.size, head.samples, dtype, lambda bands: _rows(name, [(page, band) for band in bands]),
        head.colours, 4 * head.segment + _row_of_segments(head), alpha=head.alpha,
        premultiplied=head.alpha is not None and head.extra[head.alpha - head.samples] == 1,
        tagged=True, nodata=head.nodata, inverted=head.photometric == _WHITE_IS_ZERO,
        turned=lambda: orientation if 1 <= orientation <= 8 else 1,
    )  # fmt: skip


def _beyond(name: str, file: BufferedReader, head: TiffHead, there: int, reading: Reading) -> Opened | None:
    """All bands, where one is wanted that Pillow leaves out."""
    return None if reading.bands is None or max(reading.bands) <= there else _by_tifffile(name, file, head)


def _unmultiplied(name: str, file: BufferedReader, head: TiffHead, made: Opened, reading: Reading) -> Opened | None:
    """Colours as they are, where what the file calls premultiplied alpha is none; Pillow would divide by it."""
    if reading.alpha or (reading.alpha is None and reading.bands is None and made.opacity() != 0):
        return None
    return _by_tifffile(name, file, head)


def _pages(name: str, file: BufferedReader, head: TiffHead, reading: Reading) -> Opened | None:
    """The pages of a file as bands of one image, where they are of one band and alike, and bands are wanted."""
    if reading.bands is None or max(reading.bands) == 1:
        return None
    try:
        import tifffile
    except ImportError:
        raise MissingExtra(name, "a TIFF whose pages are bands", "geo") from None
    with trouble_is(name):
        file.seek(0)
        pages = list(islice(tifffile.TiffFile(file, name=name).pages, _MOST_PAGES))
        first = pages[0]
        alike = [page for page in pages if page.shape == first.shape and page.dtype == first.dtype]
        if len(alike) < 2 or len(first.shape) != 2 or first.dtype is None:
            return None
    return Samples(
        name, head.size, len(alike), first.dtype, lambda bands: _rows(name, [(alike[band], 0) for band in bands]),
        None, 4 * head.segment + _row_of_segments(head), nodata=head.nodata,
    )  # fmt: skip


def _row_of_segments(head: TiffHead) -> int:
    """Bytes of the rows that are held at once, and of what is computed of them."""
    rows = max(1, head.segment // max(1, head.size[0] * head.samples * max(1, head.bits // 8)))
    return min(head.size[1], rows) * head.size[0] * 4 * max(1, head.bits // 8) + 64 * STRIP


def _rows(name: str, wanted: Sequence[tuple[Any, int]]) -> Iterator[NDArray[Any]]:
    """Strips of bands, each of which is a page and its band there: all strips or tiles side by side make one.

    Those of one page are decoded together, and those of bands that nobody wants not at all.
    """
    with trouble_is(name):
        first = wanted[0][0]
        _, _, length, width, _ = first.shaped
        if all(page.is_contiguous for page, _ in wanted):
            yield from _as_they_lie(name, wanted)
            return
        high = min(length, first.tilelength if first.is_tiled else first.rowsperstrip)
        across = ceil(width / first.tilewidth) if first.is_tiled else 1
        down = ceil(length / high)
    # As many of them as make a strip, where they are low.
    together = max(1, STRIP // (width * high))
    for top in range(0, down, together):
        levels = range(top, min(down, top + together))
        rows = min(length, (levels[-1] + 1) * high) - top * high
        made = np.full((rows, width, len(wanted)), first.nodata, first.dtype)
        for level in levels:
            with trouble_is(name):
                _fill(name, made[(level - top) * high :], wanted, level, across, down)
        yield made


def _as_they_lie(name: str, wanted: Sequence[tuple[Any, int]]) -> Iterator[NDArray[Any]]:
    """Strips of bands that are not compressed, whose rows lie in the file one after the other."""
    first = wanted[0][0]
    _, _, length, width, inside = first.shaped
    stored = np.dtype(first.parent.byteorder + first.dtype.char)
    row = width * inside * stored.itemsize
    high = max(1, STRIP // (width * inside))
    for top in range(0, length, high):
        rows = min(high, length - top)
        made = np.empty((rows, width, len(wanted)), first.dtype)
        for place, (page, band) in enumerate(wanted):
            plane, inner = (0, band) if inside > 1 else (band, 0)
            handle = page.parent.filehandle
            handle.seek(page.dataoffsets[0] + (plane * length + top) * row)
            data = handle.read(rows * row)
            if len(data) < rows * row:
                raise ImageProblem(name, TRUNCATED)
            made[..., place] = np.frombuffer(data, stored).reshape(rows, width, inside)[..., inner]
        yield made


def _fill(name: str, into: NDArray[Any], wanted: Sequence[tuple[Any, int]], level: int, across: int, down: int) -> None:
    """Decodes one row of strips or tiles."""
    numbered = sorted(enumerate(wanted), key=lambda one: (one[1][0].index, one[1][1]))
    for _, group in groupby(numbered, key=lambda one: one[1][0].index):
        bands = list(group)
        page = bands[0][1][0]
        planes = page.planarconfig == _PLANES and page.samplesperpixel > 1
        for column in range(across):
            if not planes:
                part = _segment(name, page, level * across + column)
                _put(into, part, [(place, band) for place, (_, band) in bands])
                continue
            for place, (_, band) in bands:
                part = _segment(name, page, (band * down + level) * across + column)
                _put(into, part, [(place, 0)])


def _put(into: NDArray[Any], segment: tuple[NDArray[Any], int] | None, places: Sequence[tuple[int, int]]) -> None:
    if segment is None:
        return
    part, left = segment
    rows, columns = min(len(into), part.shape[0]), min(into.shape[1] - left, part.shape[1])
    for place, band in places:
        into[:rows, left : left + columns, place] = part[:rows, :columns, band]


def _segment(name: str, page: Any, number: int) -> tuple[NDArray[Any], int] | None:
    """One strip or tile, (h, w, bands in it), and the column that it begins at; None of one that was left out."""
    if number >= len(page.dataoffsets):
        raise ImageProblem(name, TRUNCATED)
    if not page.databytecounts[number]:
        return None
    handle = page.parent.filehandle
    handle.seek(page.dataoffsets[number])
    data = handle.read(page.databytecounts[number])
    if len(data) < page.databytecounts[number]:
        raise ImageProblem(name, TRUNCATED)
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in (6, 7) else {}
    try:
        found, (_, _, _, left, _), _ = page.decode(data, number, **tables)
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" in str(error):
            raise MissingExtra(name, f"a TIFF that is compressed as {page.compression.name}", "geo") from None
        raise
    return found[0], left
