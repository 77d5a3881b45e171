"""Image data sets in the form of the Hugging Face hub, from the hub or a local folder."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atha.data import LabelledImages
from atha.data.finding import did_you_mean, kind_of
from atha.data.selection import Selection
from atha.data.sources.columns import LABEL_COLUMNS
from atha.data.sources.kept import image_suffix, keep_folder, safe_name
from atha.data.sources.layout import Layout
from atha.data.sources.naming import listed, plain_name
from atha.data.sources.parts import EVERY
from atha.data.sources.splits import part_of
from atha.data.sources.table import read_table
from atha.errors import DataError
from atha.files import cache_folder

PREFIX = "hf:"
"""What the name of such a data set starts with."""

_TABLE = "labels.csv"
# Seconds until the hub has answered.
_PATIENCE = 8
_INSTALL = "install it with: pip install 'atha[datasets]'"


@dataclass(frozen=True)
class HubImages:
    """A data set whose images have been written to disk.

    Attributes:
        name: the data set and its split, such as ``org/name@test``.
        table: a table of paths and labels, beside folders of images; of paths alone, where it has no labels.
        notes: sentences on what is taken of it.
    """

    name: str
    table: Path
    notes: tuple[str, ...] = ()


def read_hub(reference: str, selection: Selection) -> LabelledImages:
    """Reads a data set whose images are written to the cache first.

    Args:
        reference: see `fetch`.
        selection: what is wanted of it.

    Raises:
        DataError: as of `fetch`.
    """
    images = fetch(reference, cache_folder() / "hub", selection)
    found = read_table(images.table, Selection(selection.use, label_column="label", split=EVERY))
    return replace(found, source=images.name, ignored=(*images.notes, *found.ignored))


def fetch(reference: str, cache: Path, selection: Selection = Selection()) -> HubImages:  # noqa: B008 - frozen
    """Writes the images of a data set to disk, as the bytes that they are, once for each version of the data set.

    Code that comes with a data set is never run. Images are not decoded.

    Args:
        reference: ``hf:ORG/NAME`` or ``hf:FOLDER``, with ``@SPLIT`` at its end or not.
        cache: the folder below which images are written.
        selection: may name the split and the columns. Without a split, it is the one to learn from or to test on, or
            else ``test`` if there is one, then ``train``, then the only one there is.

    Returns:
        Where the images are.

    Raises:
        DataError: the library ``datasets`` is missing, the data set cannot be had, or it has no images with labels.
    """
    if selection.images is not None:
        raise DataError(f"--images is for tables, and '{reference}' comes with its images; leave it out")
    library = _library()
    name, split = _parse(reference)
    if split is not None and selection.split is not None:
        raise DataError(f"'{reference}' names a split, and so does {selection.split_option}; leave one of them out")
    data, split = _load(library, name, split or selection.split, selection)
    image, label = _image_column(library, name, data, selection), _label_column(library, name, data, selection)
    shown = f"{Path(name).name if kind_of(Path(name)) == 'folder' else name}@{split}"
    # The fingerprint stands for the files that the data were made of, so that a new version is a new folder.
    parts = [shown, str(getattr(data, "_fingerprint", "any")), selection.image_column, selection.label_column]
    folder = cache / "-".join(safe_name(part) for part in (*parts, None if label else "without labels") if part)
    keep_folder(folder, _TABLE, lambda made: _write(made, _rows(library, data, name, image, label, shown)))
    notes = (
        () if selection.use != "test" or part_of(split)[0] != "val" else (f"{shown} is taken: there is no test split",)
    )
    return HubImages(shown, folder / _TABLE, notes)


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


def _load(library: Any, name: str, split: str | None, selection: Selection) -> tuple[Any, str]:
    path = Path(name)
    local = kind_of(path) == "folder"
    if not local and (path.is_absolute() or name.startswith(".") or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name)):
        raise DataError(f"there is no folder '{name}'{did_you_mean(path)}; give a folder or ORG/NAME after '{PREFIX}'")
    try:
        if local and ((path / "state.json").is_file() or (path / "dataset_dict.json").is_file()):
            saved = library.load_from_disk(str(path))
            if not hasattr(saved, "keys"):  # one split, saved without a name
                return saved, split or "all"
            split = _choose(name, list(saved.keys()), split, selection)
            return saved[split], split
        if not local and not _can_be_had(library, name):
            raise DataError(
                f"the data set '{name}' cannot be had: the hub does not answer, and there is no copy of it in the "
                f"cache; check the network, or download it elsewhere and give the folder as {PREFIX}FOLDER"
            )
        split = _choose(name, library.get_dataset_split_names(name), split, selection)
        return library.load_dataset(name, split=split), split
    except DataError:
        raise
    except Exception as error:  # the library raises many kinds, of many libraries below it
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"the data set '{name}' cannot be had ({type(error).__name__}: {reason}): check the name and the network, "
            f"or download it elsewhere and give the folder as {PREFIX}FOLDER"
        ) from error


def _can_be_had(library: Any, name: str) -> bool:
    """Whether the hub answers, or the library may have a copy: by itself it tries for half a minute, and says so."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        HfApi().dataset_info(name, timeout=_PATIENCE)
    except (HfHubHTTPError, OfflineModeIsEnabled, ValueError):  # what it says is the library's to tell
        return True
    except Exception:  # of the libraries for networks, which differ
        copies = Path(library.config.HF_DATASETS_CACHE)
        return kind_of(copies / name.replace("/", "___")) == "folder"
    return True


def _choose(name: str, there: list[str], asked: str | None, selection: Selection) -> str:
    listed = ", ".join(f"'{split}'" for split in there)
    if asked is not None:
        if asked not in there:
            raise DataError(f"the data set '{name}' has no split '{asked}', only {listed}; name one of these after '@'")
        return asked
    wanted = {"fit": ("train",), "test": ("test", "val")}.get(selection.use, ("test", "train"))
    for part in wanted:
        for split in there:
            if part_of(split)[0] == part:
                return split
    if len(there) != 1 or (part_of(there[0])[0] and selection.use in ("fit", "test")):
        doing = {"fit": " to learn from", "test": " to test on"}.get(selection.use, "")
        raise DataError(f"the data set '{name}' has the splits {listed}; name one{doing} as {PREFIX}{name}@SPLIT")
    return there[0]


def _image_column(library: Any, name: str, data: Any, selection: Selection) -> str:
    columns = [column for column, feature in data.features.items() if isinstance(feature, library.Image)]
    if not columns:
        raise DataError(f"the data set '{name}' has no column of images, only {_columns(data)}; give another")
    if (wanted := selection.image_column) is not None and wanted not in columns:
        raise DataError(f"'{wanted}' is no column of images of '{name}', only {listed(columns)}; name one of these")
    return str(wanted or columns[0])


def _label_column(library: Any, name: str, data: Any, selection: Selection) -> str:
    """The column of classes, by its type; of several, or of texts, one whose name says so. Predicting needs none."""
    if (wanted := selection.label_column) is not None:
        if wanted not in data.features:
            raise DataError(f"the data set '{name}' has no column '{wanted}', only {_columns(data)}; name one of these")
        return wanted
    typed = [column for column, feature in data.features.items() if isinstance(feature, library.ClassLabel)]
    if len(typed) == 1:
        return str(typed[0])
    texts = [column for column, feature in data.features.items() if getattr(feature, "dtype", "") == "string"]
    for known in LABEL_COLUMNS:
        for column in typed or texts:
            if plain_name(column) == known:
                return str(column)
    if selection.use == "predict":
        return ""
    raise DataError(
        f"the data set '{name}' has {_columns(data)} and none of them is known to be the classes: name it with "
        "--label-column, or rename it to 'label'"
    )


def _columns(data: Any) -> str:
    return listed(list(data.features))


def _rows(library: Any, data: Any, source: str, image: str, label: str, name: str) -> Iterator[tuple[str, bytes, str]]:
    """The path, the bytes and the label of each image."""
    feature = data.features.get(label)
    names = list(feature.names) if isinstance(feature, library.ClassLabel) else None
    folders: dict[str, str] = {}
    wanted = [image, label] if label else [image]
    for index, row in enumerate(data.select_columns(wanted).cast_column(image, library.Image(decode=False))):
        picture = row[image] or {}
        value: Any = row[label] if label else "-"
        if value is None or (names is not None and not 0 <= value < len(names)) or not str(value).strip():
            raise DataError(f"row {index} of '{name}' has no label; give another split after '@'")
        text = str(value if names is None else names[value]).strip()
        content = picture.get("bytes")
        if content is None and picture.get("path"):
            content = _read(Path(picture["path"]), source, index, name)
        if content is None:
            raise DataError(f"row {index} of '{name}' has no image; remove the row or give another split after '@'")
        # The number keeps apart what only differs in letters that a file name cannot have.
        folder = folders.setdefault(text, f"{len(folders):03}_{safe_name(text)}")
        yield f"{folder}/{index:07}{image_suffix(content, str(picture.get('path') or ''))}", content, text


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


def _write(made: Path, rows: Iterator[tuple[str, bytes, str]]) -> None:
    """Writes images and table into a folder."""
    with (made / _TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for path, content, label in rows:
            (made / path).parent.mkdir(exist_ok=True)
            (made / path).write_bytes(content)
            writer.writerow([path, label])


LAYOUT = Layout("hf:ORG/NAME", lambda source: source.startswith(PREFIX), read_hub, has_columns=True)
