"""Images of 8-bit grey and colour, as Pillow has them."""

from collections.abc import Callable

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from atha.data.problems import ImageProblem, trouble_is
from atha.data.reading import Reading
from atha.data.samples import NO_MASK, STRIP, Opened, Tell, assemble, result_bytes, wanted_bands

# Values of a pixel in Pillow's memory: one byte in these modes, four in all others.
_ONE_BYTE = ("1", "L", "P")
# Modes whose bands are taken as they are; others become RGB first.
_AS_THEY_ARE = ("1", "L", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX")


class Coloured(Opened):
    """An 8-bit image.

    Args:
        name: for messages.
        image: whose pixels are made when they are wanted.
        need: bytes that this takes, at a size smaller by a factor.
        scale: makes the image smaller by a factor before its pixels are made, and says by what is left to do; None
            where its format cannot.
        own: whether nobody else has the image.
        slow: see `Opened`.
        alpha: whether what Pillow takes for alpha is, by the file.
        tagged: whether a TIFF file calls it so.
    """

    def __init__(
        self,
        name: str,
        image: Image.Image,
        need: Callable[[int], int],
        scale: Callable[[int], int] | None = None,
        *,
        own: bool = True,
        slow: bool = False,
        alpha: bool = True,
        tagged: bool = False,
    ) -> None:
        self.name, self.size = name, image.size
        self._image, self._need, self._scale, self.slow = image, need, scale, slow
        self._own, self._alpha, self._tagged = own, alpha, tagged

    def at_least(self, side: int) -> None:
        """Let a JPEG come out smaller, by a power of two, as long as both sides have this many pixels."""
        if isinstance(self._image, JpegImageFile):
            self._image.draft(None, (side, side))

    def memory(self, shrink: int) -> int:
        """See `Opened`."""
        pixels = self.size[0] * self.size[1]
        held = pixel_bytes(self._image.mode) * pixels
        if self._scale is not None:
            held //= shrink**2
        result = result_bytes(self.size, shrink)
        parts = 0 if self._image.mode == "RGB" else 16 * min(pixels, 2 * STRIP)
        return max(self._need(shrink), held + result // 2 + parts, result)

    def check(self, reading: Reading) -> None:
        """See `Opened`."""
        if reading.bands is not None:
            wanted_bands(self.name, reading.bands, _bands(self._image))

    def orientation(self) -> int:
        """See `Opened`."""
        return orientation_of(self._image)

    def release(self) -> None:
        """See `Opened`."""
        if self._own:
            self._image.close()  # Pillow's decoders hold themselves, and would keep their pixels for a while

    def opacity(self) -> float | None:
        """See `Opened`."""
        if not self._tagged:
            return None
        self._load()
        counts = self._image.getchannel("A").histogram()
        return (counts[0] + counts[255]) / sum(counts)

    def render(self, reading: Reading, shrink: int, tell: Tell) -> Image.Image:
        """See `Opened`."""
        left = shrink if self._scale is None else self._scale(shrink)
        self._load()
        image = self._image
        alpha = self._alpha and not (self._tagged and reading.alpha is False)
        if alpha and self._tagged and reading.alpha is None and reading.bands is None and self.opacity() == 0:
            tell(NO_MASK)
            alpha = False

        def to_rgb(part: Image.Image) -> Image.Image:
            with trouble_is(self.name, f"colour mode {image.mode} cannot be turned into RGB"):
                if reading.bands is not None:
                    return _of_bands(self.name, part, reading.bands)
                return _to_rgb(part, alpha)

        plain = image.mode == "RGB" and not image.has_transparency_data and reading.bands is None
        if plain and left > 1:
            return image.reduce(left)  # without a copy of it all
        if plain and isinstance(image, ImageFile.ImageFile) and self._own and not image.readonly:
            return image._new(image.im)  # nobody else has it, and it is no map of the file
        if plain or image.width * image.height <= 2 * STRIP:
            return assemble(image.size, [to_rgb(image)], left)
        rows = max(left, STRIP // image.width // left * left)
        tops = range(0, image.height, rows)
        return assemble(
            image.size,
            (to_rgb(image.crop((0, top, image.width, min(image.height, top + rows)))) for top in tops),
            left,
        )

    def _load(self) -> None:
        with trouble_is(self.name):
            self._image.load()
            if self._image.width * self._image.height > self.size[0] * self.size[1]:
                raise ImageProblem(self.name, "the image is larger than its header says")


def pixel_bytes(mode: str) -> int:
    """Bytes of a pixel in Pillow's memory."""
    return 1 if mode in _ONE_BYTE else 2 if mode.startswith("I;16") else 4


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation; a good picture with broken metadata is still a good picture."""
    try:
        found = image.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _to_rgb(image: Image.Image, alpha: bool) -> Image.Image:
    """With what is transparent laid over white; without alpha, the first three bands as they are."""
    if not alpha and len(image.getbands()) == 4:
        return Image.merge("RGB", image.split()[:3])
    if image.has_transparency_data:
        # Pillow has no direct way from premultiplied grey.
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _bands(image: Image.Image) -> int:
    """How many bands `_of_bands` chooses from."""
    if image.mode in ("P", "PA"):
        return 4 if image.has_transparency_data else 3
    return len(image.getbands()) if image.mode in _AS_THEY_ARE else 3


def _of_bands(name: str, image: Image.Image, wanted: tuple[int, ...]) -> Image.Image:
    """Some of an image's bands as colours, as they are."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in _AS_THEY_ARE:
        image = image.convert("RGB")
    bands = image.split()
    chosen = [bands[band] for band in wanted_bands(name, wanted, len(bands))]
    return Image.merge("RGB", chosen if len(chosen) == 3 else chosen * 3)
