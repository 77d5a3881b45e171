"""Which photos of a pile to label next: a session over files, opened, asked once, and closed."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from atha.classes import Classes
from atha.data import LabelledImages, LabelledSource, Selection, read_labelled
from atha.data.cache import Cache
from atha.data.finding import find_images
from atha.data.sources.columns import find_columns
from atha.data.sources.table import SUFFIXES, open_table
from atha.data.sources.tabular import files_of
from atha.errors import DataError
from atha.files import cache_folder
from atha.labelling.drawing import How
from atha.labelling.estimate import BACK, Estimate
from atha.labelling.model import Texts
from atha.labelling.photos import PhotoFeatures
from atha.labelling.session import SHARE, Session
from atha.methods.base import unit

if TYPE_CHECKING:
    from atha.classifier import Classifier

#: The column of a table that says why an image was labelled.
CHOSEN = "chosen"
#: File of the features of photos.
CACHE = "photos.db"

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Suggestion:
    """A photo to label.

    Attributes:
        file: as it was found.
        chosen: ``random``, ``typical``, ``named``, ``different`` or ``unsure``; to be kept with the label: the estimate
            is made of random ones.
        guess: the class that it is taken for by now; empty while nothing is known.
        probability: of that class; not a number while nothing is known.
    """

    file: str
    chosen: How
    guess: str
    probability: float


@dataclass(frozen=True)
class Suggestions:
    """What `suggest` says.

    Attributes:
        photos: to label next.
        estimate: accuracy on the rest of the pile, of the blend of class texts and probes on frozen features.
        advice: whether more labels are worth it, in a sentence.
        labelled: photos that have a label.
        pool: photos of the pile that can be read and are no copies of one another.
        problems: sentences on photos that cannot be read.
    """

    photos: tuple[Suggestion, ...]
    estimate: Estimate
    advice: str
    labelled: int
    pool: int
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain types, for JSON."""
        known = self.estimate.is_known
        return {
            "photos": [
                {"file": one.file, CHOSEN: one.chosen}
                | ({"guess": one.guess, "probability": one.probability} if one.guess else {})
                for one in self.photos
            ],
            "estimate": {
                "random_images": self.estimate.images,
                "accuracy": self.estimate.accuracy if known else None,
                "interval95": list(self.estimate.interval),
            },
            "advice": self.advice,
            "labelled": self.labelled,
            "pool": self.pool,
            "problems": list(self.problems),
        }


def suggest(
    images: str | Path | Sequence[str | Path],
    classifier: "Classifier",
    labels: LabelledSource | None = None,
    *,
    count: int = 20,
    seed: int = 0,
    share: float = SHARE,
    progress: Told | None = None,
) -> Suggestions:
    """Choose photos to label next, and estimate how good the labels are that are there.

    Typical photos first, so that few labels cover what there is, and those that the text of a class without a label
    stands out on; then those that a model is unsure of and that differ
    from what is labelled; and always a share at random, on which alone the estimate rests: photos that were chosen for
    the model are harder than the rest, and an estimate of them would be too low. Nothing is trained in the backbone.

    Args:
        images: files, folders or patterns: the pile.
        classifier: its backbone sees the photos. One that was fitted gives its classes and, without ``labels``, its
            support set.
        labels: all that is labelled so far, of the pile or not. Of a table, the column ``chosen`` says which were drawn
            at random.
        count: photos to choose.
        seed: of all that is random; the same throughout an afternoon.
        share: of the photos that are chosen, those that are drawn at random, from 0 to 1.
        progress: told of (photos done, photos in all).

    Raises:
        DataError: there is no image, the labels cannot be used, or a number is out of range.
    """
    if count < 1:
        raise DataError(f"count is {count}, give 1 or more")
    files = find_images([images] if isinstance(images, str | Path) else list(images), Selection("predict"))
    opened = open_session(files, classifier, labels, seed=seed, share=share, progress=progress)
    if not opened.pool:
        first = next(iter(opened.problems.values()))
        raise DataError(f"none of the {len(files)} photos can be read ({first}): give other ones")
    session = opened.session
    picks = session.next(count)
    session.recall(len(session.labelled) - BACK)
    estimate = session.estimate()
    photos = tuple(
        Suggestion(
            str(files[pick.place]),
            pick.how,
            "" if pick.guess is None else session.classes[pick.guess],
            pick.probability,
        )
        for pick in picks
    )
    return Suggestions(
        photos, estimate, session.advice(), sum(session.counts), opened.pool, tuple(opened.problems.values())
    )


@dataclass(frozen=True)
class Opened:
    """A session over files.

    Attributes:
        session: with all features and labels.
        pool: photos that can be read and are no copies of one another.
        problems: of those that cannot be read, by place.
    """

    session: Session
    pool: int
    problems: Mapping[int, str]


def open_session(
    files: Sequence[Path],
    classifier: "Classifier",
    labels: LabelledSource | None = None,
    *,
    seed: int = 0,
    share: float = SHARE,
    progress: Told | None = None,
) -> Opened:
    """See `suggest`.

    Args:
        files: the pile.
        classifier: see `suggest`.
        labels: see `suggest`.
        seed: see `suggest`.
        share: see `suggest`.
        progress: see `suggest`.

    Raises:
        DataError: the labels cannot be used.
    """
    data = None if labels is None else read_labelled(labels, Selection("fit"))
    classes = _classes(classifier, data)
    now = classifier._now
    if classifier.classes is None:
        now = replace(now, expected=classes)
    texts = now.text_features()
    session = Session(
        list(classes.labels) if classes else [],
        Texts(unit(texts.astype(np.float64)), classifier.backbone.logit_scale),
        len(files),
        seed,
        share,
    )
    cache = Cache(cache_folder() / CACHE)
    try:
        reader = now.photo_features(files, cache)
        known = _add_labels(session, files, classifier, data, classes, reader, _marks(labels))
        first: dict[str, int] = dict.fromkeys(known, -1)
        problems: dict[int, str] = {}
        done, labelled = 0, session.labelled
        for photos in reader.stream(files, session.order.tolist()):
            for photo in photos:
                if photo.features is None:
                    problems[photo.place] = photo.problem
                    session.leave_out(photo.place)
                    continue
                session.add_features([photo.place], photo.features[None])
                there = first.setdefault(photo.digest, photo.place)
                if there != photo.place and photo.place not in labelled:
                    session.leave_out(photo.place)
                elif there != photo.place and there not in labelled and there >= 0:
                    session.leave_out(there)
                    first[photo.digest] = photo.place
            done += len(photos)
            if progress is not None:
                progress(done, len(files))
    finally:
        cache.close()
    return Opened(session, len({*first.values()} - {-1}), problems)


def _classes(classifier: "Classifier", data: LabelledImages | None) -> Classes | None:
    if classifier.classes is not None:
        if data is not None:
            classifier.classes.index(data)
        return classifier.classes
    return None if data is None else Classes.of_support(data)


def _add_labels(
    session: Session,
    files: Sequence[Path],
    classifier: "Classifier",
    data: LabelledImages | None,
    classes: Classes | None,
    reader: PhotoFeatures,
    marks: Mapping[str, How | None],
) -> Sequence[str]:
    """Give a session what is labelled already; content hashes of what is not to be offered again."""
    if data is None or classes is None:
        if not classifier.fitted:
            return ()
        support, record = classifier.support, classifier.record
        if support is None or record is None:
            raise DataError("the adapter does not keep its support set: give the labelled images with --labels")
        session.add_labelled(support.features, support.labels.tolist())
        return record.support.sha256
    index = classes.index(data)
    places = {_absolute(file): place for place, file in enumerate(files)}
    elsewhere: list[tuple[Path, int]] = []
    turn = {path: number for number, path in enumerate(marks)}  # the order of labelling
    for sample in sorted(data.samples, key=lambda one: turn.get(_absolute(one.image), len(turn))):
        if not isinstance(sample.image, str | Path):
            raise DataError("an image of the labels is no file: give paths, as the pile's are")
        path = _absolute(sample.image)
        if path in places:
            session.label(places[path], index[sample.label], marks.get(path) or "own")
        else:
            elsewhere.append((Path(path), index[sample.label]))
    digests = []
    for photos in reader.stream([file for file, _ in elsewhere]):
        for photo in photos:
            if photo.features is not None:
                session.add_labelled(photo.features[None], [elsewhere[photo.place][1]])
                digests.append(photo.digest)
    return digests


def _marks(labels: LabelledSource | None) -> dict[str, How | None]:
    """Why images were labelled, by absolute path, in the order of a table's rows; None where it does not say."""
    if not isinstance(labels, str | Path) or Path(labels).suffix.lower() not in SUFFIXES:
        return {}
    records = open_table(Path(labels))
    files = files_of(records.base, Selection("fit"), ())
    column = find_columns(records, Selection("fit"), files).image
    chosen = records.header.index(CHOSEN) if CHOSEN in records.header else None
    found: dict[str, How | None] = {}
    for number, row in records.rows():
        value = row[chosen] if chosen is not None and chosen < len(row) else ""
        if value and value not in get_args(How):
            raise DataError(
                f"{records.path}: row {number} has '{value}' in column '{CHOSEN}': write {', '.join(get_args(How))}, "
                "or leave it empty"
            )
        if column < len(row) and (path := files.find(row[column])) is not None:
            found[_absolute(path)] = cast(How, value) if value else None
    return found


def _absolute(image: Any) -> str:
    return os.path.abspath(str(image))  # noqa: PTH100 - a Path for each of many costs
