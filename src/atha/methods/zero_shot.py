"""Zero-shot: the class whose text is nearest, nothing learned (CLIP, arXiv 2103.00020, section 3.1)."""

from typing import Any

import numpy as np
from jaxtyping import Float

from atha.methods.base import Fitted, Method, Support, unit
from atha.methods.scores import LinearScores


class ZeroShot(Method):
    """Cosine of image and class text, at the backbone's own logit scale."""

    summary = "nearest class text, nothing learned"

    def fit(self, support: Support) -> Fitted:
        """Only the class texts are looked at."""
        return zero_shot(support.text_features, support.frozen.logit_scale)

    def definition(self) -> dict[str, Any]:
        """The template."""
        return super().definition() | {"template": self.template}


def zero_shot(texts: Float[np.ndarray, "N E"], scale: float) -> LinearScores:
    """The zero-shot classifier of class text features.

    Args:
        texts: not normalised.
        scale: of the cosines.
    """
    return LinearScores(scale * unit(texts.astype(np.float64)))
