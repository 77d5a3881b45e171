"""A layout: one form in which labelled images are given on disk or by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atha.data import LabelledImages
from atha.data.finding import kind_of
from atha.data.selection import Selection


@dataclass(frozen=True)
class Layout:
    """How labelled images can lie; a module of `atha.data.sources` for each, and a line in its ``LAYOUTS``.

    Attributes:
        what: what a user is told to give, such as ``a .csv table``.
        fits: whether a path or name is of this layout. It looks at no more than tells, and never raises.
        read: reads the images of what fits, as they are selected; raises `DataError`.
        has_columns: whether there are columns that a user can name.
    """

    what: str
    fits: Callable[[str], bool]
    read: Callable[[str, Selection], LabelledImages]
    has_columns: bool = False


def is_file(source: str, suffixes: Sequence[str]) -> bool:
    """Whether a path is that of a file with one of some endings, in any case."""
    path = Path(source)
    return path.suffix.lower() in suffixes and kind_of(path) == "file"
