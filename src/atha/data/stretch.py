"""Values of more than 8 bits as 8-bit ones: which become black and white, and how the others lie between."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atha.data.reading import Stretch


@dataclass(frozen=True)
class Values:
    """What one image says about how its data set is to be read.

    Attributes:
        colour: whether three bands are wanted, or one.
        floating: whether values are floating-point numbers.
        bits: of a value.
        low: the smallest value.
        high: the largest.
        quantiles: of the values, evenly from the smallest to the largest.
        full: white by the depth that the file declares, of whole numbers from 0; else 0.
    """

    colour: bool
    floating: bool
    bits: int
    low: float
    high: float
    quantiles: NDArray[np.float64]
    full: float = 0.0


# 255 x 16 and 255 x 256 are white too, where 8 bits were shifted: what is nearer to a full depth stays as it is.
_NEARLY = 0.996


def own_range(values: Values) -> tuple[float, float]:
    """What becomes black and white in an image that stands for itself.

    Whole numbers are scaled by the smallest bit depth (8, 10, 12, 14, 16) that holds their maximum, so that a 12-bit
    radiograph does not come out black; floating-point ones are taken as 0..1 or 0..255 if they lie there, and are
    stretched from the smallest to the largest otherwise.
    """
    low, high = values.low, values.high
    if values.floating:
        if low >= 0 and high <= 255:
            return 0.0, 1.0 if high <= 1 else 255.0
        return low, high
    if low < 0:
        return low, high
    if high <= values.full < 2**16 - 1:
        return 0.0, values.full
    return 0.0, next((float(2**depth - 1) for depth in (8, 10, 12, 14, 16) if high < 2**depth), high)


def to_8_bits(pixels: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Maps low..high to 0..255, what lies beyond to the ends; a flat image, which has no range, to 0."""
    if pixels.dtype == np.uint8 and (low, high) == (0, 255):
        return np.array(pixels, dtype=np.uint8)
    span = max(high - low, np.finfo(np.float64).tiny)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        # A table is several times faster, and smaller, than arithmetic on every pixel.
        entries = np.arange(np.iinfo(pixels.dtype).max + 1)
        table: NDArray[np.uint8] = np.rint(((entries - low) * (255 / span)).clip(0, 255)).astype(np.uint8)
        return np.asarray(np.take(table, pixels))
    unit = pixels.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        unit -= low
        unit /= span
    np.nan_to_num(unit, copy=False)
    unit.clip(0, 1, out=unit)
    unit *= 255
    return np.rint(unit, out=unit).astype(np.uint8)


def decide_stretch(found: list[Values]) -> Stretch:
    """One stretch for images of one kind.

    From 0 to the largest value; where a few values lie far beyond the others (a bright roof in a satellite scene), to
    the value that 99.5% do not pass. What is more than half of the depth that the files declare, or within a tenth of
    a full depth (8, 10, 12, 14, 16 bits; 1 or 255 of floating-point ones), is taken for it, so that photos that are
    not quite white stay as they are. From the smallest value, where values are negative or all lie in the upper
    quarter of the range.
    """
    least, most = min(one.low for one in found), max(one.high for one in found)
    pooled = np.concatenate([one.quantiles for one in found])
    small, large = np.quantile(pooled, [0.005, 0.995])
    floating = found[0].floating
    base = 0.0 if least >= 0 else small
    high = most if most - large <= large - base else float(large)
    robust = least if small - least <= large - small else float(small)
    low = robust if least < 0 or robust > 0.75 * high else 0.0
    if low == 0:
        full = (1.0, 255.0) if floating else tuple(float(2**depth - 1) for depth in (8, 10, 12, 14, 16))
        declared = found[0].full
        if all(one.full == declared for one in found) and declared / 2 < high <= _NEARLY * declared:
            high = declared
        high = next((depth for depth in full if 0.9 * depth <= high <= _NEARLY * depth), high)
        if not floating and high <= 255:
            high = 255.0  # 8-bit values in a deeper file
    if high <= low:
        high = low + 1
    bits = max(one.bits for one in found)
    if not floating and bits > 16 and least >= -(2**15) and most < 2**16:
        bits = 16  # some libraries have 32 for all that is more than 8
    return Stretch(colour=found[0].colour, floating=floating, bits=bits, low=float(low), high=float(high))
