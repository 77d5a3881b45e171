"""A classifier at one moment: what predicts, taken once, so that a fit that ends meanwhile is not mixed into it.

Shapes: N classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from atha.classes import Classes
from atha.conformal import check_shares, rejection_threshold
from atha.data import LabelledSource
from atha.data.cache import Cache
from atha.data.deciding import decide_reading
from atha.data.images import ImageInput, ImageProblem, ImageReader, SeveralImages, each_image
from atha.data.reading import AS_BEFORE
from atha.data.views import Views
from atha.doubt import Doubt, Strangeness, check_no_class, small_for_sets, small_for_unknown, strangeness
from atha.errors import DataError
from atha.explain import Explanation, explain
from atha.fitting import Learned
from atha.labelling.photos import PhotoFeatures
from atha.methods.base import unit
from atha.methods.linear_probe import linear_probe
from atha.methods.scores import LinearScores
from atha.methods.zero_shot import zero_shot
from atha.models.frozen import Frozen
from atha.models.inference import images_at_once
from atha.prediction import Classified, Prediction, Predictor
from atha.recipe import Recipe

# Photos that say how a pile of them is read.
_LOOKED_AT = 200
#: Told of (images done, images in all).
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Snapshot:
    """What a classifier answers from.

    Attributes:
        recipe: has the template of the class texts.
        views: makes the plain views.
        frozen: the frozen backbone.
        max_pixels: larger images are refused, before decoding.
        expected: the classes while nothing is learned; None where they are not known either.
        learned: what came of the support set; None is zero-shot.
    """

    recipe: Recipe
    views: Views
    frozen: Frozen
    max_pixels: int
    expected: Classes | None
    learned: Learned | None

    @property
    def classes(self) -> Classes:
        """The classes.

        Raises:
            DataError: they are not known yet.
        """
        known = self.expected if self.learned is None else self.learned.classes
        if known is None:
            raise DataError("the classes are not known yet: call fit, or give classes to from_pretrained")
        return known

    @property
    def reader(self) -> ImageReader:
        """How images are read, as it was decided on the support set."""
        return ImageReader(AS_BEFORE if self.learned is None else self.learned.record.read_as, self.max_pixels)

    def predictor(self, plain: bool = False) -> Predictor:
        """What classifies, by all the views that it was fitted with or by the plain one alone.

        Raises:
            DataError: the classes are not known yet.
        """
        fitted = self.zero_shot() if self.learned is None else self.learned.fitted
        return Predictor(fitted.plain() if plain else fitted, self.views, self.frozen, self.reader)

    def zero_shot(self) -> LinearScores:
        """The class texts alone.

        Raises:
            DataError: the classes are not known yet.
        """
        texts = self.frozen.text_features(self.classes.texts, self.recipe.prompt.template)
        return zero_shot(texts, self.frozen.backbone.logit_scale)

    def text_features(self) -> Float[np.ndarray, "N E"]:
        """Frozen features of the class texts in the prompt, not normalised; of no class where none is known."""
        if self.learned is None and self.expected is None:
            return np.zeros((0, self.frozen.backbone.joint_width), dtype=np.float32)
        return self.frozen.text_features(self.classes.texts, self.recipe.prompt.template)

    def photo_features(self, files: Sequence[Path], cache: Cache) -> PhotoFeatures:
        """What makes frozen features of many photos, read as the support set was.

        Args:
            files: without a support set, some of these say how photos are read.
            cache: keeps the features.

        Raises:
            DataError: as of `atha.data.deciding.decide_reading`.
        """
        reader = self.reader
        if self.learned is None:
            some = [files[place] for place in np.random.default_rng(0).permutation(len(files))[:_LOOKED_AT]]
            reader = ImageReader(decide_reading(some, None, self.max_pixels), self.max_pixels)
        return PhotoFeatures(self.frozen, self.views, reader, self.recipe.views.transform, cache)

    def stream(
        self, images: SeveralImages, batch_size: int | None, plain: bool, doubt: Doubt | None = None
    ) -> Iterator[Prediction]:
        """See `atha.Classifier.stream`."""
        return self.predictor(plain).stream(images, self.classes.labels, self._size(batch_size), doubt)

    def strangers(
        self, images: SeveralImages, batch_size: int | None, doubt: Doubt, tested: Iterable[str]
    ) -> Iterator[Prediction]:
        """`stream` of images that may be of no class, in the plain view.

        Those of the support set are problems, as are those of a test set.

        Args:
            images: as for `stream`.
            batch_size: as for `stream`.
            doubt: as for `stream`.
            tested: `content_hash` of the test images.
        """
        predictor, size = self.predictor(True), self._size(batch_size)
        known = self._of_support | dict.fromkeys(tested, "it is one of the test images")
        return predictor.stream(images, self.classes.labels, size, doubt, known)

    def doubt(self, sets: float | None, unknown: float | None, plain: bool = False) -> Doubt | None:
        """What is asked of images beside their labels; None if nothing is.

        Args:
            sets: coverage of sets of labels.
            unknown: rate of false rejections of images of the classes.
            plain: whether the plain view alone is looked at.

        Raises:
            DataError: what it rests on was not kept, or a share is none.
        """
        if sets is None and unknown is None:
            return None
        check_shares(sets, unknown)
        held_out = None if self.learned is None else self.learned.record.held_out
        if held_out is None:
            raise DataError("there are no held-out scores of a support set: fit, or fit again where an older atha did")
        asked, known = None, None
        small: list[str] = []
        if sets is not None:
            if plain:
                raise DataError("sets are promised for all views of an image: leave --plain (plain=True) out")
            if not held_out.misfits:
                raise DataError(
                    "the model has no held-out answers of support images, which sets rest on: fit with the recipe auto "
                    "or probes, and two images or more of a class"
                )
            asked = held_out.misfits, sets
            small.append(small_for_sets(len(held_out.misfits), sets))
        if unknown is not None:
            check_no_class(self.classes.labels)
            known = self.strangeness(), rejection_threshold(held_out.strangeness, unknown)
            small.append(small_for_unknown(len(held_out.strangeness), unknown))
        return Doubt(asked, known, tuple(filter(None, small)))

    def strangeness(self) -> Strangeness:
        """What tells how strange an image is.

        Raises:
            DataError: there is no support set, or its features were not kept.
        """
        if self.learned is None or self.learned.support is None:
            raise DataError(
                "the support set's features were not kept, which images are compared with: fit again, without "
                "--no-keep-support (keep_support=False)"
            )
        support = self.learned.support
        return strangeness(support.features, support.labels, self.learned.record.run.seed)

    def readable(self, images: SeveralImages, plain: bool, doubt: Doubt | None = None) -> list[Prediction]:
        """Predictions of images that can all be read.

        Raises:
            DataError: one cannot.
        """
        predictions = list(self.stream(images, None, plain, doubt))
        bad = [prediction.problem for prediction in predictions if prediction.problem]
        if bad:
            raise DataError(
                f"{len(bad)} of {len(predictions)} images cannot be read, the first is {bad[0]}: leave it out"
            )
        return predictions

    def embed(self, images: SeveralImages) -> Float[np.ndarray, "n E"]:
        """See `atha.Classifier.embed`.

        Raises:
            DataError: an image cannot be read.
        """
        nothing = np.empty((0, self.frozen.backbone.joint_width), dtype=np.float32)
        # Nothing is classified: no text needs to go through its tower.
        viewer = Predictor(zero_shot(nothing, self.frozen.backbone.logit_scale), self.views, self.frozen, self.reader)
        rows = [nothing]
        for batch in viewer.batches(each_image(images), self._size(None)):
            for image in batch:
                if isinstance(image.view, ImageProblem):
                    raise DataError(f"{image.view}: leave it out")
            rows.append(viewer.frozen_features([image.view for image in batch if isinstance(image.view, Tensor)]))
        return unit(np.concatenate(rows))

    def explain(self, image: ImageInput) -> Explanation:
        """See `atha.Classifier.explain`."""
        self.frozen.backbone.check_alignable()
        fitted = None if self.learned is None else self.learned.fitted
        return explain(image, self.predictor(), self.classes, self.zero_shot(), fitted, self.recipe)

    def classify(
        self, test: LabelledSource, batch_size: int | None, progress: Told | None, plain: bool, features: bool
    ) -> Classified:
        """Labelled images, classified, but for those of the support set.

        Args:
            test: the images.
            batch_size: images at once; None: as many as the backbone takes best.
            progress: told of images that are done.
            plain: look at the plain view alone.
            features: whether frozen features are wanted too.

        Raises:
            DataError: as of `atha.Classifier.evaluate`.
        """
        size = self._size(batch_size)
        return self.predictor(plain).classify(test, self.classes, self._of_support, size, features, progress)

    def baselines(self, features: Float[np.ndarray, "n E"]) -> dict[str, Float[np.ndarray, "n N"]]:
        """Class probabilities by the frozen backbone alone, of images with these features.

        Returns:
            ``zero-shot``, and ``linear probe`` where the support set's features are there.
        """
        made = {"zero-shot": self.zero_shot().of_features(features)}
        if self.learned is not None and (support := self.learned.support) is not None:
            probe = linear_probe(support.features, support.labels, len(self.classes.labels))
            made["linear probe"] = probe.of_features(features)
        return made

    @property
    def _of_support(self) -> dict[str, str]:
        """Why support images are not to be classified, by their `content_hash`."""
        hashes = () if self.learned is None else self.learned.record.support.sha256
        return dict.fromkeys(hashes, "the same image is in the support set")

    def _size(self, batch_size: int | None) -> int:
        if batch_size is not None and batch_size < 1:
            raise DataError(f"batch_size is {batch_size}: give 1 or more")
        return images_at_once(self.frozen.backbone) if batch_size is None else batch_size
