"""A layout: one form in which labelled images are given on disk or by name."""

from collections.abc import Callable
from dataclasses import dataclass

from atha.data import LabelledImages


@dataclass(frozen=True)
class Layout:
    """How labelled images can lie; a module of `atha.data.sources` for each, and a line in its ``LAYOUTS``.

    Attributes:
        what: what a user is told to give, such as ``a .csv table``.
        fits: whether a path or name is of this layout. It looks at no more than tells, and never raises.
        read: reads the images of what fits; raises `DataError`.
    """

    what: str
    fits: Callable[[str], bool]
    read: Callable[[str], LabelledImages]
