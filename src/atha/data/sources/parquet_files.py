"""What the process does that reads Parquet files: it makes a text table of them, and files of the images in them."""

import csv
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet, types

from atha.data.processes import answer, asked, limit
from atha.data.sources.columns import IMAGE_COLUMNS
from atha.data.sources.kept import image_suffix, safe_name
from atha.data.sources.naming import listed, matching
from atha.data.sources.parquet import IMAGES, TABLE
from atha.data.sources.rows import as_text
from atha.data.sources.splits import part_of
from atha.errors import DataError
from atha.texts import TextError, json_table

# Rows that are in memory at once, with their images, and images in one folder.
_BATCH, _FOLDER = 16, 10_000
_MEMORY = 1 << 30
# What may be made of files, by their size: images do not become smaller, and what does takes little.
_TIMES, _BESIDE = 50, 1 << 27


def main() -> None:
    """Converts what it is asked for."""
    wanted = asked()
    limit("RLIMIT_DATA", _MEMORY)
    limit("RLIMIT_CPU", wanted["seconds"])
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    answer(convert(wanted))


def convert(wanted: Mapping[str, Any]) -> dict[str, str]:
    """Makes a table and images of files.

    Args:
        wanted: ``files`` and the folder ``made``, as hexadecimal bytes; the ``size`` of the files; ``splits``, whether
            their names may be those of splits; ``image_column``; ``seconds`` of a processor that it may take.

    Returns:
        The ``problem``, if there is one.
    """
    files = [Path(os.fsdecode(bytes.fromhex(name))) for name in wanted["files"]]
    made = Path(os.fsdecode(bytes.fromhex(wanted["made"])))
    try:
        shards = _Shards.open(files, wanted["splits"])
        _write(made, shards, _image_column(shards, wanted["image_column"]), _TIMES * wanted["size"] + _BESIDE)
    except DataError as error:
        return {"problem": str(error)}
    except MemoryError:
        return {"problem": f"{files[0]}: takes too much memory to read; give a file of smaller groups of rows"}
    except OSError as error:
        return {"problem": f"{made.parent} cannot be written ({error.strerror or error}); make room there"}
    return {}


@dataclass(frozen=True)
class _Shards:
    """The files of one table.

    Attributes:
        files: in order.
        texts: names of the columns of texts, numbers and the like.
        images: names of the columns that hold images.
        classes: names of the classes by column, where its numbers stand for them.
        splits: of each file, the split that its name says; none where they say none.
    """

    files: tuple[Path, ...]
    texts: tuple[str, ...]
    images: tuple[str, ...]
    classes: Mapping[str, list[str]]
    splits: tuple[str, ...]

    @classmethod
    def open(cls, files: list[Path], splits: bool) -> "_Shards":
        """Looks at the schemas of files."""
        schemas = [_schema(file) for file in files]
        schema = schemas[0]
        for file, other in zip(files, schemas, strict=True):
            if other.names != schema.names:
                raise DataError(f"{file}: has other columns than {files[0].name}; give the one or the other")
        images = tuple(field.name for field in schema if _holds_images(field.type))
        texts = tuple(field.name for field in schema if field.name not in images and not types.is_nested(field.type))
        names = tuple(file.stem.split("-")[0] for file in files)
        named = splits and all(part_of(name)[0] for name in names)
        return cls(tuple(files), texts, images, _class_names(schema), names if named else ())

    def rows(self, image: str) -> Iterator[tuple[list[str], Any]]:
        """The rows as text, and what they have in a column of images."""
        wanted = [*self.texts, *([image] if image else [])]
        for place, file in enumerate(self.files):
            with _trouble(file):
                for batch in _open(file).iter_batches(_BATCH, columns=wanted):
                    values = {name: batch.column(name).to_pylist() for name in wanted}
                    for index in range(batch.num_rows):
                        row = [self._text(name, values[name][index]) for name in self.texts]
                        yield row + list(self.splits[place : place + 1]), image and values[image][index]

    def _text(self, column: str, value: Any) -> str:
        names = self.classes.get(column)
        if names is None or not isinstance(value, int):
            return as_text(value)
        return names[value] if 0 <= value < len(names) else ""


def _open(path: Path) -> Any:
    # Not buffered ahead: a group of rows may hold gigabytes of images.
    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)


def _schema(path: Path) -> Any:
    with _trouble(path):
        schema = _open(path).schema_arrow
        names = list(schema.names)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: has two columns '{twice[0]}'; rename one of them")
    return schema


@contextmanager
def _trouble(path: Path) -> Iterator[None]:
    """Whatever the library raises becomes a sentence: of damaged files it raises many kinds."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{path}: is no Parquet that can be read ({type(error).__name__}: {reason}); get it again"
        ) from error


def _holds_images(kind: Any) -> bool:
    """Whether a column holds bytes, alone or with a path beside them."""
    if types.is_struct(kind):
        inner = [kind.field(index) for index in range(kind.num_fields)]
        return any(field.name == "bytes" and _is_bytes(field.type) for field in inner)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Names of classes by column, from what the library ``datasets`` writes beside a schema."""
    try:
        said = json_table((schema.metadata or {}).get(b"huggingface", b"{}").decode())
        return {
            column: list(map(str, feature["names"]))
            for column, feature in said["info"]["features"].items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature["names"], list)
        }
    except (TextError, UnicodeDecodeError, KeyError, AttributeError, TypeError):
        return {}


def _image_column(shards: _Shards, wanted: str | None) -> str:
    """The column that holds images; none where they are named by paths."""
    there = shards.images
    if wanted is not None:
        return wanted if wanted in there else ""
    if len(there) < 2:
        return there[0] if there else ""
    if known := matching(there, IMAGE_COLUMNS):
        return there[known[0]]
    raise DataError(f"{shards.files[0]}: the columns {listed(there)} hold images; name one with --image-column")


def _write(made: Path, shards: _Shards, column: str, most: int) -> None:
    """Writes the table, with names of files in place of the images, and these."""
    used: set[str] = set()
    total = 0
    with (made / TABLE).open("w", encoding="utf-8", newline="", errors="surrogatepass") as file:
        table = csv.writer(file)
        header = [*shards.texts, *(["split"] if shards.splits else [])]
        table.writerow([column, *header] if column else header)
        for number, (row, image) in enumerate(shards.rows(column), start=1):
            within = image if isinstance(image, dict) else {"bytes": image or None}
            content, called = within.get("bytes"), within.get("path")
            name = ""
            if column and content is not None:
                name = _name(number, content, called, used)
                used.add(name)
                (made / name).parent.mkdir(exist_ok=True, parents=True)
                (made / name).write_bytes(content)
            total += sum(map(len, row)) + len(content or ())
            if total > most:
                raise DataError(
                    f"{shards.files[0]}: stands for far more than its size; give a file that is packed less"
                )
            table.writerow([name, *row] if column else row)


def _name(number: int, content: bytes, called: Any, used: set[str]) -> str:
    """A name for an image, in the order of those that it has in the file, if it has."""
    suffix = image_suffix(content, str(called or ""))
    folder = f"{IMAGES}/{number // _FOLDER:03}"
    name = f"{folder}/{safe_name(Path(str(called)).stem)}{suffix}" if called else ""
    return name if name and name not in used else f"{folder}/{number:07}{suffix}"
