"""Content digests of many files, remembered by path, size and time of change."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from atha.data.cache import Cache
from atha.data.images import content_hash
from atha.errors import DataError

_BLOCK = 512  # files between two calls of progress


def digests(files: Sequence[Path], cache: Cache, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """SHA-256 of each file's bytes, in hexadecimal.

    Args:
        files: what to read.
        cache: remembers digests of files that have not changed since.
        progress: called with (files done, files in all).

    Raises:
        ImageProblem: a file cannot be read.
    """
    made: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(files), _BLOCK):
            block = files[start : start + _BLOCK]
            keys = [_key(file) for file in block]
            known = cache.get(keys)
            missing = [index for index, key in enumerate(keys) if key not in known]
            found = dict(zip(missing, pool.map(content_hash, [block[index] for index in missing]), strict=True))
            cache.put({keys[index]: bytes.fromhex(digest) for index, digest in found.items()})
            made += [found[index] if index in found else known[key].hex() for index, key in enumerate(keys)]
            if progress is not None:
                progress(len(made), len(files))
    return made


def combined(ids: Sequence[str], content: Sequence[str]) -> str:
    """SHA-256 over images by id and content, in the order of ids: says which images a data set holds."""
    digest = sha256()
    for name, value in sorted(zip(ids, content, strict=True)):
        digest.update(f"{name}\t{value}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _key(file: Path) -> bytes:
    try:
        stat = file.stat()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): restore it, or leave it out of the data") from None
    return Cache.key("digest", str(file.resolve()), str(stat.st_size), str(stat.st_mtime_ns))
