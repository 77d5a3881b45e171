"""Images that come within other files, written to disk once, as the bytes that they are."""

import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from atha.data.finding import IMAGE_SUFFIXES
from atha.errors import DataError

# A folder that is being written, and the end of its lock's name.
_UNFINISHED, _LOCK = ".new-", ".lock"
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
    from filelock import FileLock

    if (folder / whole).is_file():
        return
    made = folder.parent / f"{_UNFINISHED}{uuid4().hex}"
    lock = FileLock(f"{made}{_LOCK}")  # before the folder, so that none is ever without
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear(folder.parent)
        lock.acquire()
    except OSError as error:
        raise DataError(f"'{folder.parent}' cannot be written ({error.strerror or error}); choose another") from error
    try:
        made.mkdir()
        fill(made)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / whole).is_file():  # else another process was first, with the same content
                raise
    except OSError as error:
        raise DataError(f"'{folder}' cannot be written ({error.strerror or error}); make room there") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


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


def _clear(cache: Path) -> None:
    """Removes what processes that were killed have left; the system frees a process's locks when it ends."""
    from filelock import FileLock, Timeout

    for left in cache.glob(f"{_UNFINISHED}*{_LOCK}"):
        with suppress(OSError, Timeout), FileLock(left, blocking=False):
            shutil.rmtree(left.with_name(left.name.removesuffix(_LOCK)), ignore_errors=True)
            left.unlink(missing_ok=True)
