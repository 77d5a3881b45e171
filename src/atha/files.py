"""Writing files whole or not at all, and the folder for what can be made again."""

import os
import tempfile
from pathlib import Path

from atha.errors import DataError


def write_whole(path: Path, text: str, overwrite: bool = False) -> None:
    """Write a text file in UTF-8; what was there stays until the new one is whole.

    Raises:
        DataError: there is a file already and ``overwrite`` is off, or the file cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"), overwrite)


def check_free(path: Path, overwrite: bool = False) -> None:
    """See to it, before any work, that a file can be written.

    Raises:
        DataError: there is a file already and ``overwrite`` is off, or its place is none that can be written to.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, give the name of a file")
    if not overwrite and path.exists():
        raise DataError(f"{path} is there already, give another name or --overwrite")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise DataError(f"{parent} cannot be written to, choose another place for {path.name}")


def write_bytes(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Write a file; what was there stays until the new one is whole.

    Raises:
        DataError: there is a file already and ``overwrite`` is off, or the file cannot be written.
    """
    temporary: Path | None = None
    try:
        if not overwrite and path.exists():
            raise DataError(f"{path} is there already, give another name or --overwrite")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error}), choose another place") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)  # after a success it has another name


def cache_folder() -> Path:
    """Where features and decoded images are kept: ``ATHA_CACHE``, else ``atha`` in the user's cache folder."""
    if chosen := os.environ.get("ATHA_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "atha"
