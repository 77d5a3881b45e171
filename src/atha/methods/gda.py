"""Gaussian discriminant analysis with zero-shot blended in (arXiv 2402.04087, ICLR 2024).

Classes are normal distributions, equally likely, with one covariance, that within them: the logits of a feature x are
x P m - m P m / 2, for the class mean m and the precision P. P is the paper's ridge estimate, (S + trace(S) / (n - 1)
I)^-1 up to a factor, for the scatter S of the images around their class means; the factor is such that P is the
identity where S is small, and where no class has images that differ.

The paper adds these logits, times a factor that is found on a validation set, to those of zero-shot. There is no such
set here: both are weighted by answers on images left out, in closed form, see `atha.methods.alone`.

Shapes: n support images, N classes, E width of features, R = min(n, E).
"""

import numpy as np
from jaxtyping import Float

from atha.methods.alone import PRIOR, SPREAD, with_texts
from atha.methods.evidence import GIVE_WAY, TEXT_SPREAD
from atha.methods.examples import Examples, ProbeMethod
from atha.methods.scores import LinearScores, class_means

#: A scatter of features at unit length below this is rounding.
_NOTHING = 1e-9


def gda(examples: Examples) -> LinearScores:
    """Fit the probe.

    Args:
        examples: the support set.
    """
    return with_texts(discriminant(examples), left_out(examples), examples)


def discriminant(examples: Examples) -> LinearScores:
    """The discriminant by itself, without class texts."""
    means, away = _parts(examples)
    ridge = float((away**2).sum()) / max(len(away) - 1, 1)
    weights = means
    if ridge > _NOTHING and len(away) < away.shape[1]:
        inner = np.linalg.solve(ridge * np.eye(len(away)) + away @ away.T, away @ means.T)
        weights = means - inner.T @ away
    elif ridge > _NOTHING:
        weights = np.linalg.solve(np.eye(away.shape[1]) + away.T @ away / ridge, means.T).T
    return LinearScores(weights, -(weights * means).sum(1) / 2)


def left_out(examples: Examples) -> Float[np.ndarray, "n N"]:
    """Scores of each image by the discriminant of all others; not a number where it is all that there is of its class.

    An image less takes one outer product from the scatter and moves one mean, so that one eigendecomposition serves
    all.
    """
    found = np.full((len(examples.labels), examples.classes), np.nan)
    counts = np.bincount(examples.labels)[examples.labels]
    rows = counts > 1
    if not rows.any():
        return found
    means, away = _parts(examples)
    basis = np.linalg.qr(examples.features.T)[0]  # (E, R); what lies outside is seen by no image
    sizes, axes = np.linalg.eigh((away @ basis).T @ (away @ basis))
    axes = basis @ axes
    means, x, away = means @ axes, examples.features[rows] @ axes, away[rows] @ axes
    labels, counts, each = examples.labels[rows], counts[rows], np.arange(len(x))

    loss = counts / (counts - 1)  # what the scatter loses, in outer products of the image's distance from its mean
    ridge = (sizes.sum() - loss * (away**2).sum(1)) / max(len(examples.labels) - 2, 1)
    flat = ridge <= _NOTHING
    ridge, loss = np.where(flat, 1.0, ridge), np.where(flat, 0.0, loss)
    precision = np.where(flat[:, None], 1.0, ridge[:, None] / (sizes.clip(0) + ridge[:, None]))  # (rows, R)

    x_means, means_means = (x * precision) @ means.T, precision @ (means**2).T
    away_means = (away * precision) @ means.T
    x_away, away_away = (x * away * precision).sum(1), (away**2 * precision).sum(1)
    step = 1 / (counts - 1)  # the own mean moves by as much, away from the image
    x_means[each, labels] -= step * x_away
    means_means[each, labels] += step * (step * away_away - 2 * away_means[each, labels])
    away_means[each, labels] -= step * away_away
    gain = (loss / (ridge - loss * away_away))[:, None]
    found[rows] = x_means + gain * x_away[:, None] * away_means - (means_means + gain * away_means**2) / 2
    return found


def _parts(examples: Examples) -> tuple[Float[np.ndarray, "N E"], Float[np.ndarray, "n E"]]:
    """Class means, and what images differ from their own by."""
    means = class_means(examples.features, examples.labels, examples.classes)
    return means, examples.features - means[examples.labels]


class Gda(ProbeMethod):
    """`gda` on frozen features."""

    summary = "zero-shot plus Gaussian discriminant analysis, by held-out answers"
    probe = staticmethod(gda)
    numbers = {"prior": [PRIOR, SPREAD, GIVE_WAY], "text_prior": TEXT_SPREAD}  # noqa: RUF012 - never changed
