"""Image data sets in the form of the Hugging Face hub, from the hub or a local folder."""

import csv
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from atha.data.finding import IMAGE_SUFFIXES, did_you_mean, kind_of
from atha.data.sources.columns import LABEL_COLUMNS
from atha.errors import DataError

PREFIX = "hf:"
"""What the name of such a data set starts with."""

# A folder that is being written, and the end of its lock's name.
_UNFINISHED, _LOCK = ".new-", ".lock"
_SPLITS = ("test", "train")
_INSTALL = "install it with: pip install 'atha[datasets]'"
_SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif"}


@dataclass(frozen=True)
class HubImages:
    """A data set whose images have been written to disk.

    Attributes:
        name: the data set and its split, such as ``org/name@test``.
        table: a table of paths and labels, beside folders of images.
    """

    name: str
    table: Path


def fetch(reference: str, cache: Path) -> HubImages:
    """Writes the images of a data set to disk, as the bytes that they are, once for each version of the data set.

    Code that comes with a data set is never run. Images are not decoded.

    Args:
        reference: ``hf:ORG/NAME`` or ``hf:FOLDER``, with ``@SPLIT`` at its end or not. Without, the split is ``test``
            if there is one, then ``train``, then the only one there is.
        cache: the folder below which images are written.

    Returns:
        Where the images are.

    Raises:
        DataError: the library ``datasets`` is missing, the data set cannot be had, or it has no images with labels.
    """
    library = _library()
    name, split = _parse(reference)
    data, split = _load(library, name, split)
    image, label = _image_column(library, name, data), _label_column(library, name, data)
    shown = f"{Path(name).name if kind_of(Path(name)) == 'folder' else name}@{split}"
    # The fingerprint stands for the files that the data were made of, so that a new version is a new folder.
    folder = cache / f"{_safe(shown)}-{_safe(str(getattr(data, '_fingerprint', 'any')))}"
    if not (folder / "labels.csv").is_file():
        _write(folder, _rows(library, data, name, image, label, shown))
    return HubImages(shown, folder / "labels.csv")


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"data sets of the hub need the library 'datasets'; {_INSTALL}") from error
    if int(str(datasets.__version__).split(".", maxsplit=1)[0]) < 4:
        # Earlier ones can run code that comes with a data set.
        raise DataError(
            f"the library 'datasets' is version {datasets.__version__}, and 4 or later is needed; {_INSTALL}"
        )
    return datasets


def _parse(reference: str) -> tuple[str, str | None]:
    """Name and split; a folder whose own name holds an ``@`` is taken as it is."""
    name = reference.removeprefix(PREFIX)
    before, at, split = name.rpartition("@")
    if at and kind_of(Path(name)) != "folder":
        if not re.fullmatch(r"\w[\w.-]*", split) or not before:
            raise DataError(f"'{reference}' names no split after '@'; write it as {PREFIX}ORG/NAME@test")
        return before, split
    if not name:
        raise DataError(f"'{reference}' names no data set; write it as {PREFIX}ORG/NAME or {PREFIX}FOLDER")
    return name, None


def _load(library: Any, name: str, split: str | None) -> tuple[Any, str]:
    path = Path(name)
    local = kind_of(path) == "folder"
    if not local and (path.is_absolute() or name.startswith(".") or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)):
        raise DataError(f"there is no folder '{name}'{did_you_mean(path)}; give a folder or ORG/NAME after '{PREFIX}'")
    try:
        if local and ((path / "state.json").is_file() or (path / "dataset_dict.json").is_file()):
            saved = library.load_from_disk(str(path))
            if not hasattr(saved, "keys"):  # one split, saved without a name
                return saved, split or "all"
            split = _choose(name, list(saved.keys()), split)
            return saved[split], split
        split = _choose(name, library.get_dataset_split_names(name), split)
        return library.load_dataset(name, split=split), split
    except DataError:
        raise
    except Exception as error:  # the library raises many kinds, of many libraries below it
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"the data set '{name}' cannot be had ({type(error).__name__}: {reason}): check the name and the network, "
            f"or download it elsewhere and give the folder as {PREFIX}FOLDER"
        ) from error


def _choose(name: str, there: list[str], asked: str | None) -> str:
    listed = ", ".join(f"'{split}'" for split in there)
    if asked is not None:
        if asked not in there:
            raise DataError(f"the data set '{name}' has no split '{asked}', only {listed}; name one of these after '@'")
        return asked
    for split in _SPLITS:
        if split in there:
            return split
    if len(there) != 1:
        raise DataError(f"the data set '{name}' has the splits {listed}; name one as {PREFIX}{name}@SPLIT")
    return there[0]


def _image_column(library: Any, name: str, data: Any) -> str:
    columns = [column for column, feature in data.features.items() if isinstance(feature, library.Image)]
    if not columns:
        raise DataError(f"the data set '{name}' has no column of images, only {_columns(data)}; give another")
    return str(columns[0])


def _label_column(library: Any, name: str, data: Any) -> str:
    """The column of classes, by its type; of several, or of texts, one whose name says so."""
    typed = [column for column, feature in data.features.items() if isinstance(feature, library.ClassLabel)]
    if len(typed) == 1:
        return str(typed[0])
    texts = [column for column, feature in data.features.items() if getattr(feature, "dtype", "") == "string"]
    for wanted in LABEL_COLUMNS:
        for column in typed or texts:
            if column.casefold() == wanted:
                return str(column)
    raise DataError(
        f"the data set '{name}' has {_columns(data)} and none of them is known to be the classes: rename one to 'label'"
    )


def _columns(data: Any) -> str:
    return ", ".join(f"'{column}'" for column in data.features)


def _rows(library: Any, data: Any, source: str, image: str, label: str, name: str) -> Iterator[tuple[str, bytes, str]]:
    """The path, the bytes and the label of each image."""
    feature = data.features[label]
    names = list(feature.names) if isinstance(feature, library.ClassLabel) else None
    folders: dict[str, str] = {}
    for index, row in enumerate(data.select_columns([image, label]).cast_column(image, library.Image(decode=False))):
        value, picture = row[label], row[image] or {}
        if value is None or (names is not None and not 0 <= value < len(names)) or not str(value).strip():
            raise DataError(f"row {index} of '{name}' has no label; give another split after '@'")
        text = str(value if names is None else names[value]).strip()
        content = picture.get("bytes")
        if content is None and picture.get("path"):
            content = _read(Path(picture["path"]), source, index, name)
        if content is None:
            raise DataError(f"row {index} of '{name}' has no image; remove the row or give another split after '@'")
        # The number keeps apart what only differs in letters that a file name cannot have.
        folder = folders.setdefault(text, f"{len(folders):03}_{_safe(text)}")
        yield f"{folder}/{index:07}{_suffix(content, str(picture.get('path') or ''))}", content, text


def _read(path: Path, source: str, index: int, name: str) -> bytes:
    """An image that a row names: in the data set's own folder or where the library keeps what it fetches, no other."""
    import datasets

    homes = [Path(source), Path(datasets.config.HF_CACHE_HOME)]
    if not any(path.resolve().is_relative_to(home.resolve()) for home in homes):
        raise DataError(f"row {index} of '{name}' names the file '{path}' outside the data set: get it from elsewhere")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"row {index} of '{name}' names '{path}', which cannot be read ({error.strerror})") from error


def _write(folder: Path, rows: Iterator[tuple[str, bytes, str]]) -> None:
    """Writes images and table into a folder that appears when it is complete."""
    from filelock import FileLock

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
        with (made / "labels.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label"])
            for path, content, label in rows:
                (made / path).parent.mkdir(exist_ok=True)
                (made / path).write_bytes(content)
                writer.writerow([path, label])
        try:
            made.rename(folder)
        except OSError:
            if not (folder / "labels.csv").is_file():  # else another process was first, with the same content
                raise
    except OSError as error:
        raise DataError(f"'{folder}' cannot be written ({error.strerror or error}); make room there") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _clear(cache: Path) -> None:
    """Removes what processes that were killed have left; the system frees a process's locks when it ends."""
    from filelock import FileLock, Timeout

    for left in cache.glob(f"{_UNFINISHED}*{_LOCK}"):
        with suppress(OSError, Timeout), FileLock(left, blocking=False):
            shutil.rmtree(left.with_name(left.name.removesuffix(_LOCK)), ignore_errors=True)
            left.unlink(missing_ok=True)


def _suffix(content: bytes, path: str) -> str:
    for signature, suffix in _SIGNATURES.items():
        if content.startswith(signature):
            return suffix
    suffix = Path(path).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ".img"


def _safe(name: str) -> str:
    """A name that is one plain part of a path on every system."""
    return re.sub(r"[^\w.@-]+", "_", name, flags=re.ASCII).strip("._")[:80] or "_"
