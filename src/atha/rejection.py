"""How well images of no class are told from those of the classes, with the uncertainty of saying so."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from atha.statistics import Share, Z

#: Of images of the classes, those that are to be accepted where the error on others is looked at.
ACCEPTED = 0.95


@dataclass(frozen=True)
class Rejection:
    """Scores of images that are of the classes, and of images that are of none.

    Attributes:
        known: of the classes, larger for stranger ones.
        unknown: of none.
        threshold: above which an image is called unknown.
        rate: of false rejections, that the threshold was made for.
    """

    known: Float[np.ndarray, "n"]
    unknown: Float[np.ndarray, "m"]
    threshold: float
    rate: float

    @property
    def auroc(self) -> float:
        """How often an image of no class is stranger than one of the classes; a half is chance."""
        return _auroc(self.known, self.unknown)[0]

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95% interval (DeLong et al. 1988)."""
        return _auroc(self.known, self.unknown)[1]

    @property
    def false_rejections(self) -> Share:
        """Images of the classes that are called unknown."""
        return Share(int((self.known > self.threshold).sum()), len(self.known))

    @property
    def found(self) -> Share:
        """Images of no class that are called unknown."""
        return Share(int((self.unknown > self.threshold).sum()), len(self.unknown))

    @property
    def accepted_at_95(self) -> Share:
        """Images of no class that are taken for one, where 95% of these test images of the classes are accepted."""
        limit = np.quantile(self.known, ACCEPTED, method="inverted_cdf")
        return Share(int((self.unknown <= limit).sum()), len(self.unknown))

    def to_dict(self) -> dict[str, Any]:
        """All figures in plain types, for JSON."""

        def plain(share: Share) -> dict[str, Any]:
            return {"images": share.total, "share": share.value, "interval95": list(share.interval)}

        return {
            "auroc": self.auroc,
            "interval95": list(self.interval),
            "accepted_at_95": plain(self.accepted_at_95),
            "rate": self.rate,
            "threshold": self.threshold if np.isfinite(self.threshold) else None,
            "false_rejections": plain(self.false_rejections),
            "found": plain(self.found),
        }


def _auroc(known: Float[np.ndarray, "n"], unknown: Float[np.ndarray, "m"]) -> tuple[float, tuple[float, float]]:
    # Of each image, the share of the others that it is on the right side of; equal scores count half.
    above = _below(np.sort(known), unknown)
    beneath = 1 - _below(np.sort(unknown), known)
    value = float(above.mean())
    variance = sum(part.var(ddof=1) / len(part) for part in (above, beneath) if len(part) > 1)
    half = Z * float(np.sqrt(variance))
    return value, (max(0.0, value - half), min(1.0, value + half))


def _below(ordered: Float[np.ndarray, "n"], values: Float[np.ndarray, "m"]) -> Float[np.ndarray, "m"]:
    """The share of ordered scores below each value."""
    sides = [np.searchsorted(ordered, values, side=side) for side in ("left", "right")]
    return np.asarray((sides[0] + sides[1]) / (2 * len(ordered)))
