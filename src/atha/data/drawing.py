"""Drawing at random, the same on every platform: a support set from a full one, and what episodes are made of."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from atha.data import LabelledImages, LabelledSource, Sample, Selection, read_labelled
from atha.data.finding import looks_like_image, some_of
from atha.data.selection import Draw
from atha.errors import AthaWarning, DataError

Item = TypeVar("Item")


class Shuffler:
    """Uniform shuffles from PCG64's raw output, which NumPy keeps fixed; its own shuffle may change with versions.

    Args:
        key: what they depend on, a number in hexadecimal.
    """

    def __init__(self, key: str) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(int(key, 16)))

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """A copy in random order (Fisher and Yates)."""
        made = list(items)
        for last in range(len(made) - 1, 0, -1):
            other = self._below(last + 1)
            made[last], made[other] = made[other], made[last]
        return made

    def _below(self, limit: int) -> int:
        bound = (1 << 64) - (1 << 64) % limit  # values at or above it would favour small remainders
        while (value := int(self._bits.random_raw())) >= bound:
            pass
        return value % limit


def draw(source: LabelledSource, shot: int, seed: int = 0) -> tuple[LabelledImages, LabelledImages]:
    """Draws a support set at random; which images of a class are drawn depends on the seed and that class alone.

    Files that are empty, or neither begin nor are named as images, are not drawn. Where it is known what images are of,
    such as a patient, the rest holds none of a patient of whom an image was drawn.

    Args:
        source: whatever `read_labelled` understands.
        shot: images of each class; of a class with fewer, all are drawn.
        seed: of the draw.

    Returns:
        What was drawn, and the rest.

    Raises:
        DataError: the source cannot be read, ``shot`` is not positive or the seed is negative.

    Warns:
        AthaWarning: of classes with fewer images.
    """
    if shot < 1 or seed < 0:
        raise DataError(
            f"shot is {shot} and the seed {seed}: give a shot of 1 or more, and a seed that is not negative"
        )
    images = read_labelled(source, Selection("fit", grouped=True))
    taken: set[int] = set()
    few: list[str] = []
    for label in images.labels:
        places = [place for place, sample in enumerate(images.samples) if sample.label == label]
        key = hashlib.sha256(f"{seed} {label}".encode("utf-8", "surrogateescape")).hexdigest()
        chosen: list[int] = []
        for place in Shuffler(key).shuffled(places):
            if len(chosen) < shot and _may_be_image(images.samples[place]):
                chosen.append(place)
        if len(chosen) < shot:
            few.append(f"{label} ({len(chosen)})")
        taken.update(chosen or places)  # a class without an image is named by whoever reads it
    if few:
        warnings.warn(f"there are fewer than {shot} images of {some_of(few, 20)}: all are taken", AthaWarning, 2)
    groups = images.groups
    there = set() if groups is None else {groups[place] for place in taken}
    left = [
        place
        for place in range(len(images.samples))
        if place not in taken and (groups is None or groups[place] not in there)
    ]
    drawn = replace(_some(images, sorted(taken)), drawn=Draw(shot=shot, seed=seed, images=len(images.samples)))
    return drawn, replace(_some(images, left), source=f"the rest of {images.source}", ignored=())


def _some(images: LabelledImages, places: Sequence[int]) -> LabelledImages:
    groups = images.groups and tuple(images.groups[place] for place in places)
    return replace(images, samples=tuple(images.samples[place] for place in places), groups=groups)


def _may_be_image(sample: Sample) -> bool:
    if not isinstance(sample.image, str | Path):
        return True
    file = Path(sample.image)
    return looks_like_image(file) and (not file.is_file() or file.stat().st_size > 0)
