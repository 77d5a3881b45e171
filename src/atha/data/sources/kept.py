"""Images that come within other files, written to disk once, as the bytes that they are."""

import re
from collections.abc import Callable
from pathlib import Path

from atha.data.finding import IMAGE_SUFFIXES
from atha.durable import replacement
from atha.errors import DataError

_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif"}


def keep_folder(folder: Path, whole: str, fill: Callable[[Path], None]) -> None:
    """Makes a folder that appears when it is complete, unless it is there.

    Args:
        folder: to make.
        whole: the file in it that shows that it is one of these.
        fill: writes all that is in it into a folder of another name.

    Raises:
        DataError: it cannot be written.
    """
    if (folder / whole).is_file():
        return
    try:
        with replacement(folder) as new:  # should another process be first, then with the same content
            new.mkdir()
            fill(new)
    except OSError as error:
        raise DataError(f"'{folder}' cannot be written ({error.strerror or error}); make room there") from error


def image_suffix(content: bytes, path: str) -> str:
    """An ending for an image, by what it holds or what it was called."""
    for signature, suffix in _SIGNATURES.items():
        if content.startswith(signature):
            return suffix
    suffix = Path(path).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ".img"


def safe_name(name: str) -> str:
    """A name that is one plain part of a path on every system."""
    return re.sub(r"[^\w.@-]+", "_", name, flags=re.ASCII).strip("._")[:80] or "_"
