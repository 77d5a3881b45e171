"""The rule by which pixels of many bands or of more than 8 bits become 8-bit colours: one for a whole data set.

It is decided on the images that are learned from and holds for all that are classified. A stretch of each image by
itself would make a dark field and a bright one the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from atha.errors import DataError
from atha.schema import Part

Band = Annotated[int, Field(ge=1, le=65535)]


class Stretch(Part):
    """Which values become black and white, of images of one kind."""

    colour: bool
    """Whether they have three bands, or one."""
    floating: bool
    """Whether values are floating-point numbers, or whole ones."""
    bits: Annotated[int, Field(ge=1, le=64)]
    """Of the images that it was decided on."""
    low: float
    """Becomes 0."""
    high: float
    """Becomes 255."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        return self

    def __str__(self) -> str:
        depth = "floating-point" if self.floating else f"{self.bits}-bit"
        return (
            f"{depth} {'colour' if self.colour else 'grey'}, stretched from {_number(self.low)}..{_number(self.high)}"
        )


class Reading(Part):
    """How images become 8-bit RGB."""

    bands: tuple[Band, ...] | None = None
    """From 1: the bands that are red, green and blue, or the one that is grey; null: as each file says."""
    stretches: tuple[Stretch, ...] = ()
    """For each kind of image of more than 8 bits that was there; of others, each is stretched by itself."""
    alpha: bool | None = None
    """Whether what a TIFF calls alpha is transparency (or infrared, say); null: it is, unless nowhere 0 or full."""

    @model_validator(mode="before")
    @classmethod
    def _from_json(cls, given: Any) -> Any:
        """JSON has lists alone."""
        if not isinstance(given, dict):
            return given
        return {
            key: tuple(value) if key in ("bands", "stretches") and isinstance(value, list) else value
            for key, value in given.items()
        }

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.bands is not None and len(self.bands) not in (1, 3):
            raise ValueError("there are one or three bands")
        kinds = [(one.colour, one.floating) for one in self.stretches]
        if len(set(kinds)) < len(kinds):
            raise ValueError("a kind of image is stretched in two ways")
        return self

    @property
    def plain(self) -> bool:
        """Whether it says nothing: for data of 8-bit grey and colour."""
        return self.bands is None and not self.stretches and self.alpha is not False

    def stretch(self, colour: bool, floating: bool) -> Stretch | None:
        """That of images of one kind; None where they are read as they are.

        Args:
            colour: whether they have three channels, and not one.
            floating: whether their values are floating-point numbers.
        """
        return next((one for one in self.stretches if (one.colour, one.floating) == (colour, floating)), None)

    def describe(self) -> list[str]:
        """Sentences on what is done to images; none where nothing is."""
        said = [f"{stretch}." for stretch in self.stretches]
        if self.bands is not None:
            names = ", ".join(map(str, self.bands))
            said.append(
                f"Bands {names} are taken as red, green and blue, in this order."
                if len(self.bands) == 3
                else f"Band {names} is taken as grey."
            )
        if self.alpha is False:
            said.append(
                "What TIFF files call alpha is infrared or the like, nowhere 0 or full: left out. Choose bands with "
                "--bands."
            )
        return said


AS_BEFORE = Reading(alpha=True, stretches=(Stretch(colour=True, floating=False, bits=16, low=0.0, high=65535.0),))
"""Of adapters whose record says nothing: 16-bit colour by its full range, as the versions that made them read it."""


def parse_bands(given: str) -> tuple[int, ...]:
    """The value of ``--bands``.

    Args:
        given: numbers from 1, separated by commas: red, green and blue, or one for grey.

    Raises:
        DataError: it is something else.
    """
    parts = [part.strip() for part in given.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise DataError(f"--bands is '{given}', give numbers of bands from 1, such as 4,3,2 for red, green and blue")
    return check_bands([int(part) for part in parts])


def check_bands(bands: Sequence[int]) -> tuple[int, ...]:
    """Numbers of bands as `Reading` has them.

    Raises:
        DataError: they are not one or three numbers from 1.
    """
    made = tuple(bands)
    shown = ",".join(map(str, made))
    if any(not isinstance(band, int) or isinstance(band, bool) or not 1 <= band <= 65535 for band in made):
        raise DataError(f"bands are {shown}, and the first band is 1: count from 1")
    if len(made) not in (1, 3):
        raise DataError(f"bands are {shown}, give three (red, green, blue) or one (grey)")
    return made


@dataclass(frozen=True)
class Chosen:
    """Which samples of an image are wanted.

    Attributes:
        bands: from 0, three or one.
        alpha: the band of transparency, from 0; None without.
    """

    bands: tuple[int, ...]
    alpha: int | None = None

    @property
    def all(self) -> tuple[int, ...]:
        """Those that are read, alpha last."""
        return self.bands if self.alpha is None else (*self.bands, self.alpha)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"
