"""How good a model is on what is not labelled yet, from labelled images that were drawn at random.

Each of these is classified by a model that was fitted to all other labels but its fold's, and so says by how much a
model's own probabilities are too high or too low. The estimate is the mean probability that the model gives to its
predictions on the rest of the pool, corrected by that much: a difference estimator (Cassel, Särndal and Wretman 1976).
It follows the pool as the doubtful images leave it. While there are few random images the correction is drawn to
nothing, as if some more of them had found the probabilities right.

Shapes: n labelled images, r of them drawn at random, N classes, Q images of the pool, E width of features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from jaxtyping import Bool, Float, Int

from atha.labelling.model import Texts, fit_model
from atha.statistics import Share, Z

#: Folds of the images that are held out.
FOLDS = 10
#: Images that are taken to have found the model's probabilities right, and the variance of one of them.
PRIOR, _VARIANCE = 8, 0.2
#: Labels ago that an estimate is compared with, a change in points below which more labels are not worth it, and the
#: share of the pool's images that may be classified in another way.
BACK, CHANGE, MOVED = 20, 1.0, 0.03


@dataclass(frozen=True)
class Estimate:
    """Accuracy on images that are not labelled.

    Attributes:
        accuracy: the estimate; not a number where `is_known` is not true.
        interval: its 95% interval.
        images: random ones that it rests on.
        classes: of each class, its labelled images that were classified right while they were held out, whatever they
            were chosen for: worth a comparison, and no estimate.
    """

    accuracy: float = float("nan")
    interval: tuple[float, float] = (0.0, 1.0)
    images: int = 0
    classes: Sequence[Share] = ()

    @property
    def is_known(self) -> bool:
        """Whether there is one: not without a random image, nor where no image is left."""
        return isfinite(self.accuracy)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.accuracy:.1f}% ({100 * low:.1f} to {100 * high:.1f})"

    @property
    def weakest(self) -> int | None:
        """Index of the class that is right least often, drawn towards a half where few images speak of it."""
        rates = [(one.successes + 1) / (one.total + 2) for one in self.classes]
        return int(np.argmin(rates)) if rates else None


@dataclass(frozen=True)
class Look:
    """An estimate, and when it was made.

    Attributes:
        labels: how many there were.
        estimate: what it said.
        predicted: class index of every image of the pool, -1 of those that the model was not asked about; None without
            a model.
    """

    labels: int
    estimate: Estimate
    predicted: Int[np.ndarray, "Q"] | None = field(default=None, compare=False)


def hold_out(
    features: Float[np.ndarray, "n E"],
    labels: Int[np.ndarray, "n"],
    random: Bool[np.ndarray, "n"],
    texts: Texts,
    seed: int,
) -> tuple[Bool[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Classify labelled images while they are held out.

    Args:
        features: of all labelled images, at unit length.
        labels: their class indices.
        random: which of them were drawn at random from the pool.
        texts: of all classes.
        seed: of the folds.

    Returns:
        Which were classified right, and the probability of what each was taken for.
    """
    right, sure = np.zeros(len(labels), dtype=bool), np.zeros(len(labels))
    for part in (random, ~random):
        places = np.random.default_rng(seed).permutation(np.flatnonzero(part))
        for fold in range(min(FOLDS, len(places))):
            out = places[fold::FOLDS]
            kept = np.setdiff1d(np.arange(len(labels)), out)
            if len(kept):
                model = fit_model(features[kept], labels[kept], texts, seed)
                found = model.probabilities(features[out])
                right[out], sure[out] = found.argmax(1) == labels[out], found.max(1)
    return right, sure


def by_class(labels: Int[np.ndarray, "n"], right: Bool[np.ndarray, "n"], count: int) -> list[Share]:
    """Of each class, the images that were classified right."""
    total, good = np.bincount(labels, minlength=count), np.bincount(labels[right], minlength=count)
    return [Share(int(a), int(b)) for a, b in zip(good, total, strict=True)]


def estimate(
    right: Bool[np.ndarray, "r"],
    sure: Float[np.ndarray, "r"],
    rest: Float[np.ndarray, "Q"],
    left: int,
    classes: Sequence[Share],
) -> Estimate:
    """Accuracy of a model on the rest of the pool.

    Args:
        right: which random images it classified right while they were held out.
        sure: the probability of what each was taken for.
        rest: the probability that the model gives to its own prediction on images of the rest of the pool, a random
            part of it or all.
        left: images of the rest of the pool.
        classes: see `Estimate`.
    """
    images = len(right)
    if not images or not len(rest):
        return Estimate(images=images, classes=classes)
    off = right - sure
    middle = float(np.clip(rest.mean() + off.sum() / (images + PRIOR), 0, 1))
    unseen = max(0.0, 1 - len(rest) / left)
    variance = (off @ off + PRIOR * _VARIANCE) / (images + PRIOR) ** 2 + unseen * rest.var() / len(rest)
    half = Z * float(np.sqrt(variance))
    return Estimate(middle, (max(0.0, middle - half), min(1.0, middle + half)), images, classes)


def advise(looks: Sequence[Look], classes: Sequence[str]) -> str:
    """Whether to go on, in a sentence.

    Args:
        looks: so far, in the order of their labels.
        classes: labels.
    """
    if not looks or not looks[-1].estimate.images:
        return "Nothing is known of the accuracy yet: label some of the images that are drawn at random."
    last, weakest = looks[-1], looks[-1].estimate.weakest
    if not last.estimate.is_known:
        return "No image is left to label: fit a model to the labels."
    before = next((look for look in reversed(looks) if look.labels <= last.labels - BACK), None)
    if before is None or not before.estimate.is_known:
        return f"The estimate is {last.estimate}: label {BACK} more before it can be told whether more help."
    change = 100 * abs(last.estimate.accuracy - before.estimate.accuracy)
    said = f"{last.labels - before.labels} more labels have changed the estimate by {change:.1f} points"
    moved = _moved(before, last)
    if moved is not None:
        said += f" and {100 * moved:.0f}% of the predictions"
    if change < CHANGE and (moved is None or moved < MOVED):
        return f"{said}: stop here, or label more of '{classes[weakest or 0]}', the weakest class."
    return f"{said}: go on; '{classes[weakest or 0]}' is the weakest class."


def _moved(before: Look, last: Look) -> float | None:
    if before.predicted is None or last.predicted is None or len(before.predicted) != len(last.predicted):
        return None
    both = (before.predicted >= 0) & (last.predicted >= 0)
    return float((before.predicted != last.predicted)[both].mean()) if both.any() else None
