"""Support sets of made-up features, for the tests of probes and of what is decided by them."""

import numpy as np

from atha.methods.base import unit
from atha.methods.examples import Examples


def task(counts, width=8, seed=0, spread=0.5) -> tuple[Examples, np.ndarray]:
    """Classes around directions of their own, class texts that know a little of them; and these directions."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = rng.normal(size=(len(counts), width)) + 3
    features = unit(centres[labels] + spread * rng.normal(size=(len(labels), width)))
    texts = unit(centres + 2 * rng.normal(size=centres.shape) - 6)
    return Examples(features, labels, texts, 20.0), unit(centres)
