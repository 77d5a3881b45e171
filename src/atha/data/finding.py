"""Finding image files: what paths, folders and patterns mean, and what is near a path that is not there."""

import difflib
import glob
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from atha.errors import DataError

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".ppm",
    ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ico", ".avif", ".tga",
    ".heic", ".heif", ".hif", ".dcm", ".dicom", ".dic",
})
# fmt: on
"""File name endings, in lower case, of the formats that can be read, some of them with an extra."""

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
    """Whether a file has the ending of an image, or is DICOM, which often has none or a number for one."""
    if file.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        if not stat.S_ISREG(file.stat().st_mode) or file.name == "DICOMDIR":
            return False
        with file.open("rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except (OSError, ValueError):
        return False


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """Lists the image files that are meant by paths, folders and patterns.

    A file is kept whatever its suffix. A folder gives the files below it, at any depth, that have the suffix of an
    image or are DICOM; hidden ones are passed over. A pattern (``*``, ``?``, ``[...]``, and ``**`` for any depth) gives
    the files that it matches: with the suffix of an image, unless the pattern spells a suffix out. A file whose very
    name looks like a pattern, such as ``a[1].jpg``, wins over the pattern.

    Args:
        inputs: Files, folders and patterns.

    Returns:
        Each file once, in the order of the inputs, sorted within each.

    Raises:
        DataError: An input that gives no file.
    """
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    if not inputs:
        raise DataError("there are no images to read: give at least one file, folder or pattern")
    found: dict[str, Path] = {}
    for item in inputs:
        for path in _find(item):
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
    files: list[Path] = []
    seen = {root.resolve()}
    try:
        for folder, folder_names, file_names in os.walk(root, onerror=_raise, followlinks=True):
            here = Path(folder)
            entered = []
            for name in sorted(folder_names):
                real = (here / name).resolve()
                if not is_hidden(name) and real not in seen:
                    seen.add(real)
                    entered.append(name)
            folder_names[:] = entered
            files += [here / name for name in file_names if not is_hidden(name)]
    except OSError as error:
        raise unlistable(root, error) from error
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


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


def _find(item: str | Path) -> Iterable[Path]:
    """The files that one input of `find_images` means; never none."""
    path = Path(item)
    kind = kind_of(path) if str(item) else ""
    if kind == "file":
        return [path]
    if kind == "folder":
        files = [file for file in walk_files(path) if looks_like_image(file)]
        if not files:
            raise DataError(f"the folder '{item}' holds no image; give a folder with files such as .jpg, .png or .tif")
        return files
    if any(character in str(item) for character in "*?["):
        files = _match(str(item))
        if not files:
            raise DataError(
                f"no image matches the pattern '{item}'; check it, and write '**' where sub-folders are meant"
            )
        return files
    raise DataError(f"there is no file or folder '{item}'{did_you_mean(path)}; check the path")


def _match(pattern: str) -> list[Path]:
    """The files that match a pattern; hidden ones only where the pattern names them."""
    spelled = set(Path(pattern).parts)
    suffix = Path(pattern).suffix
    any_suffix = len(suffix) > 1 and not any(character in suffix for character in "*?[")
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207 - may be absolute
    return [
        path
        for path in matches
        if kind_of(path) == "file"
        and (any_suffix or looks_like_image(path))
        and not any(is_hidden(part) for part in path.parts if part not in spelled)
    ]


def _raise(error: OSError) -> None:
    raise error
