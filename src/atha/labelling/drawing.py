"""Which images are drawn at random, and why others are labelled: what can be told before there is any feature.

Shapes: n images of a pool.
"""

from typing import Literal

import numpy as np
from jaxtyping import Int

How = Literal["random", "typical", "named", "different", "unsure", "own"]
"""Why an image was labelled: at random, as typical, as near the text of a class without a label, as unlike all others,
as doubted by the model, or as wished."""


def draw(size: int, seed: int) -> Int[np.ndarray, "n"]:
    """The order in which images are drawn at random.

    Args:
        size: n.
        seed: of the session.
    """
    return np.random.default_rng([seed, 0]).permutation(size)
