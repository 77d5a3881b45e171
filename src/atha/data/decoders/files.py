"""Opens an image file with the decoder that it needs, by its content."""

from collections.abc import Callable, Iterator
from functools import cache
from io import BufferedReader
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from atha.data import headers
from atha.data.budget import Limits
from atha.data.decoders import deep_png, netpbm, tiff
from atha.data.decoders.coloured import Coloured, orientation_of, pixel_bytes
from atha.data.problems import TRUNCATED, ImageProblem, TooLarge, trouble_is
from atha.data.samples import STRIP, Opened, Samples

# A short list on purpose: EPS would start Ghostscript, and every decoder more is one more way to be attacked.
# MPO, the format of many phones, comes through JPEG. TGA is last because it has no signature to be known by.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "ICO", "AVIF", "TGA")

HEAD = 192  # bytes that tell kinds of file apart
# Bytes of a pixel that these formats take in decoding, as measured; others take little beside the result.
_WEBP, _AVIF, _BAND_OF_JPEG_2000 = 16.2, 16.0, 6.5
# Where a decoder cannot be stopped, more pixels than this go to a process that can.
_MANY = 56_000_000
# Numbers as text take Pillow so long that more would be too many; of one letter each, they may be more.
_PLAIN_TEXT, _PLAIN_BITS = 12_000_000, 40_000_000
# Decoders of these kinds hold the whole file twice.
_AT_ONCE = 2


# What is looked at before Pillow does, by how files begin: work that a few bytes of header can make without end.
_LOOKS = ((b"GIF8", headers.gif_reason), (b"P", headers.netpbm_reason), (b"\x89PNG", headers.png_reason))


def knows(head: bytes) -> bool:
    """Whether the first `HEAD` bytes of a file are those of an image, of TGA excepted, which has no signature."""
    if head[128:132] == b"DICM" or headers.is_heif(head) or head[:4] in tiff.MAGIC:
        return True
    # Pillow's own tests fail on less than they look at.
    return len(head) >= 16 and any(accept is not None and accept(head[:16]) for _, accept in _decoders())


def open_file(name: str, file: BufferedReader, limits: Limits) -> Opened:
    """Reads the header of an image file, and no more.

    Args:
        name: for messages.
        file: at its beginning; to stay open until the pixels are made.
        limits: of pixels; a format that would take memory to tell its size is looked at first.

    Raises:
        ImageProblem: it is no image, or is damaged, or a library is missing that would read it.
    """
    with trouble_is(name):
        head = file.read(HEAD)
        file.seek(0)
    if head[128:132] == b"DICM":
        from atha.data.decoders import dicom

        return dicom.open_dicom(name, file, limits)
    _check_held(name, file, head, limits)
    if headers.is_heif(head):
        from atha.data.decoders import heif

        return heif.open_heif(name, file)
    if head[:4] in tiff.MAGIC and not headers.foreign(head):
        return tiff.open_tiff(name, file, limits, read_header)
    if what := headers.foreign(head) or headers.is_text(head):
        raise ImageProblem(name, what)
    for begin, look in _LOOKS:
        if head.startswith(begin):
            with trouble_is(name):
                reason = look(file)
            if reason:
                raise ImageProblem(name, reason)
    if head[:2] == b"\xff\xd8":
        return _jpeg(name, file)
    if head[4:8] == b"jP  " and headers.jpeg_2000(file) is None:
        raise ImageProblem(name, TRUNCATED)
    decoder = read_header(name, file)
    with trouble_is(name):
        return of_decoder(name, decoder, file)


def _check_held(name: str, file: BufferedReader, head: bytes, limits: Limits) -> None:
    """See that there is memory for what decoders of some kinds take before they tell an image's size.

    Raises:
        ImageProblem: there is not.
    """
    if (head[:4] != b"RIFF" and head[4:8] != b"ftyp") or headers.foreign(head):
        return
    with trouble_is(name):
        needed, pixels = _AT_ONCE * file.seek(0, 2), 0
        file.seek(0)
    if (size := headers.webp_size(head)) is not None:
        limits.check(name, size)
        pixels = size[0] * size[1]
        needed += int(_WEBP * pixels)
    if too_big := limits.too_big(needed, pixels):
        raise TooLarge(name, too_big)


def _jpeg(name: str, file: BufferedReader) -> Opened:
    with trouble_is(name):
        head = headers.jpeg_head(file)
        reason = headers.jpeg_reason(head, file) if head is not None else ""
    if reason:
        raise ImageProblem(name, reason)
    # Not left to Pillow, which goes through millions of segments.
    if head is None:
        raise ImageProblem(name, TRUNCATED)
    decoder = read_header(name, file)
    if not isinstance(decoder, JpegImageFile) or head.size != decoder.size:
        raise ImageProblem(name, TRUNCATED)
    pixels, bytes_each, kept = decoder.width * decoder.height, pixel_bytes(decoder.mode), head.coefficients

    def need(shrink: int) -> int:
        return int(kept * pixels) + bytes_each * pixels // shrink**2

    return Coloured(name, decoder, need, _draft(decoder))


def of_decoder(name: str, decoder: ImageFile.ImageFile, file: BufferedReader) -> Opened:
    """What Pillow has the header of."""
    pixels, kind = decoder.width * decoder.height, decoder.format
    held = pixel_bytes(decoder.mode) * pixels
    need, slow = held, False
    if kind == "PNG" and deep_png.is_deep(decoder):
        return deep_png.open_deep_png(name, decoder)
    if kind == "PPM" and (found := netpbm.open_netpbm(name, decoder, file)) is not None:
        return found
    if kind == "PPM" and "plain" in str(decoder.tile[0][0]):
        values = pixels * len(decoder.getbands())
        if values > (_PLAIN_BITS if decoder.mode == "1" else _PLAIN_TEXT):
            raise ImageProblem(name, f"has {values:,} numbers as text, which would take too long: save it as PNG")
    if kind == "JPEG2000":
        return _jpeg_2000(name, decoder, file)
    if kind in ("AVIF", "WEBP"):
        need = int((_AVIF if kind == "AVIF" else _WEBP) * pixels)
        slow = pixels > _MANY
    elif kind == "ICO":
        inner = headers.icon_pixels(file)
        if inner > 1 << 22:
            raise ImageProblem(name, f"is an icon of {round(inner / 1e6)} megapixels: save it as PNG")
    if decoder.mode.startswith("I") or decoder.mode == "F":
        return of_deep_grey(name, decoder)
    return Coloured(name, decoder, lambda shrink: need, slow=slow)


def of_deep_grey(
    name: str,
    image: Image.Image,
    *,
    own: bool = True,
    nodata: float | None = None,
    inverted: bool = False,
    need: int = 0,
) -> Samples:
    """An image of one band of whole numbers of more than 8 bits, or of floating-point ones, that Pillow reads."""

    def read(bands: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        with trouble_is(name):
            image.load()
        rows = max(1, STRIP // image.width)
        for top in range(0, image.height, rows):
            strip = np.asarray(image.crop((0, top, image.width, min(image.height, top + rows))))
            yield np.repeat(strip[..., None], len(bands), axis=2) if len(bands) > 1 else strip[..., None]

    dtype = np.dtype({"F": np.float32, "I": np.int32}.get(image.mode, np.uint16))
    held = pixel_bytes(image.mode) * image.width * image.height
    return Samples(
        name, image.size, 1, dtype, read, (0,), max(held, need) + 64 * STRIP,
        nodata=nodata, inverted=inverted, turned=lambda: orientation_of(image),
        close=image.close if own else lambda: None,
    )  # fmt: skip


@cache
def _decoders() -> list[tuple[Callable[..., ImageFile.ImageFile], Callable[[bytes], bool | str] | None]]:
    """Pillow's decoders for our formats, as far as the installed Pillow has them."""
    Image.init()
    return [Image.OPEN[name] for name in _FORMATS if name in Image.OPEN]


def read_header(name: str, file: BufferedReader) -> ImageFile.ImageFile:
    """Finds Pillow's decoder of a file and reads the header, and no more.

    Done here and not by ``Image.open``, which refuses a huge image without saying its size, and warns of a large one
    through ``warnings``, whose filters cannot be changed for one thread alone.
    """
    with trouble_is(name):
        file.seek(0)
        prefix = file.read(16)
    recognised = False
    for factory, accept in _decoders():
        try:
            verdict = accept is None or accept(prefix)
            if not verdict or isinstance(verdict, str):  # a string says why the installed Pillow cannot
                continue
            recognised = recognised or accept is not None
            file.seek(0)
            return factory(file, name)
        except Image.DecompressionBombError as error:
            raise ImageProblem(name, "the image has too many pixels: make it smaller") from error
        except Exception:  # noqa: S112 - as in trouble_is; another format may still fit
            continue
    raise ImageProblem(name, TRUNCATED if recognised else "not an image that can be read")


def _draft(decoder: JpegImageFile) -> Callable[[int], int]:
    """Makes libjpeg give fewer pixels, which saves their memory and most of their time."""
    width, height = decoder.size

    def scale(shrink: int) -> int:
        if shrink > 1:
            decoder.draft(None, (max(1, width // shrink), max(1, height // shrink)))
        made = max(1, round(width / decoder.width))
        return max(1, shrink // made)

    return scale


def _jpeg_2000(name: str, decoder: ImageFile.ImageFile, file: BufferedReader) -> Opened:
    found = headers.jpeg_2000(file)
    if found is None or found.size != decoder.size:
        raise ImageProblem(name, TRUNCATED)
    if found.components > 2 and found.bits > 8:
        from atha.data.decoders import jpeg_2000

        return jpeg_2000.open_jpeg_2000(name, found, file)
    file.seek(0)
    width, height = found.size
    need = int((_BAND_OF_JPEG_2000 * found.components + 4) * width * height)
    if decoder.mode.startswith("I"):
        return of_deep_grey(name, decoder, need=need)

    def times(shrink: int) -> int:
        """How often both sides are halved; Pillow rounds where OpenJPEG does not, and refuses sizes that differ."""
        agreed = 0
        for count in range(1, min(found.reductions, shrink.bit_length() - 1) + 1):
            power = 1 << count
            if any((side + power // 2) // power != -(-side // power) for side in found.size):
                break
            agreed = count
        return agreed

    def scale(shrink: int) -> int:
        halvings = times(shrink)
        decoder.reduce = halvings  # type: ignore[method-assign, assignment]
        return shrink >> halvings

    return Coloured(name, decoder, lambda shrink: need >> 2 * times(shrink), scale, slow=found.slow)
