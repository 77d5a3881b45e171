"""What a classifier says of images: labels, probabilities, sets, what is unknown, where it looks, how good it is.

Each answer is made from one `atha.snapshot.Snapshot`, taken once.

Shapes: n images, N classes.
"""

import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from atha.data import LabelledSource
from atha.data.images import ImageInput, SeveralImages
from atha.defaults import UNKNOWN_RATE
from atha.doubt import Doubt
from atha.embedding import Embedder
from atha.errors import AthaWarning, DataError
from atha.evaluation import Evaluation
from atha.explain import Explanation
from atha.prediction import Classified, Prediction, Predictor
from atha.rejection import Rejection
from atha.snapshot import Told


class Answerer(Embedder):
    """What answers from its `_now`."""

    def predict(self, images: SeveralImages, *, plain: bool = False) -> list[str]:
        """The label of each image, that of the largest probability.

        Args:
            images: of any number, anything that can be iterated, also once only; or one image, which gives one row.
            plain: look at the plain view of an image alone, which is faster where a blend looks at several.

        Raises:
            DataError: no classes yet, or an image cannot be read.
        """
        return [prediction.label for prediction in self._now.readable(images, plain)]

    def predict_proba(self, images: SeveralImages, *, plain: bool = False) -> Float[np.ndarray, "n N"]:
        """Class probabilities of each image, in the order of ``classes.labels``; rows sum to 1.

        Args:
            images: of any number, anything that can be iterated, also once only; or one image, which gives one row.
            plain: as for `predict`.

        Raises:
            DataError: no classes yet, or an image cannot be read.
        """
        now = self._now
        rows = np.array([prediction.probabilities for prediction in now.readable(images, plain)])
        return rows if len(rows) else rows.reshape(0, len(now.classes.labels))

    def predict_sets(self, images: SeveralImages, coverage: float = 0.9) -> list[tuple[str, ...]]:
        """Sets of labels that hold the right one of a stated share of images, the most probable first.

        The promise rests on held-out scores of the support set and holds on average for images like these, with the
        classes in the same shares. It is kept by fewer, larger sets where the support set is small.

        Args:
            images: as for `predict`.
            coverage: the share, between 0 and 1.

        Raises:
            DataError: as for `predict`, or there are no held-out scores.

        Warns:
            AthaWarning: the support set is too small, and every set holds all labels.
        """
        doubt = self.doubt(coverage, None)
        return [prediction.labels for prediction in self._now.readable(images, False, doubt)]

    def unknown_scores(self, images: SeveralImages) -> Float[np.ndarray, "n"]:
        """How unlike the classes of the support set each image is, see `atha.doubt.Strangeness`.

        Args:
            images: as for `predict`.

        Raises:
            DataError: as for `predict`, or the support set's features were not kept.
        """
        now = self._now
        doubt = Doubt(unknown=(now.strangeness(), np.inf))
        return np.array([one.strangeness for one in now.readable(images, True, doubt)])

    def unknown_threshold(self, rate: float = UNKNOWN_RATE) -> float:
        """The score of `unknown_scores` above which an image is none of the classes.

        Args:
            rate: share of images of the classes that may be taken for unknown.

        Raises:
            DataError: there are no held-out scores, or the rate is no share.

        Warns:
            AthaWarning: the support set is too small, and the threshold is infinity.
        """
        doubt = self.doubt(None, rate)
        assert doubt is not None and doubt.unknown is not None
        return doubt.unknown[1]

    def stream(
        self,
        images: SeveralImages,
        batch_size: int | None = None,
        *,
        plain: bool = False,
        sets: float | None = None,
        unknown: float | None = None,
    ) -> Iterator[Prediction]:
        """Predict one image after the other in bounded memory, naming those that cannot be read.

        Args:
            images: of any number, anything that can be iterated, also once only; or one image, which gives one row.
            batch_size: images that go through the model at once; None: see `atha.models.inference.images_at_once`.
            plain: as for `predict`.
            sets: coverage of sets of labels, see `predict_sets`; None: no sets.
            unknown: rate of false rejections, see `unknown_threshold`; None: every image is of a class.

        Raises:
            DataError: no classes yet, or ``images`` is neither images nor an image; or as for `predict_sets` and
                `unknown_threshold`.
        """
        yield from self._now.stream(images, batch_size, plain, self.doubt(sets, unknown, plain))

    def predictor(self, *, plain: bool = False) -> Predictor:
        """What classifies images, part by part, as it is at this moment: for whoever decodes and batches by himself.

        Args:
            plain: as for `predict`.

        Raises:
            DataError: no classes yet.
        """
        now = self._now
        _ = now.classes
        return now.predictor(plain)

    def explain(self, image: ImageInput) -> Explanation:
        """Where the model looks: similarity of every patch to every class at every block, before and after `fit`.

        The numbers are taken out of the forward passes that also give the probabilities, so they are those computed
        with. Without alignment nothing is moved; patches are then compared with adjoint anchors, and the tenth of
        them that would be head or tail is marked all the same.

        Args:
            image: one image.

        Raises:
            DataError: no classes yet, or the image cannot be read.
            BackboneError: the vision tower has no tokens.
        """
        return self._now.explain(image)

    def evaluate(
        self,
        test: LabelledSource,
        batch_size: int | None = None,
        progress: Told | None = None,
        plain: bool = False,
    ) -> Evaluation:
        """Classify labelled images and compare with their labels.

        Images that were in the support set are left out and named, as are those that cannot be read.

        Args:
            test: class folders, a table, (image, label) pairs, or `LabelledImages`.
            batch_size: images that go through the model at once; None: see `atha.models.inference.images_at_once`.
            progress: called with (images done, images in all).
            plain: as for `predict`.

        Raises:
            DataError: no classes yet, a class that is not the classifier's, or no image left.
        """
        found = self._now.classify(test, batch_size, progress, plain, features=False)
        _warn_of(found)
        return found.evaluation(np.array(found.probabilities))

    def evaluate_unknown(
        self,
        test: LabelledSource,
        others: SeveralImages,
        rate: float = UNKNOWN_RATE,
        batch_size: int | None = None,
        progress: Told | None = None,
        plain: bool = False,
    ) -> tuple[Evaluation, Rejection]:
        """`evaluate`, and how well images of no class are told from the test images.

        Args:
            test: as for `evaluate`.
            others: images of none of the classes; those that cannot be read, are in the support set or among the test
                images are named and left out.
            rate: see `unknown_threshold`.
            batch_size: as for `evaluate`.
            progress: as for `evaluate`, of the test images.
            plain: as for `evaluate`.

        Raises:
            DataError: as for `evaluate` and `unknown_threshold`, or none of the others is left.
        """
        now, threshold = self._now, self.unknown_threshold(rate)
        found = now.classify(test, batch_size, progress, plain, features=True)
        _warn_of(found)
        measure = now.strangeness()
        strange, problem = [], "there is none"
        for one in now.strangers(others, batch_size, Doubt(unknown=(measure, threshold)), found.digests):
            if problem := one.problem:
                warnings.warn(f"not evaluated: {problem}", AthaWarning, stacklevel=2)
            else:
                strange.append(one.strangeness)
        if not strange:
            raise DataError(f"no image of the unknown set can be used ({problem}): give others")
        known = measure.score(np.array(found.features))
        return found.evaluation(np.array(found.probabilities)), Rejection(known, np.array(strange), threshold, rate)

    def compare(
        self,
        test: LabelledSource,
        batch_size: int | None = None,
        progress: Told | None = None,
        plain: bool = False,
    ) -> dict[str, Evaluation]:
        """`evaluate`, beside what the frozen backbone does on the same images, from the same support set.

        Args:
            test: as for `evaluate`.
            batch_size: as for `evaluate`.
            progress: as for `evaluate`.
            plain: as for `predict`.

        Returns:
            Evaluations named ``zero-shot``, ``linear probe`` (logistic regression on frozen features) and ``adapted``,
            which is this classifier, a blend too; no probe where a saved adapter lacks its support set's features.

        Raises:
            DataError: as for `evaluate`.
        """
        now = self._now
        found = now.classify(test, batch_size, progress, plain, features=True)
        _warn_of(found)
        made = now.baselines(np.array(found.features)) | {"adapted": np.array(found.probabilities)}
        return {name: found.evaluation(probabilities) for name, probabilities in made.items()}

    def doubt(self, sets: float | None, unknown: float | None, plain: bool = False) -> Doubt | None:
        """What `stream` asks of images beside their labels; None if nothing is.

        Args:
            sets: as for `stream`.
            unknown: as for `stream`.
            plain: as for `predict`.
        """
        doubt = self._now.doubt(sets, unknown, plain)
        for sentence in () if doubt is None else doubt.small:
            warnings.warn(sentence, AthaWarning, stacklevel=3)
        return doubt


def _warn_of(found: Classified) -> None:
    for sentence in found.unread:
        warnings.warn(f"not evaluated: {sentence}", AthaWarning, stacklevel=3)
