"""What scikit-learn asks of a classifier, so that `Classifier` works in its cross-validation, searches and clones.

Source: scikit-learn's guide for developers of estimators.

Shapes: n images, N classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np

from atha.classes import Classes
from atha.data import LabelledImages, LabelledSource, Selection, read_labelled
from atha.data.images import SeveralImages
from atha.errors import DataError
from atha.recipe import Recipe

_RECIPE = "recipe__"


class Estimator(ABC):
    """The protocol, on top of a constructor's arguments, ``classes`` and ``predict``.

    Parameters are the arguments of the constructor, and the keys of the recipe as ``recipe__training__steps``. The
    backbone is shared by clones, not copied: nothing changes it.
    """

    _estimator_type = "classifier"

    @property
    @abstractmethod
    def classes(self) -> Classes | None:
        """Labels and texts, once they are known."""

    @abstractmethod
    def predict(self, images: SeveralImages) -> list[str]:
        """The label of each image."""

    @abstractmethod
    def _arguments(self) -> dict[str, Any]:
        """Arguments by which the constructor makes such an object, not fitted."""

    @property
    def classes_(self) -> np.ndarray:
        """(N,) labels, in the order of ``predict_proba``'s columns.

        Raises:
            AttributeError: they are not known yet, as scikit-learn has it before ``fit``.
        """
        if self.classes is None:
            raise AttributeError("the classes are not known yet: call fit, or give classes to from_pretrained")
        return np.array(self.classes.labels)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Arguments of the constructor by name.

        Args:
            deep: has no effect: no argument is an estimator.
        """
        return self._arguments()

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; an adaptation is dropped.

        Args:
            **params: by name, or keys of the recipe such as ``recipe__training__steps``.

        Returns:
            This object.

        Raises:
            DataError: there is no such argument.
            RecipeError: there is no such key, or it cannot have this value.
        """
        given = self._arguments()
        keys = {name: value for name, value in params.items() if name.startswith(_RECIPE)}
        if unknown := [name for name in params if name not in given and name not in keys]:
            raise DataError(f"there is no parameter '{unknown[0]}': there are {', '.join(given)}, and recipe__KEY")
        changed = given | {name: value for name, value in params.items() if name not in keys}
        overrides = {name.removeprefix(_RECIPE).replace("__", "."): value for name, value in keys.items()}
        if overrides:
            changed["recipe"] = Recipe.load(changed["recipe"], overrides)
        vars(self).update(vars(type(self)(**changed)))
        return self

    def score(self, images: SeveralImages | LabelledSource, labels: Iterable[str | int] | None = None) -> float:
        """Share of images whose predicted label is theirs, 0 to 1, those of the support set included.

        `atha.Classifier.evaluate` leaves them out, names what cannot be read, and gives an interval.

        Args:
            images: to classify; or labelled ones, as for `fit`.
            labels: one for each image; None where ``images`` has them.

        Raises:
            DataError: no classes yet, a label that is none of them, or an image cannot be read.
        """
        data = labelled(images, labels, Selection("test"))
        predicted = self.predict([sample.image for sample in data.samples])
        assert self.classes is not None
        index, own = self.classes.index(data), self.classes.labels
        return float(
            np.mean([own[index[one.label]] == said for one, said in zip(data.samples, predicted, strict=True)])
        )

    def __sklearn_clone__(self) -> Self:
        return type(self)(**self._arguments())

    def __sklearn_is_fitted__(self) -> bool:
        return self.classes is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True, one_d_labels=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=False, string=True),
        )


def labelled(
    images: SeveralImages | LabelledSource, labels: Iterable[str | int] | None, selection: Selection
) -> LabelledImages:
    """Labelled images, given as images and labels or in one.

    Args:
        images: images, or what `atha.data.read_labelled` understands.
        labels: of the images; None where ``images`` has them.
        selection: of a data set with parts, what is wanted.

    Raises:
        DataError: there are not as many labels as images, or what is read cannot be used.
    """
    if labels is None:
        return read_labelled(images, selection)  # type: ignore[arg-type]
    if isinstance(images, str) or not isinstance(images, Iterable):
        raise DataError("labels are given for what is no list of images: give as many images as labels")
    listed, names = list(images), list(labels)
    if len(listed) != len(names):
        raise DataError(f"there are {len(listed)} images and {len(names)} labels: give one for each")
    return read_labelled(list(zip(listed, names, strict=True)), selection)  # type: ignore[arg-type]


def in_order(labels: Sequence[str | int] | None) -> list[str] | None:
    """Classes of labels that are whole numbers, in their own order and not in that of their digits.

    scikit-learn numbers classes so, and takes columns of probabilities to be in that order.

    Args:
        labels: one for each image.

    Returns:
        The classes; None where labels are none, or some are texts.
    """
    if not labels or not all(isinstance(label, Integral) for label in labels):
        return None
    return [str(label) for label in sorted({int(label) for label in labels})]
