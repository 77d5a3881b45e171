"""Finding image files: what paths, folders and patterns mean, and what is near a path that is not there."""

import difflib
import glob
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from atha.data.selection import Selection
from atha.errors import AthaWarning, DataError

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm",
    ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ico", ".avif", ".tga",
    ".heic", ".heif", ".hif", ".dcm", ".dicom", ".dic",
})
# fmt: on
"""File name endings, in lower case, of the formats that can be read, some of them with an extra."""

# What a disk of DICOM files has for a table of contents: DICOM, and no image.
_INDEX = "DICOMDIR"
_HIDDEN_NAMES = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information"}
)


def is_hidden(path_part_name: str) -> bool:
    """Whether a file or folder of this name is the system's and not the user's.

    Args:
        path_part_name: One part of a path, such as ``.DS_Store`` or ``Thumbs.db``.

    Returns:
        True for names that start with a dot, and in any case for ``Thumbs.db``, ``desktop.ini``, ``__MACOSX``,
        ``__pycache__``, ``@eaDir``, ``$RECYCLE.BIN`` and ``System Volume Information``.
    """
    return path_part_name.startswith(".") or path_part_name.lower() in _HIDDEN_NAMES


def looks_like_image(file: Path) -> bool:
    """Whether a file has the ending of an image or begins as one does."""
    from atha.data.decoders.files import knows

    return file.suffix.lower() in IMAGE_SUFFIXES or knows(_head(file))


def find_images(inputs: Sequence[str | Path], selection: Selection = Selection("predict")) -> list[Path]:  # noqa: B008
    """Lists the image files that are meant by paths, folders, patterns and lists.

    A file is kept whatever its suffix, unless it is a list or a table of images, see `atha.data.lists`. A folder gives
    the images below it, at any depth: files that have the suffix of an image or begin as one does; hidden ones are
    passed over. A pattern (``*``, ``?``, ``[...]``, and ``**`` for any depth) gives those that it matches, and all that
    it matches if it spells a suffix out. A file whose very name looks like a pattern, such as ``a[1].jpg``, wins over
    the pattern.

    Args:
        inputs: Files, folders, patterns and lists.
        selection: Where a table has what.

    Returns:
        Each file once, in the order of the inputs, sorted within each but lists.

    Raises:
        DataError: An input that gives no file.

    Warns:
        AthaWarning: Of files that are no images.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    from atha.data import takes_columns

    if not inputs:
        raise DataError("there are no images to read: give at least one file, folder, pattern or list")
    if selection.given and not any(takes_columns(str(item)) for item in inputs):
        raise DataError(f"{selection.given[0]} is for tables, and '{inputs[0]}' is none; leave it out")
    found: dict[str, Path] = {}
    for item in inputs:
        for path in _find(item, selection):
            found.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - Path.absolute keeps "..", so twins differ
    return list(found.values())


def walk_files(root: Path) -> list[Path]:
    """Lists the files below a folder, at any depth, that are not hidden.

    Links to folders are followed, each real folder once, so that links in a circle end.

    Args:
        root: The folder.

    Returns:
        The files, sorted by their POSIX path relative to the folder.

    Raises:
        DataError: A folder that cannot be listed.
    """
    try:
        walked = list(_walk(root, set(), _raise))
    except OSError as error:
        raise unlistable(root, error) from error
    files = [folder / name for folder, names in walked for name in names if not is_hidden(name)]
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _walk(
    root: Path, seen: set[Path], onerror: Callable[[OSError], None] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those below it that are not hidden, with their files; none whose real folder was seen."""
    real = root.resolve()
    if real in seen:
        return
    seen.add(real)
    for folder, folder_names, file_names in os.walk(root, onerror=onerror, followlinks=True):
        here = Path(folder)
        entered = []
        for name in sorted(folder_names):
            real = (here / name).resolve()
            if not is_hidden(name) and real not in seen:
                seen.add(real)
                entered.append(name)
        folder_names[:] = entered
        yield here, file_names


def folders_in(root: Path) -> list[Path]:
    """The folders right in a folder that are not hidden; none of one that cannot be listed."""
    try:
        return [entry for entry in root.iterdir() if not is_hidden(entry.name) and kind_of(entry) == "folder"]
    except (OSError, ValueError):
        return []


def unlistable(folder: Path, error: OSError) -> DataError:
    """The error for a folder whose content the system does not give, named by the system where it can."""
    return DataError(
        f"the folder '{error.filename or folder}' cannot be listed ({error.strerror or error}); check its permissions"
    )


def did_you_mean(path: Path) -> str:
    """For the message of a missing path: `` (did you mean 'x'?)``, or nothing if no existing path is near."""
    missing = path
    while kind_of(missing.parent) != "folder":
        if missing.parent == missing:
            return ""
        missing = missing.parent
    try:
        siblings = [sibling.name for sibling in missing.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(missing.name, siblings, n=1)
    return f" (did you mean '{missing.parent / near[0]}'?)" if near else ""


def kind_of(path: Path) -> str:
    """``"file"``, ``"folder"``, or ``""`` if nothing is there or it may not be seen; never raises."""
    try:
        return "folder" if stat.S_ISDIR(path.stat().st_mode) else "file"
    except (OSError, ValueError):
        return ""


def _find(item: str | Path, selection: Selection) -> Sequence[Path]:
    """The files that one input of `find_images` means; never none."""
    from atha.data import takes_columns
    from atha.data.decoders.files import knows
    from atha.data.lists import read_images

    path = Path(item)
    kind = kind_of(path) if str(item) else ""
    if not kind and takes_columns(str(item)):
        return read_images(path, selection)
    if kind == "file":
        if takes_columns(str(item)) and not knows(_head(path)):
            return read_images(path, selection)
        return [path]
    if kind == "folder":
        return _images(walk_files(path), f"the folder '{item}'", "give a folder with images")
    if any(character in str(item) for character in "*?["):
        mend = "check it, and write '**' where sub-folders are meant"
        return _images(_match(str(item)), f"the pattern '{item}'", mend, suffix=Path(item).suffix)
    raise DataError(f"there is no file or folder '{item}'{did_you_mean(path)}; check the path")


def _images(files: Sequence[Path], source: str, mend: str, suffix: str = "") -> list[Path]:
    """Those of some files that are images: all, if a pattern asks for files of a suffix."""
    every = len(suffix) > 1 and not any(character in suffix for character in "*?[")
    images: list[Path] = []
    others: list[str] = []
    for file in files:
        if every or looks_like_image(file):
            images.append(file)
        elif file.name != _INDEX:
            others.append(named_kind(file))
    if not images:
        raise DataError(f"{source} gives no image{f' (but {some_of(others)})' if others else ''}; {mend}")
    if others:
        those = "1 file is no image and is" if len(others) == 1 else f"{len(others):,} files are no images and are"
        warnings.warn(f"of {source}, {those} passed over: {some_of(others)}", AthaWarning, stacklevel=4)
    return images


def named_kind(file: Path) -> str:
    """The name of a file that is no image, with what it is where that is known."""
    from atha.data.headers import foreign

    return f"{file.name} ({what})" if (what := foreign(_head(file))) else file.name


def some_of(names: Sequence[str], limit: int = 5) -> str:
    """The first few, for a message."""
    return ", ".join([*names[:limit], *["..."] * (len(names) > limit)])


def _head(file: Path) -> bytes:
    """The first bytes; none of what cannot be read or is no image whatever it holds."""
    from atha.data.decoders.files import HEAD

    try:
        # A pipe would wait for someone to write into it.
        if not stat.S_ISREG(file.stat().st_mode) or file.name == _INDEX:
            return b""
        with file.open("rb") as opened:
            return opened.read(HEAD)
    except (OSError, ValueError):
        return b""


def _match(pattern: str) -> list[Path]:
    """The files that match a pattern; hidden ones only where the pattern names them.

    ``**`` is any number of folders, each real one once, so that links in a circle end.
    """
    spelled = set(Path(pattern).parts)
    parts = Path(pattern).parts
    # What stands before the first "**", between two, and behind the last.
    first, *others = (list(group) for stars, group in groupby(["", *parts], "**".__eq__) if not stars)
    matches = _glob(Path(), first)
    for below in [*others, *([["*"]] if parts[-1] == "**" else [])]:
        seen: set[Path] = set()
        folders = [folder for root in matches if root.is_dir() for folder, _ in _walk(root, seen)]
        matches = [path for folder in folders for path in _glob(folder, below)]
    return [
        path
        for path in sorted(set(matches))
        if kind_of(path) == "file" and not any(is_hidden(part) for part in path.parts if part not in spelled)
    ]


def _glob(folder: Path, parts: Sequence[str]) -> list[Path]:
    """What matches parts of a pattern, none of them ``**``, in a folder."""
    pattern = str(Path(glob.escape(str(folder)), *parts))
    return [Path(match) for match in glob.glob(pattern)]  # noqa: PTH207 - may be absolute


def _raise(error: OSError) -> None:
    raise error
