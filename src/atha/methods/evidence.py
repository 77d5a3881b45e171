"""What a support set alone says of classifiers: held-out scores, and the weights of a blend.

A support set is small: with 25 images a held-out accuracy has a standard error of ten points. So members are blended
and not selected, and their weights leave a prior only as far as the evidence goes.

Shapes: n support images, N classes, M members, E width of features.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from atha.methods.examples import Examples
from atha.probability import log_softmax

#: To a function from features to scores.
Fit = Callable[[Examples], Callable[[Float[np.ndarray, "Q E"]], Float[np.ndarray, "Q N"]]]
FOLDS = 5
#: By how much less probes are likely to weigh, where class texts are right about all support images.
GIVE_WAY = 0.6
#: Of the weight of class texts, which may be worthless: they start at nothing, and evidence takes them far.
TEXT_SPREAD = 3.0
#: By how much class texts have to raise the logarithm of the likelihood of all labels, where others can be asked too:
#: the price of a parameter by Akaike's criterion.
TEXT_EARNS = 1.0


def folds(labels: Int[np.ndarray, "n"], count: int, seed: int) -> Int[np.ndarray, "n"]:
    """In which fold each image is held out; -1: in none, as it is all that there is of its class.

    Args:
        labels: class indices.
        count: of folds; each class is spread over them.
        seed: of the order within a class.
    """
    rng, found = np.random.default_rng(seed), np.full(len(labels), -1)
    for label in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == label))
        if len(places) > 1:
            found[places] = np.arange(len(places)) % count
    return found


def held_out(fit: Fit, examples: Examples, where: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n N"]:
    """Scores of each image by what was fitted without its fold; not a number where it was never held out.

    Args:
        fit: fits.
        examples: the support set.
        where: see `folds`.
    """
    found = np.full((len(where), examples.classes), np.nan)
    for fold in np.unique(where[where >= 0]):
        out = where == fold
        found[out] = fit(examples.take(~out))(examples.features[out])
    return found


def log_likelihood(scores: Float[np.ndarray, "n N"], labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Of each image's own class."""
    found: np.ndarray = log_softmax(scores)[np.arange(len(labels)), labels]
    return found


def weigh(
    scores: Float[np.ndarray, "M n N"],
    labels: Int[np.ndarray, "n"],
    prior: Sequence[float],
    spread: Sequence[float],
    together: float = 0.0,
) -> Float[np.ndarray, "M"]:
    """Weights of the sum of members' scores that make the labels most likely, drawn to a prior.

    The maximum a posteriori of a multinomial regression with one coefficient a member, none below 0: convex, so that it
    is found. As a sum of scores also has a size, this settles how sure the blend is.

    Args:
        scores: of each member for images that it did not learn from.
        labels: class indices.
        prior: weights without evidence.
        spread: standard deviation of each weight around it.
        together: that of all weights at once, as a share of the prior: how sure the blend is says nothing of what its
            members are worth beside each other, and where all are wrong about the same images only this gets smaller.
    """
    from scipy.optimize import minimize

    start, rows = np.asarray(prior, float), np.arange(len(labels))
    precision = np.linalg.inv(np.diag(np.square(spread)) + together**2 * np.outer(start, start))
    right = scores[:, rows, labels].sum(1)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logarithms = log_softmax(np.tensordot(weights, scores, 1))
        expected = (np.exp(logarithms)[None] * scores).sum((1, 2))
        away = precision @ (weights - start)
        return float((weights - start) @ away / 2 - logarithms[rows, labels].sum()), expected - right + away

    found = minimize(loss, start, jac=True, bounds=[(0, None)] * len(start), method="L-BFGS-B")
    return np.asarray(found.x)


def accuracy_of(scores: Float[np.ndarray, "n N"], labels: Int[np.ndarray, "n"]) -> float:
    """Share of the images whose own class has the largest score."""
    return float((scores.argmax(1) == labels).mean())


def above_chance(scores: Float[np.ndarray, "n N"], labels: Int[np.ndarray, "n"]) -> float:
    """Accuracy, 0 at chance or below it, 1 where all is right."""
    chance: float = 1 / scores.shape[1]
    return max(0.0, (accuracy_of(scores, labels) - chance) / (1 - chance))
