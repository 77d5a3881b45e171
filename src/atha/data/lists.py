"""Images that a file lists: a text with a path on each line, or a table with a column of them."""

import warnings
from pathlib import Path

from atha.data import Selection, read_labelled, takes_columns
from atha.data.sources.locating import Files
from atha.errors import AthaWarning, DataError
from atha.texts import LISTS, TextError, read_text

_SUFFIX = ".txt"


def is_list(path: Path) -> bool:
    """Whether a file that is no image lists some, by its ending."""
    return path.suffix.lower() == _SUFFIX or takes_columns(str(path))


def read_list(path: Path, selection: Selection) -> list[Path]:
    """Finds the images that a file lists.

    Args:
        path: a table, or a text with a path on each line, relative to the text's folder or else to the working
            directory. A word behind the path, such as its label, is not looked at.
        selection: where a table has what; for prediction.

    Raises:
        DataError: the file cannot be read, or no image of it is there.

    Warns:
        AthaWarning: of images that are not there, and what else was passed over.
    """
    if path.suffix.lower() != _SUFFIX:
        return [Path(str(sample.image)) for sample in read_labelled(path, selection).samples]
    try:
        lines = [line.strip() for line in read_text(path, LISTS).splitlines()]
    except TextError as error:
        raise DataError(f"{path}: the list {error}; {error.mend}") from error
    wanted = [line for line in lines if line]
    if not wanted:
        raise DataError(f"{path}: the list is empty; give the path of an image on each line")
    places = [Files(path.parent), Files(Path())]
    found = [_find(line, places) for line in wanted]
    missing = [line for line, file in zip(wanted, found, strict=True) if file is None]
    if missing:
        those = "1 image is" if len(missing) == 1 else f"{len(missing):,} images are"
        told = (
            f"{path}: {those} not there; '{missing[0]}' was looked for in '{path.parent}' and in the working directory"
        )
        if len(missing) == len(wanted):
            raise DataError(f"{told}; give the path of an image on each line")
        warnings.warn(told, AthaWarning, stacklevel=2)
    return [file for file in found if file is not None]


def _find(line: str, places: list[Files]) -> Path | None:
    """The file that a line means: the whole of it, without quotes, or without what stands behind the path."""
    forms = (line, line.strip("\"'"), line.rsplit(maxsplit=1)[0])
    return next((file for form in dict.fromkeys(forms) for files in places if (file := files.find(form))), None)
