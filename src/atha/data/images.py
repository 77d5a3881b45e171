"""Safe decoding of images: whatever the file holds, the answer is 8-bit RGB or one sentence about what is wrong."""

import hashlib
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from atha.data.budget import ROOM, Limits, shrinks
from atha.data.decoders.coloured import Coloured
from atha.data.decoders.files import of_deep_grey, open_file
from atha.data.problems import BandsProblem, ImageProblem, TooLarge, trouble_is
from atha.data.reading import AS_BEFORE, Reading
from atha.data.samples import STRIP, Opened, Samples, Tell, rows_of
from atha.defaults import MAX_PIXELS
from atha.errors import AthaWarning, DataError

__all__ = [
    "BandsProblem", "ImageInput", "ImageProblem", "ImageReader", "SeveralImages", "content_hash", "each_image",
    "image_name", "open_image",
]  # fmt: skip

ImageInput: TypeAlias = str | Path | Image.Image | NDArray[Any]
"""An image file by its path; or an image in memory, as PIL has it or as an array of H x W, or H x W x bands."""

SeveralImages: TypeAlias = ImageInput | Iterable[ImageInput]
"""Images of any number, or one."""

Made = TypeVar("Made")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# An array's last axis is its bands, and nobody has more.
_MOST_BANDS = 512


def open_image(
    source: ImageInput,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    *,
    max_pixels: int = MAX_PIXELS,
    at_least: int | None = None,
) -> Image.Image:
    """Decodes an image to 8-bit RGB, upright, its first frame if it has several.

    EXIF orientation is applied. Parts that the file says are transparent are laid over white. Images of more than
    8 bits, or of many bands, are read by the rule of their data set; without one, each is stretched by itself (see
    `atha.data.stretch.own_range`). An image that would take more than 0.9 GB at its full size is read at half of it,
    a quarter or an eighth.

    Args:
        source: A path; a PIL image, which is left as it is (its current frame is used); or an array (H, W), (H, W, 1)
            for grey or (H, W, bands) for colour, without alpha.
        reading: The rule.
        max_pixels: Larger images are refused, before decoding.
        at_least: A JPEG file may come out smaller, by a power of two, as long as both sides have this many pixels:
            several times faster where a thumbnail is all that is needed.

    Returns:
        A new image of mode ``RGB`` that holds no file open and carries no metadata.

    Raises:
        ImageProblem: The file is missing, is not an image of a known format, is damaged, is too large or would take
            too long, or a library is missing that would read it.
    """
    return ImageReader(reading, max_pixels, quiet=True).make(source, lambda image: image, at_least)


@dataclass
class ImageReader:
    """Reads the images of one data set, all by one rule. Any number of threads may use it.

    Attributes:
        reading: the rule.
        max_pixels: larger images are refused.
        quiet: says nothing of images that the rule does not know.
    """

    reading: Reading = field(default_factory=Reading)
    max_pixels: int = MAX_PIXELS
    quiet: bool = False
    _said: set[str] = field(default_factory=set, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def open(self, source: ImageInput) -> Image.Image:
        """See `open_image`.

        Raises:
            ImageProblem: as for `open_image`.

        Warns:
            AthaWarning: once, of a kind of image that the rule does not know.
        """
        return self.make(source, lambda image: image)

    def make(self, source: ImageInput, use: Callable[[Image.Image], Made], at_least: int | None = None) -> Made:
        """Something made of an image, which takes part in the budget of memory until this is done.

        Args:
            source: see `open_image`.
            use: makes it.
            at_least: see `open_image`.

        Raises:
            ImageProblem: as for `open_image`.
        """
        limits = Limits(self.max_pixels)
        with _opened(source, self.reading, limits) as found:
            shrink, need = _fitting(found, limits)
            with ROOM.taken(need):
                if found.slow and isinstance(source, str | Path):
                    from atha.data.apart import decode_apart

                    return use(decode_apart(Path(source), self.reading, limits, shrink))
                return use(_render(found, self.reading, shrink, at_least, self._tell))

    def make_hashed(
        self, source: ImageInput, use: Callable[[Image.Image], Made], at_least: int | None = None
    ) -> tuple[Made, str]:
        """As `make`, and the `content_hash` of the image: after it, as what is no image may go on for gigabytes.

        Raises:
            ImageProblem: as for `open_image`.
        """
        made = self.make(source, use, at_least)
        return made, content_hash(source)

    def look(self, source: ImageInput, use: Callable[[Opened], Made]) -> Made:
        """Something found out about an image as its file has it, within the budget of memory.

        Raises:
            ImageProblem: as for `open_image`.
        """
        limits = Limits(self.max_pixels)
        with _opened(source, self.reading, limits) as found, ROOM.taken(_fitting(found, limits)[1]):
            try:
                with trouble_is(found.name):
                    return use(found)
            finally:
                found.release()

    def _tell(self, sentence: str) -> None:
        if self.quiet or self.reading == AS_BEFORE:
            return
        with self._lock:
            if sentence in self._said:
                return
            self._said.add(sentence)
        warnings.warn(sentence, AthaWarning, stacklevel=2)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())


def decode_here(path: Path, reading: Reading, limits: Limits, shrink: int) -> Image.Image:
    """An image made smaller by a factor, in this process whatever its header says."""
    with _opened(path, reading, limits) as found:
        return _render(found, reading, shrink, None, lambda sentence: None)


def content_hash(source: ImageInput) -> str:
    """Says which image this is, wherever it lies.

    Args:
        source: A path, a PIL image or an array.

    Returns:
        The SHA-256, in hexadecimal, of the file's bytes; for a PIL image, of its mode, size, pixels and palette; for
        an array, of its type, shape and values.

    Raises:
        ImageProblem: The file cannot be read.
    """
    if isinstance(source, np.ndarray):
        digest = hashlib.sha256(f"array {source.dtype.str} {source.shape} ".encode())
        digest.update(np.ascontiguousarray(source).tobytes())
        return digest.hexdigest()
    if not isinstance(source, Image.Image):
        with _open_file(source) as file, trouble_is(str(source), "cannot be read"):
            return hashlib.file_digest(file, "sha256").hexdigest()
    with trouble_is(image_name(source)):
        digest = hashlib.sha256(f"{source.mode} {source.width}x{source.height} ".encode())
        digest.update(source.tobytes())
        if source.mode in ("P", "PA"):
            digest.update(repr((source.getpalette("RGBA"), source.info.get("transparency"))).encode())
        return digest.hexdigest()


def each_image(images: SeveralImages) -> Iterable[ImageInput]:
    """The images one by one, whatever they were given as.

    Args:
        images: anything that can be iterated, also once only; an array of (images, height, width, bands); or one image.

    Raises:
        DataError: it is neither images nor one image.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "buif":
        return [images] if images.ndim < 4 else list(images)
    if isinstance(images, str | Path | Image.Image):
        return [images]
    try:
        iter(images)
        several = not isinstance(images, bytes | bytearray) and not hasattr(images, "read")
    except TypeError:
        several = False
    if not several:
        raise DataError(
            f"images are given as a value of type {type(images).__name__}: give a path, a PIL image or an array, or "
            "several of them, such as a list"
        )
    return images


def image_name(source: ImageInput) -> str:
    """What to call an image in a message or a table: its path, or what it is."""
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or f"<PIL image, {source.mode}, {source.width} x {source.height}>"
    if isinstance(source, np.ndarray):
        return f"<array, {source.dtype}, {' x '.join(map(str, source.shape))}>"
    return str(source) if isinstance(source, str | Path) else f"<{type(source).__name__}>"


def _fitting(found: Opened, limits: Limits) -> tuple[int, int]:
    """The smallest factor by which an image fits into memory, and the bytes that it then takes."""
    if found.size[0] * found.size[1] == 0:
        raise ImageProblem(found.name, f"the image has no pixels ({found.size[0]} x {found.size[1]})")
    limits.check(found.name, found.size)
    need = 0
    for factor in shrinks():
        need = found.memory(factor)
        if need <= limits.memory:
            return factor, need
    raise TooLarge(found.name, limits.too_big(need, found.size[0] * found.size[1]))


def _render(found: Opened, reading: Reading, shrink: int, at_least: int | None, tell: Tell) -> Image.Image:
    if at_least is not None and isinstance(found, Coloured):
        found.at_least(at_least)
    with trouble_is(found.name), _no_bomb_warning(found.size):
        image = found.render(reading, shrink, tell)
    turn = _TURNS.get(found.orientation())
    found.release()
    if turn is not None:
        image = image.transpose(turn)
    # What was applied must not be applied again by whoever opens the result.
    image.info = {}
    return image


@contextmanager
def _opened(source: ImageInput, reading: Reading, limits: Limits) -> Iterator[Opened]:
    """An image whose header was read, and whose file is open."""
    if isinstance(source, Image.Image):
        yield _of_pil(source)
    elif isinstance(source, np.ndarray):
        yield _of_array(source)
    else:
        with _open_file(source) as file:
            with trouble_is(str(source)):
                found = open_file(str(source), file, limits)
                chosen = (None if found.other is None else found.other(reading)) or found
            try:
                yield chosen
            finally:
                found.release()
                chosen.release()


def _of_pil(image: Image.Image) -> Opened:
    name = image_name(image)
    if image.mode.startswith("I") or image.mode == "F":
        return of_deep_grey(name, image, own=False)
    tiff = image if isinstance(image, TiffImageFile) and image.mode == "RGBA" else None
    alpha = tiff is None or any(what in (1, 2) for what in tiff.tag_v2.get(338, ()))
    return Coloured(name, image, lambda shrink: 0, own=False, alpha=alpha, tagged=tiff is not None and alpha)


def _of_array(array: NDArray[Any]) -> Samples:
    """An array as an image.

    Raises:
        ImageProblem: it is of another shape or type.
    """
    name, shape = image_name(array), array.shape
    if array.dtype.kind not in "buif":
        raise ImageProblem(name, f"holds values of type {array.dtype}: give uint8, or other numbers")
    if array.ndim == 3 and shape[2] > _MOST_BANDS >= shape[0]:
        raise ImageProblem(name, "has its bands first, and they must be last: give image.transpose(1, 2, 0)")
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= shape[2] <= _MOST_BANDS):
        raise ImageProblem(name, "must be (height, width) or (height, width, bands): give one image at a time")
    whole = array[..., None] if array.ndim == 2 else array
    if array.dtype.kind == "b":
        whole = whole.astype(np.uint8) * 255

    count = whole.shape[2]
    colours = {1: (0,), 3: (0, 1, 2)}.get(count)
    size, read = (shape[1], shape[0]), partial(rows_of, whole)
    return Samples(name, size, count, whole.dtype, read, colours, 64 * STRIP)


@contextmanager
def _open_file(source: str | Path) -> Iterator[BufferedReader]:
    """Opens a file that is there, is regular and has content."""
    if not isinstance(source, str | Path):
        raise ImageProblem(
            image_name(source),
            "is neither a path, a PIL image nor an array: give one of these (see np.asarray)",
        )
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
