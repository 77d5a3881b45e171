"""A probe that stands alone: how sure it is, and what class texts add to it, by its held-out answers.

Shapes: n support images, N classes.
"""

import numpy as np
from jaxtyping import Float

from atha.methods.evidence import GIVE_WAY, TEXT_SPREAD, above_chance, weigh
from atha.methods.examples import Examples
from atha.methods.scores import LinearScores, centred, scale_of

#: Scores whose scale is 1 are likely to be multiplied by this.
PRIOR, SPREAD = 2.0, 0.8


def calibrated(probe: LinearScores, held: Float[np.ndarray, "n N"], examples: Examples) -> LinearScores:
    """A probe as sure as its held-out answers were right.

    Args:
        probe: fitted to all examples.
        held: its scores of each image when fitted without it; not a number where it cannot be.
        examples: the support set.
    """
    scale, rows = scale_of(probe.score(examples.features)), np.isfinite(held).all(1)
    weight = PRIOR
    if rows.any():
        answers = centred(held[rows])[None] / scale
        weight = float(weigh(answers, examples.labels[rows], [PRIOR], [SPREAD])[0])
    return probe.times(weight / scale)


def with_texts(probe: LinearScores, held: Float[np.ndarray, "n N"], examples: Examples) -> LinearScores:
    """The sum of a probe and zero-shot, with weights that make the held-out answers likely.

    Class texts have learned nothing and can be asked about all images; where classes have one image, only they can.

    Args:
        probe: see `calibrated`.
        held: see `calibrated`.
        examples: the support set.
    """
    texts, labels = centred(examples.zero_shot), examples.labels
    scale, text_scale = scale_of(probe.score(examples.features)), scale_of(texts)
    own, rows = PRIOR * (1 - GIVE_WAY * above_chance(texts, labels)), np.isfinite(held).all(1)
    if rows.any():
        answers = np.stack([texts[rows] / text_scale, centred(held[rows]) / scale])
        text, own = weigh(answers, labels[rows], [0.0, own], [TEXT_SPREAD, SPREAD])
    else:
        text = weigh(texts[None] / text_scale, labels, [0.0], [TEXT_SPREAD])[0]
    weighted = probe.times(own / scale)
    return LinearScores(weighted.weights + text / text_scale * examples.scale * examples.texts, weighted.bias)
