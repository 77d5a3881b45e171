"""Prediction: images decoded in background threads, one batch after the other through the model, in bounded memory.

Shapes: B images of a batch, N classes, E joint width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from atha.classes import Classes
from atha.data import LabelledSource, Selection, read_labelled
from atha.data.images import (
    ImageInput,
    ImageProblem,
    ImageReader,
    SeveralImages,
    each_image,
    image_name,
)
from atha.data.loading import load_ahead
from atha.data.views import Views
from atha.doubt import Doubt
from atha.errors import DataError
from atha.evaluation import Evaluation
from atha.methods.base import Fitted
from atha.methods.images import ViewedImages
from atha.models.frozen import Frozen


@dataclass(frozen=True)
class Prediction:
    """What `Classifier.stream` says of one image. With ``problem``, the image could not be read.

    Attributes:
        file: as given.
        label: the class with the largest probability.
        probability: of that class.
        probabilities: of all classes, in their order.
        problem: why there is no prediction.
        labels: the set of labels that holds the right one as often as was asked for, the most probable first; none
            where no sets were asked for.
        unknown: whether it is none of the classes, where that was asked.
        strangeness: what that is decided by, see `atha.doubt.Strangeness`; not a number where it was not asked.
    """

    file: str
    label: str = ""
    probability: float = float("nan")
    probabilities: tuple[float, ...] = ()
    problem: str = ""
    labels: tuple[str, ...] = ()
    unknown: bool = False
    strangeness: float = float("nan")


@dataclass(frozen=True)
class _Viewed:
    """An image's name, its plain view or why there is none, and its `content_hash` where that was asked for."""

    name: str
    view: UInt8[Tensor, "3 H W"] | ImageProblem
    digest: str = ""


@dataclass
class Classified:
    """Labelled images and what was made of them.

    Attributes:
        labels: the classes'.
        ignored: sentences on files that are no images of the data.
        truth: class indices.
        files: names of the images.
        probabilities: of each image.
        features: frozen ones of each image, where they were asked for.
        unread: sentences on images that are not among these.
        digests: `content_hash` of each image, where there are known ones.
    """

    labels: Sequence[str]
    ignored: Sequence[str]
    truth: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    probabilities: list[Float[np.ndarray, "N"]] = field(default_factory=list)
    features: list[Float[np.ndarray, "E"]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def evaluation(self, probabilities: Float[np.ndarray, "n N"]) -> Evaluation:
        """How good predictions of these images are: those that were made, or a baseline's."""
        left_out = [*self.ignored, *self.unread]
        return Evaluation(self.labels, np.array(self.truth), probabilities, self.files, left_out)


@dataclass(frozen=True)
class Predictor:
    """A fitted model, ready to classify images from anywhere.

    Attributes:
        fitted: the model.
        views: makes tensors of images.
        frozen: the frozen backbone.
        reader: reads images, by the rule of the data set that was learned from.
    """

    fitted: Fitted
    views: Views
    frozen: Frozen
    reader: ImageReader

    def batches(
        self, images: Iterable[ImageInput], size: int, known: Mapping[str, str] | None = None
    ) -> Iterator[list[_Viewed]]:
        """Plain views of consecutive images, in order, decoded while the batch before is worked on.

        Args:
            images: of any number; taken once, and no more than two batches ahead.
            size: images of a batch.
            known: why images are not to be classified, by their `content_hash`.
        """

        def load(image: ImageInput) -> _Viewed:
            name = image_name(image)
            try:
                if not known:
                    return _Viewed(name, self.reader.make(image, self.views.plain))
                view, digest = self.reader.make_hashed(image, self.views.plain)
                if digest in known:
                    return _Viewed(name, ImageProblem(name, known[digest]))
                return _Viewed(name, view, digest)
            except ImageProblem as problem:
                return _Viewed(name, problem)

        # Who makes images one after the other may use one object for all, as PIL does for the frames of a film: each is
        # looked at before the next is asked for.
        lasting = isinstance(images, Sequence)
        taken = (image if lasting or isinstance(image, str | Path) else load(image) for image in images)
        loaded = load_ahead(lambda item: item if isinstance(item, _Viewed) else load(item), taken, 2 * size)
        while batch := list(islice(loaded, size)):
            yield batch

    def stream(
        self,
        images: SeveralImages,
        labels: Sequence[str],
        size: int,
        doubt: Doubt | None = None,
        known: Mapping[str, str] | None = None,
    ) -> Iterator[Prediction]:
        """Classify images, ``size`` at once, into ``labels``; those that cannot be read are named in their place.

        So are those that are ``known``, as for `batches`.
        """
        for batch in self.batches(each_image(images), size, known):
            good = [image.view for image in batch if isinstance(image.view, Tensor)]
            predictions = iter(self._predictions(good, labels, doubt))
            for image in batch:
                if isinstance(image.view, ImageProblem):
                    yield Prediction(image.name, problem=str(image.view))
                else:
                    yield replace(next(predictions), file=image.name)

    def classify(
        self,
        test: LabelledSource,
        classes: Classes,
        known: Mapping[str, str],
        size: int,
        features: bool,
        progress: Callable[[int, int], None] | None,
    ) -> Classified:
        """Classify labelled images.

        Args:
            test: the images.
            classes: that they are of.
            known: as for `batches`.
            size: images of a batch.
            features: whether frozen features are wanted too.
            progress: called with (images done, images in all).

        Raises:
            DataError: a class that is none of these, or no image that can be used.
        """
        data = read_labelled(test, Selection("test"))
        index = classes.index(data)
        found = Classified(classes.labels, data.ignored)
        samples = iter(data.samples)
        done = 0
        for batch in self.batches([sample.image for sample in data.samples], size, known):
            good = []
            for sample, image in zip(islice(samples, len(batch)), batch, strict=True):
                if isinstance(image.view, ImageProblem):
                    found.unread.append(str(image.view))
                    continue
                found.truth.append(index[sample.label])
                found.files.append(image.name)
                found.digests.append(image.digest)
                good.append(image.view)
            if good:
                images = self.viewed(good)
                found.probabilities += list(self.fitted.probabilities(images))
                found.features += list(images.features) if features else []
            done += len(batch)
            if progress is not None:
                progress(done, len(data.samples))
        if not found.truth:
            reason = f" ({[*found.unread, *found.ignored][0]})" if found.ignored or found.unread else ""
            raise DataError(f"no image of {data.source} can be evaluated{reason}: give other test images")
        return found

    def _predictions(
        self, views: list[UInt8[Tensor, "3 H W"]], labels: Sequence[str], doubt: Doubt | None
    ) -> list[Prediction]:
        """Of plain views, without the names of their files."""
        if not views:
            return []
        images = self.viewed(views)
        rows = self.fitted.probabilities(images)
        sets = None if doubt is None else doubt.label_sets(rows)
        strange = None if doubt is None or doubt.unknown is None else doubt.unknown[0].score(images.features)
        made = []
        for place, row in enumerate(rows):
            best = int(row.argmax())
            order = () if sets is None else np.argsort(-row, kind="stable")
            made.append(
                Prediction(
                    "",
                    labels[best],
                    float(row[best]),
                    tuple(row.tolist()),
                    labels=tuple(labels[one] for one in order if sets is not None and sets[place, one]),
                    unknown=strange is not None and doubt is not None and doubt.is_unknown(float(strange[place])),
                    strangeness=float("nan") if strange is None else float(strange[place]),
                )
            )
        return made

    def probabilities(self, images: list[UInt8[Tensor, "3 H W"]]) -> Float[np.ndarray, "B N"]:
        """Class probabilities of plain views; rows sum to 1."""
        return self.fitted.probabilities(self.viewed(images)) if images else np.empty((0, 0))

    def frozen_features(self, images: list[UInt8[Tensor, "3 H W"]]) -> Float[np.ndarray, "B E"]:
        """What the frozen backbone makes of plain views, not normalised."""
        return self.viewed(images).features if images else np.empty((0, 0), dtype=np.float32)

    def viewed(self, images: list[UInt8[Tensor, "3 H W"]]) -> ViewedImages:
        """Plain views as a fitted model takes them."""
        return ViewedImages(torch.stack(images), self.views, self.frozen)
