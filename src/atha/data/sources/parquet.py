"""Labelled images from Parquet files: a table of paths, or of the images themselves.

The library that reads them is written in C++, and damaged files bring its process down. So a process of its own makes
of them what others read: a text table, and the images as the bytes that they are.
"""

import hashlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from atha.data import LabelledImages
from atha.data.finding import folders_in, kind_of
from atha.data.images import content_hash
from atha.data.processes import BrokenOffError, TooLongError, ask
from atha.data.selection import Selection
from atha.data.sources.kept import keep_folder, safe_name
from atha.data.sources.layout import Layout, is_file
from atha.data.sources.rows import LOOKED_AT, Records, Row, TextFile
from atha.data.sources.tabular import read_records
from atha.errors import DataError
from atha.files import cache_folder

SUFFIX = ".parquet"
TABLE, IMAGES = "table.csv", "images"
"""What is made of a file: its table, and a folder with the images that were in it."""

# Where data sets of the hub have their files.
_DATA = "data"
# Of a processor, until a file is given up; bytes that are converted in a second, at the least; and how many times as
# long it may be where the machine has other work.
_SECONDS, _RATE, _PATIENCE = 8, 1_000_000, 4


def read_parquet(path: Path, selection: Selection) -> LabelledImages:
    """Reads a Parquet file, or a folder of them, as a table.

    Images that are in it are written to the cache first. Numbers of classes become names where the file says them, as
    data sets of Hugging Face do. Files called as splits, such as ``train-00000-of-00002.parquet``, divide the table.

    Args:
        path: The file or folder.
        selection: What is wanted of it.

    Returns:
        See `atha.data.sources.tabular.read_records`.

    Raises:
        DataError: The library ``pyarrow`` is missing, the file cannot be read, or as of `read_records`.
    """
    if find_spec("pyarrow") is None:
        raise DataError(f"{path}: Parquet is read with the extra 'parquet': pip install 'atha[parquet]'")
    files = _files(path)
    for file in files:
        _check_begin(file)
    digest = hashlib.sha256("".join(map(content_hash, files)).encode()).hexdigest()[:16]
    parts = (path.stem, digest, selection.image_column)
    folder = cache_folder() / "parquet" / "-".join(safe_name(part) for part in parts if part)
    keep_folder(folder, TABLE, lambda made: _convert(files, kind_of(path) == "folder", selection.image_column, made))
    embedded = kind_of(folder / IMAGES) == "folder"
    if embedded and selection.images is not None:
        raise DataError(f"--images is for tables of paths, and '{path}' holds its images; leave it out")
    return read_records(_records(path, folder, folder if embedded else files[0].parent), selection)


def _check_begin(file: Path) -> None:
    """See that a file begins and ends as Parquet does, before all of it is read."""
    try:
        with file.open("rb") as opened:
            begin = opened.read(4)
            opened.seek(-4, 2)
            end = opened.read(4)
    except OSError:  # it is shorter; or what is wrong is said when it is read
        return
    if begin != b"PAR1" or end != b"PAR1":
        raise DataError(f"{file}: is no Parquet that can be read (it does not begin and end as one); get it again")


def _files(path: Path) -> list[Path]:
    """The file itself, or those of a folder."""
    if kind_of(path) != "folder":
        return [path]
    try:
        return sorted(path.glob(f"*{SUFFIX}")) or sorted(path.glob(f"{_DATA}/*{SUFFIX}"))
    except OSError:
        return []


def _convert(files: list[Path], splits: bool, image_column: str | None, made: Path) -> None:
    size = sum(file.stat().st_size for file in files)
    wanted = {
        "files": [os.fsencode(file.absolute()).hex() for file in files],
        "splits": splits,
        "image_column": image_column,
        "made": os.fsencode(made.absolute()).hex(),
        "size": size,
    }
    seconds = _SECONDS + size // _RATE
    try:
        said, _ = ask("atha.data.sources.parquet_files", wanted | {"seconds": seconds}, _PATIENCE * seconds)
    except TooLongError:
        raise DataError(
            f"{files[0]}: takes more than {seconds} s to read; get it again, or give a smaller one"
        ) from None
    except BrokenOffError:
        raise DataError(f"{files[0]}: is no Parquet that can be read (its reader broke off); get it again") from None
    if "problem" in said:
        raise DataError(said["problem"])


def _records(path: Path, folder: Path, base: Path) -> Records:
    """The table that was made, under the name of what it was made of."""
    text = TextFile.open(folder / TABLE)

    def rows() -> Iterator[Row]:
        # The header is no row of the file.
        return ((number - 1, row) for number, row in islice(text.rows(","), 1, None))

    header = next(text.rows(","))[1]
    return Records(path, base, tuple(header), rows, tuple(islice(rows(), LOOKED_AT)))


def _fits(source: str) -> bool:
    path = Path(source)
    if kind_of(path) != "folder":
        return is_file(source, [SUFFIX])
    return bool(_files(path)) and {folder.name for folder in folders_in(path)} <= {_DATA}


LAYOUT = Layout(
    "a .parquet file",
    _fits,
    lambda source, selection: read_parquet(Path(source), selection),
    has_columns=True,
)
