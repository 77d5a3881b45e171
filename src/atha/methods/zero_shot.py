"""Zero-shot: the class whose text is nearest, nothing learned (CLIP, arXiv 2103.00020, section 3.1)."""

from typing import Any

import numpy as np
from jaxtyping import Float

from atha.methods.base import Images, Method, Predictor, Support, softmax, unit


class ZeroShot(Method):
    """Cosine of image and class text, at the backbone's own logit scale."""

    summary = "nearest class text, nothing learned"

    def fit(self, support: Support) -> Predictor:
        """Only the class texts are looked at."""
        texts, scale = unit(support.text_features), support.frozen.logit_scale

        def predict(query: Images) -> Float[np.ndarray, "Q N"]:
            return softmax(scale * unit(query.features) @ texts.T)

        return predict

    def definition(self) -> dict[str, Any]:
        """The template."""
        return super().definition() | {"template": self.template}
