"""What a classifier does not know: images of none of its classes, and labels that could be right as well.

Shapes: n support images, Q images, N classes, E joint width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from atha.conformal import enough, label_sets, misfits, needed
from atha.errors import DataError
from atha.methods.base import Fitted, unit
from atha.methods.blend import Blend
from atha.methods.evidence import folds
from atha.methods.scores import class_means

#: What an image is called that is none of the classes, and how many of the classes' own may be called so.
UNKNOWN = "unknown"
#: Support images that images are compared with, and folds in which they are held out.
_COMPARED, _FOLDS = 4000, 20


@dataclass(frozen=True)
class Strangeness:
    """How far an image is from the nearest class: Mahalanobis distance, for a covariance that all classes share.

    The covariance is that within the classes, shrunk half way towards a multiple of the identity, whose size it keeps
    (Lee et al. 2018, arXiv:1807.03888, on frozen features, where there are fewer images than dimensions).

    Attributes:
        whiten: takes features at unit length to a space in which classes are round.
        means: of the classes, there.
    """

    whiten: Float[np.ndarray, "E E"]
    means: Float[np.ndarray, "N E"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"]) -> "Strangeness":
        """Of a support set.

        Args:
            features: frozen ones, not normalised.
            labels: class indices.
        """
        rows = unit(features.astype(np.float64))
        present = np.searchsorted(np.unique(labels), labels)
        means = class_means(rows, present, int(present.max()) + 1)
        within = rows - means[present]
        size = rows.shape[1]
        # In the images' own span; in all directions beside it there is the multiple of the identity alone.
        _, lengths, directions = np.linalg.svd(within / np.sqrt(max(len(rows) - len(means), 1)), full_matrices=False)
        spread = max(float((lengths**2).sum()) / size, 1e-12)
        less = np.sqrt(spread / (lengths**2 + spread)) - 1
        whiten = (np.eye(size) + (directions.T * less) @ directions) / np.sqrt(spread * size)
        return cls(whiten, means @ whiten)

    def score(self, features: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, "Q"]:
        """0 of the mean image of a class; of a class's own images mostly below 1.

        Args:
            features: frozen ones, not normalised.
        """
        rows = unit(features.astype(np.float64)) @ self.whiten
        squares = (rows**2).sum(1)[:, None] + (self.means**2).sum(1) - 2 * rows @ self.means.T
        return np.asarray(np.sqrt(np.maximum(squares.min(1), 0.0)))


def strangeness(features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], seed: int) -> Strangeness:
    """What tells how strange an image is.

    Args:
        features: frozen ones of the support images, not normalised. Of very many, some are used.
        labels: class indices.
        seed: of which.
    """
    return Strangeness.of(*_some(features, labels, seed))


def held_out_strangeness(features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], seed: int) -> list[float]:
    """How strange support images are while they are held out; none of an image that is the only one of its class.

    Args:
        features: as of `strangeness`.
        labels: as of `strangeness`.
        seed: the same, and of the folds.
    """
    features, labels = _some(features, labels, seed)
    where, found = _folds(labels, seed), np.full(len(labels), np.nan)
    for fold in np.unique(where[where >= 0]):
        out = where == fold
        found[out] = Strangeness.of(features[~out], labels[~out]).score(features[out])
    # From the mean of n images another one is as far as its spread times 1 + 1/n, and here n was less by one or more.
    counts = np.bincount(labels)[labels]
    left = np.maximum(counts - np.ceil(counts / _FOLDS), 1)
    found *= np.sqrt((1 + 1 / counts) / (1 + 1 / left))
    return [float(one) for one in found if np.isfinite(one)]


def _folds(labels: Int[np.ndarray, "n"], seed: int) -> Int[np.ndarray, "n"]:
    """As `folds`, each class beginning with another one, so that no fold takes an image of all classes at once."""
    found = folds(labels, _FOLDS, seed)
    start = np.cumsum(np.bincount(labels)) - np.bincount(labels)
    return np.where(found < 0, found, (found + start[labels]) % _FOLDS)


def _some(
    features: Float[np.ndarray, "n E"], labels: Int[np.ndarray, "n"], seed: int
) -> tuple[Float[np.ndarray, "k E"], Int[np.ndarray, "k"]]:
    if len(labels) <= _COMPARED:
        return features, labels
    some = np.sort(np.random.default_rng(seed).choice(len(labels), _COMPARED, replace=False))
    return features[some], labels[some]


def misfits_of(fitted: Fitted, labels: Int[np.ndarray, "n"]) -> list[float]:
    """`atha.conformal.misfits` of support images by members of a blend that did not learn from them.

    Returns:
        None of other models, nor of an image that is the only one of its class.
    """
    if not isinstance(fitted, Blend) or fitted.answers is None:
        return []
    asked = np.isfinite(fitted.answers).all(1)
    return [float(one) for one in misfits(fitted.answers[asked], labels[asked])]


@dataclass(frozen=True)
class Doubt:
    """What is asked of each image beside its label.

    Attributes:
        sets: held-out misfits and the coverage that is wanted of sets of labels; None: no sets.
        unknown: tells how strange an image is, and above what it is none of the classes; None: all are of the classes.
        small: sentences on what is promised of too few support images.
    """

    sets: tuple[Sequence[float], float] | None = None
    unknown: tuple[Strangeness, float] | None = None
    small: tuple[str, ...] = ()

    def label_sets(self, probabilities: Float[np.ndarray, "Q N"]) -> Bool[np.ndarray, "Q N"] | None:
        """See `atha.conformal.label_sets`; None where no sets are wanted."""
        if self.sets is None:
            return None
        held_out, coverage = self.sets
        return label_sets(np.log(np.maximum(probabilities, np.finfo(float).tiny)), held_out, coverage)

    def is_unknown(self, strangeness: float) -> bool:
        """Whether an image is none of the classes."""
        return self.unknown is not None and strangeness > self.unknown[1]


def small_for_sets(images: int, coverage: float) -> str:
    """A sentence, if so few held-out support images cannot promise a coverage; else nothing."""
    rate = 1 - coverage
    if enough(images, rate):
        return ""
    return (
        f"{images} support images with held-out answers are too few to promise {100 * coverage:g}%: every set holds "
        f"all labels; give {needed(rate)} or more, or ask for at most {100 * images / (images + 1):.0f}%"
    )


def small_for_unknown(images: int, rate: float) -> str:
    """A sentence, if so few held-out support images cannot promise a rate of false rejections; else nothing."""
    if enough(images, rate):
        return ""
    return (
        f"{images} support images with held-out scores are too few for {100 * rate:g}% false rejections: no image is "
        f"rejected; give {needed(rate)} or more, or allow {100 / (images + 1):.0f}%"
    )


def check_no_class(labels: Sequence[str]) -> None:
    """See to it that what is unknown can be told from the classes.

    Raises:
        DataError: a class is called so.
    """
    if UNKNOWN in labels:
        raise DataError(f"a class is called '{UNKNOWN}', as images of no class would be: rename it, or leave this out")
