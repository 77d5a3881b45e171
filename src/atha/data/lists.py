"""Images that a file lists: a text with a path on each line, or a table with a column of them."""

import warnings
from pathlib import Path

from atha.data import Selection, read_labelled
from atha.data.sources.columns import find_columns
from atha.data.sources.parts import choose_rows
from atha.data.sources.tabular import files_of
from atha.data.sources.text_list import SUFFIXES, open_list
from atha.errors import AthaWarning, DataError


def read_images(path: Path, selection: Selection) -> list[Path]:
    """Finds the images that a file lists.

    Args:
        path: a table; or a text with a path on each line, relative to the text's folder or else to the working
            directory, with a label behind it or not.
        selection: where a table has what; for prediction.

    Raises:
        DataError: the file cannot be read, or no image of it is there.

    Warns:
        AthaWarning: of images that are not there, and what else was passed over.
    """
    if path.suffix.lower() not in SUFFIXES:
        return [Path(str(sample.image)) for sample in read_labelled(path, selection).samples]
    records = open_list(path, selection)
    first = [value for _, row in records.first for value in row]
    bases = dict.fromkeys((path.parent, Path())) if selection.images is None else [path.parent]
    places = [files_of(base, selection, first) for base in bases]
    columns = find_columns(records, selection, places[0])
    taken, _ = choose_rows(records, columns.image, columns.parts, selection)
    wanted = [row[columns.image] for _, row in records.rows() if columns.image < len(row) and taken(row)]
    found = [next((file for files in places if (file := files.find(value))), None) for value in wanted]
    missing = [value for value, file in zip(wanted, found, strict=True) if file is None]
    if missing:
        those = "1 image is" if len(missing) == 1 else f"{len(missing):,} images are"
        where = " and ".join(f"'{files.base}'" if files.base != Path() else "the working directory" for files in places)
        told = f"{path}: {those} not there; '{missing[0]}' was looked for in {where}"
        if len(missing) == len(wanted):
            raise DataError(f"{told}; give the path of an image on each line, relative to --images DIR if need be")
        warnings.warn(told, AthaWarning, stacklevel=2)
    return [file for file in found if file is not None]
