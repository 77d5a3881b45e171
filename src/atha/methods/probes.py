"""Probes: classifiers on image features that are fitted in closed form or convexly. A new one is a line here.

Shapes: n support images, N classes, E width of features.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int

from atha.methods.gaussian import gaussian
from atha.methods.linear_probe import linear_probe
from atha.methods.prototypes import prototypes
from atha.methods.scores import LinearScores

#: (features at unit length, labels, number of classes) to a probe. Each class has an image at least.
Probe = Callable[[Float[np.ndarray, "n E"], Int[np.ndarray, "n"], int], LinearScores]

PROBES: Mapping[str, Probe] = {"prototypes": prototypes, "gaussian": gaussian, "logistic": linear_probe}
