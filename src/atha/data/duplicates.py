"""Duplicates: images that a pool holds twice, byte for byte or as a flipped, turned, brighter or smaller copy.

An image becomes a thumbnail of 32 x 32 pixels, and its cosine transform, weighted by frequency and brought to length
one, is what images are compared by. Weighting matters: photographs share their coarse structure (a lesion in the
middle, two lungs) and differ in what is fine. A flip changes signs of the transform and a quarter turn also swaps its
axes, so that all eight orientations of an image come from one transform. What is similar at 12 x 12 frequencies is
looked at again at 24 x 24 and in colour. The verdict on two images depends on these two alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from atha.data.images import ImageProblem, ImageReader, content_hash
from atha.data.pool import Pool
from atha.machine import cores

Progress = Callable[[str, int, int], None]
"""Called with the stage, how much of it is done, and how much there is."""

CANDIDATE = 0.90
"""Least similarity at 12 x 12 frequencies, in the best of eight orientations."""

SIMILAR = 0.90
"""Least similarity at 24 x 24 frequencies, in that orientation."""

SAME_COLOURS = 0.80
"""Least correlation of the pixels of the thumbnails, in that orientation."""

FLAT = 3.0
"""Images whose grey and colour vary by less (standard deviation, of 255) are compared byte for byte only."""

_SIDE = 32
_COARSE, _FINE = 12, 24
_ROWS, _COLUMNS = 256, 4096
_ORIENTATIONS = tuple((swap, down, right) for swap in (False, True) for down in (1, -1) for right in (1, -1))
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)

# Turns by other angles than quarters cannot be seen in the thumbnails, but their names tell.
_COPY = re.compile(
    r"(_(new)?\d+deg(flip[a-z]*)?|_(h|v)?flip(ped)?(lr|tb|_?[hv])?|_rot(ated)?_?\d*|_aug(mented)?_?\d*)+$", re.I
)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Group:
    """Images that are copies of one another.

    Attributes:
        ids: the images, in the order of the pool.
        labels: the distinct labels that they have, in the order of the classes.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def conflicting(self) -> bool:
        """Whether copies have different labels, of which at most one can be right."""
        return len(self.labels) > 1


@dataclass(frozen=True)
class Duplicates:
    """What `find_duplicates` found.

    Attributes:
        exact: groups of images with the same bytes.
        near: groups that hang together by at least one pair of near copies; exact copies of theirs are in them too.
        unreadable: id and reason of each image that cannot be read.
        flat: how many images have too little texture to be looked for among near copies.
        kept: ids, in the order of the pool, of the readable images without all but the first of each group.
    """

    exact: tuple[Group, ...]
    near: tuple[Group, ...]
    unreadable: tuple[tuple[str, str], ...]
    flat: int
    kept: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """All of it in the form of JSON; of what is kept, how many."""
        groups = {"exact": self.exact, "near": self.near}
        return {
            **{
                name: [{"ids": list(group.ids), "labels": list(group.labels)} for group in those]
                for name, those in groups.items()
            },
            "conflicting": sum(group.conflicting for group in {*self.exact, *self.near}),
            "unreadable": [{"id": name, "reason": reason} for name, reason in self.unreadable],
            "flat": self.flat,
            "kept": len(self.kept),
        }


@dataclass(frozen=True)
class _Looked:
    """What one file gave: its hash and thumbnail, or what is wrong with it."""

    digest: str = ""
    thumbnail: NDArray[np.uint8] | None = None
    problem: str = ""


def find_duplicates(
    pool: Pool,
    *,
    near: bool = True,
    progress: Progress | None = None,
    workers: int | None = None,
    reader: ImageReader | None = None,
) -> Duplicates:
    """Finds exact and near duplicates of a pool.

    Near copies are those made by flips, quarter turns, JPEG compression, changes of size, and moderate changes of
    brightness, contrast and saturation, in any combination. Crops, shifts and turns by a few degrees are found only
    where they are very small, or by the names that augmentation tools give (``x_new30degFlipLR.jpg`` beside
    ``x.jpg``). The work grows with the square of the number of images, at about 90 seconds on two
    cores for 43,456.

    Args:
        pool: where to look.
        near: whether to look for near duplicates, for which all images are decoded.
        progress: called from time to time.
        workers: threads that read images; one per core if None.
        reader: reads the images; None: each stands for itself.

    Returns:
        The groups, and the ids that are left when of each group only the first is kept.
    """
    tell = progress or (lambda stage, done, total: None)
    reader = reader or ImageReader(quiet=True)
    looked = list(_look(pool.files, near, tell, workers or cores(), reader))
    first: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []
    for index, one in enumerate(looked):
        if not one.problem:
            before = first.setdefault(one.digest, index)
            if before != index:
                pairs.append((before, index))
    exact = _components(pairs, len(looked))
    indices = [index for index in first.values() if looked[index].thumbnail is not None]
    near_pairs: list[tuple[int, int]] = []
    flat = 0
    if near and indices:
        thumbnails = np.stack([looked[index].thumbnail for index in indices])  # type: ignore[misc]
        textured = np.flatnonzero(_texture(thumbnails) >= FLAT)
        flat = len(indices) - len(textured)
        found = _near_pairs(thumbnails[textured], tell)
        near_pairs = [(indices[textured[a]], indices[textured[b]]) for a, b in found]
        near_pairs += [(a, b) for a, b in _named_pairs(pool.ids) if not (looked[a].problem or looked[b].problem)]
    joined = _components(pairs + near_pairs, len(looked))
    touched = {index for pair in near_pairs for index in pair}
    dropped = {index for members in joined for index in members[1:]}
    return Duplicates(
        exact=tuple(_group(pool, members) for members in exact),
        near=tuple(_group(pool, members) for members in joined if touched & set(members)),
        unreadable=tuple((pool.ids[index], one.problem) for index, one in enumerate(looked) if one.problem),
        flat=flat,
        kept=tuple(
            name
            for index, (name, one) in enumerate(zip(pool.ids, looked, strict=True))
            if not one.problem and index not in dropped
        ),
    )


def _look(files: Sequence[Path], near: bool, tell: Progress, workers: int, reader: ImageReader) -> Iterator[_Looked]:
    """Reads all files on several threads; Pillow decodes without Python's lock."""
    executor = ThreadPoolExecutor(workers)
    try:
        for done, one in enumerate(executor.map(lambda file: _look_at(file, near, reader), files), start=1):
            if done % 50 == 0 or done == len(files):
                tell("reading images", done, len(files))
            yield one
    finally:
        executor.shutdown(cancel_futures=True)  # an interrupted search ends at once


def _look_at(file: Path, near: bool, reader: ImageReader) -> _Looked:
    try:
        if not near:
            return _Looked(content_hash(file))
        thumbnail, digest = reader.make_hashed(file, _thumbnail, at_least=2 * _SIDE)
        return _Looked(digest, thumbnail)
    except ImageProblem as problem:
        return _Looked(problem=problem.reason)


def _thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0))


def _texture(thumbnails: NDArray[np.uint8]) -> Floats:
    """How much the pixels of each thumbnail vary, as the mean standard deviation of the three colours."""
    deviations = [part.std((1, 2), dtype=np.float32).mean(1) for part in _parts(thumbnails)]
    return np.concatenate(deviations)


def _parts(thumbnails: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Thumbnails in pieces, so that their floating-point form never takes much memory."""
    for start in range(0, len(thumbnails), _COLUMNS):
        yield thumbnails[start : start + _COLUMNS]


def _transform(thumbnails: NDArray[np.uint8], size: int) -> Floats:
    """Cosine transforms of grey thumbnails, cut to ``size`` frequencies each way and weighted by frequency."""
    grey = thumbnails.astype(np.float32) @ _GREY
    low = dctn(grey, axes=(-2, -1), norm="ortho")[..., :size, :size]
    frequency = np.arange(size, dtype=np.float32)
    return np.asarray(low * np.hypot(frequency[:, None], frequency[None, :]), dtype=np.float32)


def _turned(transforms: Floats, orientation: tuple[bool, int, int]) -> Floats:
    """The transforms of the images in another orientation."""
    swap, down, right = orientation
    order = np.arange(transforms.shape[-1])
    signs = np.power(np.float32(down), order)[:, None] * np.power(np.float32(right), order)[None, :]
    return (transforms.swapaxes(-1, -2) if swap else transforms) * signs.astype(np.float32)


def _turned_pixels(thumbnails: NDArray[np.uint8], orientation: tuple[bool, int, int]) -> NDArray[np.uint8]:
    """The thumbnails in the same orientation as `_turned` has them."""
    swap, down, right = orientation
    return (thumbnails.swapaxes(1, 2) if swap else thumbnails)[:, ::down, ::right]


def _unit(values: Floats) -> Floats:
    """Each row as a vector of length one."""
    flat = values.reshape(len(values), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(length, 1e-6), dtype=np.float32)


def _named_pairs(ids: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of ids that are one name but for the ending of an augmented copy, in one folder."""
    first: dict[str, int] = {}
    for index, name in enumerate(ids):
        path = PurePosixPath(name)
        before = first.setdefault(str(path.with_name(_COPY.sub("", path.stem) or path.stem)).casefold(), index)
        if before != index and (_COPY.search(path.stem) or _COPY.search(PurePosixPath(ids[before]).stem)):
            yield before, index


def _near_pairs(thumbnails: NDArray[np.uint8], tell: Progress) -> list[tuple[int, int]]:
    """Pairs of thumbnails that show the same picture, each as (earlier, later)."""
    total = len(thumbnails)
    if total < 2:
        return []
    coarse = np.concatenate([_transform(part, _COARSE) for part in _parts(thumbnails)])
    unit = _unit(coarse)
    pairs: list[tuple[int, int]] = []
    for start in range(0, total, _ROWS):
        rows = coarse[start : start + _ROWS]
        turned = np.concatenate([_unit(_turned(rows, orientation)) for orientation in _ORIENTATIONS])
        for left in range(start, total, _COLUMNS):
            similar = (turned @ unit[left : left + _COLUMNS].T).reshape(len(_ORIENTATIONS), len(rows), -1)
            # A picture with a symmetry of its own fits in several orientations: the best is looked at.
            best = similar.max(0)
            row, column = np.nonzero(best >= CANDIDATE)
            later = left + column > start + row
            row, column = row[later], column[later]
            orientation = similar[:, row, column].argmax(0)
            pairs += _verified(thumbnails, start + row, left + column, orientation)
        tell("comparing images", min(start + _ROWS, total), total)
    return pairs


def _verified(
    thumbnails: NDArray[np.uint8], first: NDArray[np.int64], second: NDArray[np.int64], orientations: NDArray[np.int64]
) -> Iterable[tuple[int, int]]:
    """Those of the candidates that are similar in fine structure and in colour too."""
    for number, orientation in enumerate(_ORIENTATIONS):
        candidates = np.flatnonzero(orientations == number)
        for start in range(0, len(candidates), _COLUMNS):
            chosen = candidates[start : start + _COLUMNS]
            a, b = thumbnails[first[chosen]], thumbnails[second[chosen]]
            fine = _unit(_turned(_transform(a, _FINE), orientation)) * _unit(_transform(b, _FINE))
            colours = _unit(_centred(_turned_pixels(a, orientation))) * _unit(_centred(b))
            same = (fine.sum(1) >= SIMILAR) & (colours.sum(1) >= SAME_COLOURS)
            yield from ((int(first[index]), int(second[index])) for index in chosen[same])


def _centred(thumbnails: NDArray[np.uint8]) -> Floats:
    """Pixels less the mean of their colour."""
    pixels = thumbnails.astype(np.float32)
    return np.asarray(pixels - pixels.mean((1, 2), keepdims=True), dtype=np.float32)


def _components(pairs: Sequence[tuple[int, int]], total: int) -> list[list[int]]:
    """The sets of two or more that pairs tie together, each sorted, in the order of their first members."""
    if not pairs:
        return []
    ends = np.array(pairs)
    graph = coo_matrix((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(total, total))
    _, numbers = connected_components(graph, directed=False)
    members: dict[int, list[int]] = {}
    for index in sorted({int(end) for end in ends.ravel()}):
        members.setdefault(int(numbers[index]), []).append(index)
    return list(members.values())


def _group(pool: Pool, members: Sequence[int]) -> Group:
    labels = {pool.labels[index] for index in members}
    return Group(tuple(pool.ids[index] for index in members), tuple(label for label in pool.texts if label in labels))
