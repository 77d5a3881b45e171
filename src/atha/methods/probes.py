"""Probes: classifiers on image features that are fitted in closed form or convexly. A new one is a line here.

Shapes: n support images, N classes, E width of features.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int

from atha.methods.clap import clap
from atha.methods.examples import Examples
from atha.methods.gaussian import gaussian
from atha.methods.gda import gda
from atha.methods.linear_probe import linear_probe
from atha.methods.lp_plus_plus import lp_plus_plus
from atha.methods.proker import proker
from atha.methods.prototypes import prototypes
from atha.methods.scores import LinearScores, OnFeatures
from atha.methods.tip_adapter import tip_adapter

Probe = Callable[[Examples], OnFeatures]


def of_images(fit: Callable[[Float[np.ndarray, "n E"], Int[np.ndarray, "n"], int], LinearScores]) -> Probe:
    """A probe that reads no class texts.

    Args:
        fit: from features at unit length, labels and the number of classes.
    """
    return lambda examples: fit(examples.features, examples.labels, examples.classes)


PROBES: Mapping[str, Probe] = {
    "prototypes": of_images(prototypes),
    "gaussian": of_images(gaussian),
    "logistic": of_images(linear_probe),
    "tip-adapter": tip_adapter,
    "gda": gda,
    "proker": proker,
    "lp-plus-plus": lp_plus_plus,
    "clap": clap,
}
