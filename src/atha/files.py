"""Writing files whole or not at all, and the folder for what can be made again."""

import os
import tempfile
from pathlib import Path

from atha.errors import DataError


def write_whole(path: Path, text: str, overwrite: bool = False) -> None:
    """Write a text file; what was there stays until the new one is whole.

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
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            file.write(text)
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
