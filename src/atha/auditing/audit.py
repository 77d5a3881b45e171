"""The audit of labelled images, and what it found as plain values."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from atha.auditing.doubtful import ask
from atha.classes import Classes
from atha.data import LabelledImages, LabelledSource, Selection, read_labelled, takes_columns
from atha.data.cache import Cache
from atha.data.duplicates import Duplicates, find_duplicates
from atha.data.images import ImageProblem, ImageReader
from atha.data.loading import load_ahead
from atha.data.pool import Pool
from atha.data.sources.divided import parts_of
from atha.errors import DataError
from atha.files import cache_folder
from atha.labelling.model import Texts
from atha.methods.base import unit

if TYPE_CHECKING:
    from atha.classifier import Classifier

Progress = Callable[[str, int, int], None]
Kind = Literal["broken", "tiny", "blank"]

#: Pixels of the short side below which an image is tiny, and the standard deviation of pixels, of 255, below which it
#: is blank.
TINY, BLANK = 32, 2.0
#: Neighbours that are shown as evidence.
SHOWN = 5
_THUMBNAIL, _AHEAD = 64, 64


@dataclass(frozen=True)
class Photo:
    """An image of the data.

    Attributes:
        file: its path.
        label: as the data have it.
        part: of the data, such as ``train``; empty where they are not divided.
    """

    file: str
    label: str
    part: str = ""


@dataclass(frozen=True)
class Doubtful:
    """A label that others contradict.

    Attributes:
        photo: whose label it is.
        suggested: the label that it looks like.
        own: probability of its own label, by others.
        other: probability of the suggested one.
        neighbours: the nearest images, as evidence.
    """

    photo: Photo
    suggested: str
    own: float
    other: float
    neighbours: tuple[Photo, ...]


@dataclass(frozen=True)
class Copies:
    """Images that are copies of one another.

    Attributes:
        photos: all of them.
        exact: whether all have the same bytes.
    """

    photos: tuple[Photo, ...]
    exact: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """Their distinct labels; more than one says that a label is wrong."""
        return tuple(dict.fromkeys(photo.label for photo in self.photos))

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that they are in; more than one says that a test is no test."""
        return tuple(dict.fromkeys(photo.part for photo in self.photos if photo.part))


@dataclass(frozen=True)
class Odd:
    """An image that shows nothing or cannot be read.

    Attributes:
        photo: the image.
        kind: ``broken``, ``tiny`` or ``blank``.
        what: more of it, in words.
    """

    photo: Photo
    kind: Kind
    what: str


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        photos: all images, in the order of the data.
        doubtful: labels that look wrong, the most doubtful first.
        copies: groups of copies, those of several labels or parts first.
        odd: images that are broken, tiny or blank.
    """

    photos: tuple[Photo, ...]
    doubtful: tuple[Doubtful, ...]
    copies: tuple[Copies, ...]
    odd: tuple[Odd, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain types, for JSON."""
        return {
            "images": len(self.photos),
            "doubtful": [
                {
                    "file": one.photo.file,
                    "label": one.photo.label,
                    "suggested": one.suggested,
                    "probability": one.own,
                    "suggested_probability": one.other,
                    "neighbours": [{"file": near.file, "label": near.label} for near in one.neighbours],
                }
                for one in self.doubtful
            ],
            "copies": [
                {"files": [photo.file for photo in one.photos], "labels": list(one.labels), "parts": list(one.parts)}
                | {"exact": one.exact}
                for one in self.copies
            ],
            "odd": [
                {"file": one.photo.file, "label": one.photo.label, "kind": one.kind, "what": one.what}
                for one in self.odd
            ],
        }

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Each finding and image as a row: what it is, file, label, suggested label, and more in words."""
        found = [
            ("label", one.photo.file, one.photo.label, one.suggested, f"{one.own:.4f} against {one.other:.4f}")
            for one in self.doubtful
        ]
        for number, group in enumerate(self.copies, start=1):
            what = f"group {number}, {'exact' if group.exact else 'near'}"
            what += f", labels {' and '.join(group.labels)}" if len(group.labels) > 1 else ""
            what += f", in {' and '.join(group.parts)}" if len(group.parts) > 1 else ""
            found += [("copy", photo.file, photo.label, "", what) for photo in group.photos]
        return found + [(one.kind, one.photo.file, one.photo.label, "", one.what) for one in self.odd]

    def cleaned(self) -> list[tuple[str, str, str, str]]:
        """The data as they may be used: file, label, part, and the label that it looks like where that is another.

        Broken and blank images are left out; of copies the first is kept, one of a test where there is one; of copies
        with several labels, of which nobody knows the right one, none. No label is changed.
        """
        dropped = {one.photo.file for one in self.odd if one.kind in ("broken", "blank")}
        for group in self.copies:
            kept = None if len(group.labels) > 1 else min(group.photos, key=lambda photo: photo.part in ("", "train"))
            dropped |= {photo.file for photo in group.photos if photo is not kept}
        suggested = {one.photo.file: one.suggested for one in self.doubtful}
        return [
            (photo.file, photo.label, photo.part, suggested.get(photo.file, ""))
            for photo in self.photos
            if photo.file not in dropped
        ]


def audit(
    source: LabelledSource,
    classifier: "Classifier",
    test: LabelledSource | None = None,
    *,
    seed: int = 0,
    selection: Selection = Selection("all"),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> Audit:
    """Look for labels that seem wrong, copies, and images that show nothing. Nothing is changed.

    Args:
        source: labelled image files: class folders, a table (of which a column ``split`` divides the images), or pairs.
        classifier: its backbone sees the images; its class texts are used where it has any.
        test: other labelled images, among which there should be no copy of these.
        seed: of the folds in which images are held out.
        selection: where a table has what; all of its parts by default.
        progress: told of the stage, of images done and of images in all.

    Raises:
        DataError: the data cannot be read, or there are fewer than two classes.
    """
    tell = progress or (lambda stage, done, total: None)
    if selection.split is None and isinstance(source, str | Path) and takes_columns(str(source)):
        selection = replace(selection, split="all")
    data = read_labelled(source, selection)
    parts = parts_of(source, selection)
    photos = [_photo(sample.image, sample.label, parts) for sample in data.samples]
    if test is not None:
        others = read_labelled(test, Selection("all"))
        photos = [Photo(one.file, one.label, one.part or "train") for one in photos]
        photos += [_photo(sample.image, sample.label, {}, "test") for sample in others.samples]
    classes = classifier.classes or Classes.of_support(data)
    index = classes.index(LabelledImages(tuple(data.samples), data.source))
    files = [Path(photo.file) for photo in photos]
    cache = Cache(cache_folder() / "photos.db")
    try:
        maker = classifier._now.photo_features(files, cache)
        copies = find_duplicates(_pool(photos), progress=progress, reader=maker.reader)
        odd = _odd(photos, files, maker.reader, tell)
        broken = {one.photo.file for one in odd if one.kind != "tiny"}
        places = [place for place, one in enumerate(photos) if one.file not in broken and one.label in index]
        features = np.zeros((len(places), classifier.backbone.joint_width), dtype=np.float32)
        done = 0
        for some in maker.stream([files[place] for place in places]):
            for one in some:
                if one.features is not None:
                    features[one.place] = one.features
            done += len(some)
            tell("looking at images", done, len(places))
    finally:
        cache.close()
    labels = np.array([index[photos[place].label] for place in places], dtype=int)
    doubtful = _doubtful(classifier, classes, photos, places, features, labels, copies, seed)
    groups = sorted(_groups(copies, photos), key=lambda one: (len(one.labels) < 2, len(one.parts) < 2))
    return Audit(tuple(photos), tuple(doubtful), tuple(groups), tuple(odd))


def _photo(image: Any, label: str, parts: dict[str, str], part: str = "") -> Photo:
    if not isinstance(image, str | Path):
        raise DataError("an image of the data is no file: give paths, so that findings can name them")
    return Photo(str(image), label, parts.get(os.path.abspath(image), part))  # noqa: PTH100 - a Path for each costs


def _pool(photos: Sequence[Photo]) -> Pool:
    ids = tuple(photo.file for photo in photos)
    texts = {photo.label: photo.label for photo in photos}
    return Pool("data", ids, tuple(map(Path, ids)), tuple(photo.label for photo in photos), texts, "", "")


def _odd(photos: Sequence[Photo], files: Sequence[Path], reader: ImageReader, tell: Progress) -> list[Odd]:
    def look(file: Path) -> tuple[Kind, str] | None:
        try:
            size = reader.look(file, lambda found: found.size)
            spread = reader.make(file, _spread, at_least=_THUMBNAIL)
        except ImageProblem as problem:
            return "broken", problem.reason
        if spread < BLANK:
            return "blank", f"pixels differ by {spread:.1f} of 255"
        if min(size) < TINY:
            return "tiny", f"{size[0]} x {size[1]} pixels"
        return None

    found = []
    for place, one in enumerate(load_ahead(look, files, _AHEAD)):
        tell("looking for odd images", place + 1, len(files))
        if one is not None:
            found.append(Odd(photos[place], *one))
    return found


def _spread(image: Image.Image) -> float:
    small = image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX, reducing_gap=2.0)
    return float(np.asarray(small, dtype=np.float32).std((0, 1)).mean())


def _groups(copies: Duplicates, photos: Sequence[Photo]) -> list[Copies]:
    known = {photo.file: photo for photo in photos}
    # A group of near copies has the exact ones of its images in it.
    near = [Copies(tuple(known[one] for one in group.ids), exact=False) for group in copies.near]
    inside = {photo.file for group in near for photo in group.photos}
    exact = [group for group in copies.exact if not set(group.ids) <= inside]
    return [Copies(tuple(known[one] for one in group.ids), exact=True) for group in exact] + near


def _doubtful(
    classifier: "Classifier",
    classes: Classes,
    photos: Sequence[Photo],
    places: Sequence[int],
    features: np.ndarray,
    labels: np.ndarray,
    copies: Duplicates,
    seed: int,
) -> list[Doubtful]:
    if len(np.unique(labels)) < 2:
        return []
    group = {name: number for number, one in enumerate([*copies.exact, *copies.near]) for name in one.ids}
    numbers = np.array([group.get(photos[place].file, -1 - rank) for rank, place in enumerate(places)])
    texts = classifier._now.frozen.text_features(classes.texts, classifier.recipe.prompt.template)
    asked = Texts(unit(texts.astype(np.float64)), classifier.backbone.logit_scale)
    answers = ask(unit(features), labels, numbers, asked, seed)
    found = []
    for rank, other in answers.doubtful(labels):
        chances = answers.probabilities[rank]
        near = tuple(photos[places[one]] for one in answers.neighbours[rank, :SHOWN])
        own = float(chances[labels[rank]])
        found.append(Doubtful(photos[places[rank]], classes.labels[other], own, float(chances[other]), near))
    return found
