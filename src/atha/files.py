"""Writing files and folders whole or not at all, and the folder for what can be made again."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atha.durable import replacement, tidy
from atha.errors import AdapterError, AthaError, DataError


def check_free(path: Path, overwrite: bool = False, option: str = "") -> None:
    """See to it, before any work, that a file can be written.

    Args:
        path: the file.
        overwrite: whether one that is there may be replaced.
        option: of the command line, that names the file; its folder must then be there, else it is made.

    Raises:
        DataError: there is a file already and ``overwrite`` is off, or its place is none that can be written to.
    """
    with _writable(path, option, DataError):
        tidy(path.parent)
        if path.is_dir():
            raise DataError(f"{path} is a folder, give {f'{option} ' if option else ''}the name of a file")
        if not overwrite and path.exists():
            raise DataError(_taken(path, option))
        parent = path.absolute().parent
        if option and not parent.is_dir():
            raise DataError(f"there is no folder {parent} to write {path.name} to, make it or choose another {option}")
        if (closed := _closed(path.absolute())) is not None:
            another = f"choose another {option}" if option else f"choose another place for {path.name}"
            raise DataError(f"{closed} cannot be written to, {another}")


def check_folder_free(path: Path, overwrite: bool, what: str, is_one: Callable[[Path], bool]) -> None:
    """See to it, before any work, that the folder which ``--out`` names can be written.

    Args:
        path: the folder.
        overwrite: whether one of its kind that is there may be replaced.
        what: is kept in such a folder, in a word.
        is_one: tells a folder of its kind from others.

    Raises:
        AdapterError: something is there that would be lost, or the place cannot be written to.
    """
    with _writable(path, "--out", AdapterError):
        place = path.resolve()  # "new/.." is the folder that we are in, even before there is a "new"
        tidy(place.parent)
        if path.is_symlink() and not path.exists():
            raise AdapterError(f"{path} is a link to nothing, choose another --out")
        if place.exists() and not place.is_dir():
            raise AdapterError(f"{path} is a file, choose another --out for the {what}'s folder")
        if place.is_dir() and any(place.iterdir()):
            if not is_one(place):
                raise AdapterError(f"{path} is not empty and no {what}, choose another --out: nothing there is touched")
            if not overwrite:
                raise AdapterError(f"{path} holds an {what} already, choose another --out or pass --overwrite")
        if (closed := _closed(place)) is not None:
            raise AdapterError(f"{closed} cannot be written to, choose another --out")


def write_whole(path: Path, text: str, overwrite: bool = False) -> None:
    """`write_bytes` of a text, in UTF-8."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), overwrite)


def write_bytes(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Write a file; what was there stays until the new one is whole.

    Raises:
        DataError: there is a file already and ``overwrite`` is off, or the file cannot be written.
    """
    with whole_file(path, overwrite) as new:
        new.write_bytes(content)


@contextmanager
def whole_file(path: Path, overwrite: bool = False, option: str = "") -> Iterator[Path]:
    """A temporary file, to be written, that takes its name when the block ends without an error.

    Args:
        path: the file to make; what was there stays until the new one is whole.
        overwrite: whether there may be one.
        option: of the command line, that names the file.

    Raises:
        DataError: there is a file already and ``overwrite`` is off, or the file cannot be written.
    """
    with _writable(path, option, DataError):
        if not overwrite and path.exists():
            raise DataError(_taken(path, option))
        with replacement(path) as new:
            new.touch()
            yield new
            new.chmod(0o644)


@contextmanager
def whole_folder(path: Path, keep: bool = False) -> Iterator[Path]:
    """A temporary folder, for files, that takes the place of ``path`` when the block ends without an error.

    Args:
        path: the folder to make, that ``--out`` names; what was there stays until the new one is whole. Of a link, the
            folder behind it is replaced.
        keep: begin with what is there. Files are links to the same content where the system has such links: they are
            to be replaced, never written into.

    Raises:
        AdapterError: the folder cannot be written.
    """
    target = path.resolve()
    with _writable(target, "--out", AdapterError), replacement(target) as new:
        if keep:
            shutil.copytree(target, new, symlinks=True, copy_function=_link)
            yield new
            return
        new.mkdir()
        yield new
        for file in new.iterdir():
            file.chmod(0o644)  # safetensors writes files that nobody else may read
        new.chmod(0o755)


def _link(source: str, new: str) -> None:
    try:
        os.link(source, new, follow_symlinks=False)
    except OSError:  # the file system has no such links
        shutil.copy2(source, new, follow_symlinks=False)


def _closed(place: Path) -> Path | None:
    """What stands where the parents of a place should be made, and lets nobody."""
    parent = next(folder for folder in place.parents if folder.exists())
    return None if parent.is_dir() and os.access(parent, os.W_OK) else parent


def _taken(path: Path, option: str) -> str:
    if option:
        return f"{path} exists already, choose another {option} or pass --overwrite"
    return f"{path} is there already, give another name or --overwrite"


@contextmanager
def _writable(path: Path, option: str, error: type[AthaError]) -> Iterator[None]:
    """What the system says against writing a file or folder, in a sentence."""
    try:
        yield
    except OSError as problem:
        mend = f"free space or choose another {option}" if option else "choose another place"
        raise error(f"cannot write {path} ({problem.strerror or problem}), {mend}") from problem


def cache_folder() -> Path:
    """Where features and decoded images are kept: ``ATHA_CACHE``, else ``atha`` in the user's cache folder."""
    if chosen := os.environ.get("ATHA_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "atha"
