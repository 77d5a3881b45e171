"""HEIC and HEIF, the format of many phones, through pillow-heif (extra ``heic``)."""

from io import BufferedReader

from atha.data.decoders.coloured import Coloured
from atha.data.problems import MissingExtra, trouble_is
from atha.data.samples import Opened

# Bytes of a pixel in decoding, at 10 bits with full colour and alpha; and pixels beyond which it may take long.
_BYTES, _MANY = 16, 56_000_000


def open_heif(name: str, file: BufferedReader) -> Opened:
    """An 8-bit image; deeper ones are brought to 8 bits by their full range.

    Raises:
        MissingExtra: pillow-heif is not installed.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise MissingExtra(name, "HEIC", "heic") from None
    with trouble_is(name):
        decoder = HeifImageFile(file, name)
    pixels = decoder.width * decoder.height
    return Coloured(name, decoder, lambda shrink: _BYTES * pixels, slow=pixels > _MANY)
