"""Safe decoding of images: whatever the file holds, the answer is 8-bit RGB or one sentence about what is wrong."""

import hashlib
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from atha.errors import DataError

ImageInput: TypeAlias = str | Path | Image.Image
"""An image file by its path, or an image in memory."""

MAX_PIXELS = 178_956_970
"""Images with more pixels are refused before decoding; Pillow's own limit."""

# A short list on purpose: EPS would start Ghostscript, and every decoder more is one more way to be attacked.
# MPO, the format of many phones, comes through JPEG. TGA is last because it has no signature to be known by.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "ICO", "AVIF", "TGA")

_TRUNCATED = "the image is truncated or corrupt"


class ImageProblem(DataError):  # noqa: N818 - what a user reads in a report is a problem
    """An image that cannot be used.

    Attributes:
        path: The file, or a description of the image in memory.
        reason: What is wrong with it, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        # Both go to the base class, so that the exception survives pickling on its way out of a loader's process.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def open_image(source: ImageInput, at_least: int | None = None) -> Image.Image:
    """Decodes an image to 8-bit RGB, upright, its first frame if it has several.

    EXIF orientation is applied. Transparent parts are laid over white. 16-bit grey images are scaled by the smallest
    bit depth (8, 10, 12, 14, 16) that holds their maximum, so that a 12-bit radiograph does not come out black.
    Floating-point images are taken as 0..1 or 0..255 if their values lie there, and stretched otherwise.

    Args:
        source: A path, or a PIL image, which is left as it is (its current frame is used).
        at_least: A JPEG file may come out smaller, by a power of two, as long as both sides have this many pixels:
            several times faster where a thumbnail is all that is needed.

    Returns:
        A new image of mode ``RGB`` that holds no file open and carries no metadata.

    Raises:
        ImageProblem: The file is missing, is not an image of a known format, is damaged or is too large.
    """
    name = _name(source)
    if isinstance(source, Image.Image):
        _check_size(name, source.size)
        with _trouble_is(name, _TRUNCATED):
            image = source.copy()
        return _finish(name, image)
    with _open_file(source) as file:
        decoder = _read_header(name, file)
        _check_size(name, decoder.size)
        with _trouble_is(name, _TRUNCATED), _no_bomb_warning(decoder.size):
            if at_least is not None:
                decoder.draft(None, (at_least, at_least))  # does nothing for other formats
            decoder.load()
        return _finish(name, decoder)


def content_hash(source: ImageInput) -> str:
    """Says which image this is, wherever it lies.

    Args:
        source: A path, or a PIL image.

    Returns:
        The SHA-256, in hexadecimal, of the file's bytes; for a PIL image, of its mode, size, pixels and palette.

    Raises:
        ImageProblem: The file cannot be read.
    """
    if not isinstance(source, Image.Image):
        with _open_file(source) as file, _trouble_is(str(source), "cannot be read"):
            return hashlib.file_digest(file, "sha256").hexdigest()
    with _trouble_is(_name(source), _TRUNCATED):
        digest = hashlib.sha256(f"{source.mode} {source.width}x{source.height} ".encode())
        digest.update(source.tobytes())
        if source.mode in ("P", "PA"):
            digest.update(repr((source.getpalette("RGBA"), source.info.get("transparency"))).encode())
        return digest.hexdigest()


def _name(source: ImageInput) -> str:
    """What to call an image in a message."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or f"<PIL image, {source.mode}, {source.width} x {source.height}>"
    return str(source)


@contextmanager
def _open_file(source: str | Path) -> Iterator[BufferedReader]:
    """Opens a file that is there, is regular and has content."""
    if not isinstance(source, str | Path):
        raise ImageProblem(f"<{type(source).__name__}>", "neither a path nor a PIL image (see PIL.Image.fromarray)")
    try:
        # The kind is looked at before opening, because opening a pipe waits for someone to write into it.
        mode = os.stat(source).st_mode  # noqa: PTH116 - Path("") is the current folder, and "" is nothing
        if stat.S_ISDIR(mode):
            raise ImageProblem(str(source), "is a folder, not an image file")
        if not stat.S_ISREG(mode):
            raise ImageProblem(str(source), "is not a regular file")
        file = Path(source).open("rb")  # noqa: SIM115 - closed below, so that errors of the body are not taken for ours
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageProblem(str(source), "the file does not exist") from error
    except PermissionError as error:
        raise ImageProblem(str(source), "permission denied") from error
    except OSError as error:
        raise ImageProblem(str(source), f"cannot be opened ({error.strerror or error})") from error
    except ValueError as error:
        raise ImageProblem(str(source), "is not a valid file name") from error
    with file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ImageProblem(str(source), "the file is empty (0 bytes)")
        yield file


@contextmanager
def _trouble_is(name: str, reason: str) -> Iterator[None]:
    """Turns any exception into an `ImageProblem`.

    Any: on damaged bytes Pillow raises OSError, SyntaxError, ValueError, struct.error, EOFError, IndexError,
    OverflowError, zlib.error and more, and says nowhere which.
    """
    try:
        yield
    except ImageProblem:
        raise
    except MemoryError as error:
        raise ImageProblem(name, "there is not enough memory to decode the image") from error
    except Image.DecompressionBombError as error:
        raise ImageProblem(name, _too_large()) from error
    except Exception as error:
        # Pillow's own OSErrors have no number; one with a number comes from the disk or the network.
        system = error.strerror if isinstance(error, OSError) and error.errno else None
        raise ImageProblem(name, f"cannot be read ({system})" if system else reason) from error


@cache
def _decoders() -> list[tuple[Callable[..., ImageFile.ImageFile], Callable[[bytes], bool | str] | None]]:
    """Pillow's decoders for our formats, as far as the installed Pillow has them."""
    Image.init()
    return [Image.OPEN[name] for name in _FORMATS if name in Image.OPEN]


def _read_header(name: str, file: BufferedReader) -> ImageFile.ImageFile:
    """Finds the decoder of a file and reads the header, and no more.

    Done here and not by ``Image.open``, which refuses a huge image without saying its size, and warns of a large one
    through ``warnings``, whose filters cannot be changed for one thread alone.
    """
    with _trouble_is(name, _TRUNCATED):
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
            raise ImageProblem(name, _too_large()) from error
        except Exception:  # noqa: S112 - as in _trouble_is; another format may still fit
            continue
    raise ImageProblem(name, _TRUNCATED if recognised else "not an image that can be read")


def _check_size(name: str, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageProblem(name, _too_large(f"{width} x {height} is {round(width * height / 1e6)} megapixels"))
    if width * height == 0:
        raise ImageProblem(name, f"the image has no pixels ({width} x {height})")


def _too_large(size: str = "the image has too many pixels") -> str:
    return f"{size}, the limit is {round(MAX_PIXELS / 1e6)}"


@contextmanager
def _no_bomb_warning(size: tuple[int, int]) -> Iterator[None]:
    """Silences Pillow's warning of a large image while decoding one.

    Only then: entering ``catch_warnings`` makes Python forget which warnings it has shown already.
    """
    width, height = size
    large = Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings() if large else nullcontext():
        if large:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _finish(name: str, image: Image.Image) -> Image.Image:
    """Turns a decoded image, which may be changed in doing so, upright and into RGB."""
    with suppress(Exception):  # a good picture with broken metadata is still a good picture
        ImageOps.exif_transpose(image, in_place=True)
    with _trouble_is(name, f"colour mode {image.mode} cannot be turned into RGB"):
        rgb = _to_rgb(name, image)
    # What was applied must not be applied again by whoever opens the result.
    rgb.info = {}
    return rgb


def _to_rgb(name: str, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(_grey_from_integers(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(_grey_from_floats(name, np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        # Pillow has no direct way from premultiplied grey.
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _grey_from_integers(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Scales whole numbers of more than 8 bits to 0..255."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0:
        return _stretch(pixels, low, high)
    if high >= 2**16:
        return _stretch(pixels, 0, high)
    depth = next(depth for depth in (8, 10, 12, 14, 16) if high < 2**depth)
    # A table is several times faster, and smaller, than arithmetic on every pixel.
    table = np.rint(np.arange(high + 1) * (255 / (2**depth - 1))).astype(np.uint8)
    return np.take(table, pixels)


def _grey_from_floats(name: str, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Scales floating-point values to 0..255."""
    if not np.isfinite(pixels).all():
        raise ImageProblem(name, "the image holds values that are not finite numbers (NaN or infinity)")
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= 1:
        return _stretch(pixels, 0, 1)
    if low >= 0 and high <= 255:
        return _stretch(pixels, 0, 255)
    return _stretch(pixels, low, high)


def _stretch(pixels: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Maps low..high to 0..255; a flat image, which has no range, to 0."""
    unit = (pixels.astype(np.float64) - low) / max(high - low, np.finfo(np.float64).tiny)
    return np.rint(unit * 255).astype(np.uint8)
