"""Labelled images from a folder with one sub-folder per class."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from atha.data import ARCHIVE_SUFFIXES, LabelledImages, Sample
from atha.data.finding import (
    IMAGE_SUFFIXES,
    is_hidden,
    kind_of,
    looks_like_image,
    named_kind,
    some_of,
    unlistable,
    walk_files,
)
from atha.data.sources import splits
from atha.data.sources.beside import doubt as table_doubt
from atha.data.sources.beside import tables_among
from atha.data.sources.layout import Layout
from atha.errors import DataError

# Files of a folder, none of which has the ending of an image, that are looked into.
_LOOKED_AT = 1000


def read_folder(root: Path) -> LabelledImages:
    """Reads class folders: each first-level sub-folder is a class, and all files below it are its images.

    Files are taken whatever their suffix: one that is no image is named when it is decoded, not passed over. Hidden
    files and folders are, see `atha.data.finding.is_hidden`. Links to folders are followed.

    Args:
        root: The folder that holds the class folders.

    Returns:
        The images, by class and then by relative path. Files beside the class folders are in ``ignored``. Whether the
        folders may be splits such as ``train`` and ``test``, and not classes, is in ``doubt``.

    Raises:
        DataError: There are no class folders, some are empty, or a folder cannot be listed.
    """
    try:
        entries = sorted((entry for entry in root.iterdir() if not is_hidden(entry.name)), key=lambda path: path.name)
    except OSError as error:
        raise unlistable(root, error) from error
    folders = [entry for entry in entries if kind_of(entry) == "folder"]
    beside = [entry for entry in entries if kind_of(entry) != "folder"]
    if not folders:
        raise _no_classes(root, beside)
    files = {folder: walk_files(folder) for folder in folders}
    empty = [folder for folder in folders if not files[folder]]
    if empty:
        those = "this class folder holds" if len(empty) == 1 else f"these {len(empty)} class folders hold"
        names = some_of([folder.name for folder in empty], 20)
        raise DataError(f"{those} no image in '{root}': {names}; add images or remove the empty folder")
    samples = tuple(Sample(path, folder.name) for folder in folders for path in files[folder])
    tables = tables_among([file for folder, inside in files.items() for file in inside if file.parent == folder])
    doubt = splits.doubt(root, files) or table_doubt(root, beside) or splits.doubt_of_names(root, folders, tables)
    if not doubt:
        _check_images(root, files)
    return LabelledImages(samples, str(root), (_passed_over(beside),) if beside else (), doubt)


def _check_images(root: Path, files: Mapping[Path, Sequence[Path]]) -> None:
    """See that there may be an image in each folder: annotations and archives lie in folders too."""
    for folder, inside in files.items():
        if any(file.suffix.lower() in IMAGE_SUFFIXES for file in inside) or len(inside) > _LOOKED_AT:
            continue
        if not any(map(looks_like_image, inside)):
            raise DataError(
                f"'{folder}' holds no image (but {some_of([named_kind(file) for file in inside[:6]])}), so it is no "
                f"class: move it out of '{root}'; if it says what is in images elsewhere, put these in one folder per "
                "class, or list images and labels in a table"
            )


def _no_classes(root: Path, beside: list[Path]) -> DataError:
    if archives := [path.name for path in beside if path.suffix.lower() in ARCHIVE_SUFFIXES]:
        return DataError(
            f"the folder '{root}' holds no class folders, but archives ({some_of(archives)}); unpack them first"
        )
    if any(path.suffix.lower() in IMAGE_SUFFIXES for path in beside):
        example = next(path for path in beside if path.suffix.lower() in IMAGE_SUFFIXES).name
        table = next((f"give the table of their labels, such as '{path}', or " for path in tables_among(beside)), "")
        return DataError(
            f"the folder '{root}' holds images but no class folders; {table}put them in one folder per class, such as "
            f"{root / 'melanoma' / example}"
        )
    return DataError(f"the folder '{root}' has no class folders; give a folder such as {root / 'melanoma' / 'x.jpg'}")


def _passed_over(files: list[Path]) -> str:
    if len(files) == 1:
        return f"1 file lies beside the class folders and is not used: {files[0].name}"
    return f"{len(files)} files lie beside the class folders and are not used: {some_of([file.name for file in files])}"


LAYOUT = Layout(
    "a folder with one sub-folder of images per class",
    lambda source: kind_of(Path(source)) == "folder",
    lambda source, _: read_folder(Path(source)),
)
