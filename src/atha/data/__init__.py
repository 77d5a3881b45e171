"""Labelled images: what they are, and the one door through which all sources of them come."""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from atha.data.finding import IMAGE_SUFFIXES, did_you_mean, kind_of
from atha.data.images import ImageInput
from atha.data.selection import Draw, Selection
from atha.errors import AthaWarning, DataError

if TYPE_CHECKING:
    from atha.data.sources.layout import Layout

__all__ = ["LabelledImages", "LabelledSource", "Sample", "Selection", "read_labelled"]

ARCHIVE_SUFFIXES = frozenset(
    {".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
)
"""Endings of files that are to be unpacked, in small letters."""
_SPREADSHEET_SUFFIXES = frozenset({".xlsx", ".xls", ".xlsm", ".ods", ".numbers"})


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        image: The image file, or the image itself.
        label: The raw label, as the folder or the table has it.
    """

    image: ImageInput
    label: str


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images and where they come from.

    Attributes:
        samples: The images, in an order that depends on the source alone.
        source: What they were read from, for messages.
        ignored: Sentences about things that were passed over.
        doubt: Why the labels may be no classes, with what to give instead; empty where they are. It is an error
            wherever they are not known to be classes.
        base: The folder that the images are named from, where that is not the source itself.
        groups: What each image is of, such as a patient; None where that is not known or not asked for.
        group_kind: ``patient``, ``lesion`` or ``group``.
        drawn: How they were drawn from more, where they were.
    """

    samples: tuple[Sample, ...]
    source: str
    ignored: tuple[str, ...] = ()
    doubt: str = ""
    base: Path | None = None
    groups: tuple[str, ...] | None = None
    group_kind: str = ""
    drawn: Draw | None = None

    @property
    def counts(self) -> dict[str, int]:
        """The number of images of each label, in the order of `labels`."""
        counter = Counter(sample.label for sample in self.samples)
        return {label: counter[label] for label in sorted(counter)}

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct labels, sorted."""
        return tuple(sorted({sample.label for sample in self.samples}))


LabelledSource: TypeAlias = str | Path | Iterable[tuple[ImageInput, str | int]] | LabelledImages
"""Whatever `read_labelled` understands."""


def read_labelled(source: LabelledSource, selection: Selection = Selection()) -> LabelledImages:  # noqa: B008 - frozen
    """Reads labelled images from any source. The images themselves are not opened.

    Args:
        source: A folder with one sub-folder per class, a table or another of the layouts in `atha.data.sources`; pairs
            of image and label; or labelled images, which are returned as they are.
        selection: What is wanted of a source that can be read in more than one way.

    Returns:
        The labelled images, at least one.

    Raises:
        DataError: The source cannot be found, is of another kind, or is not consistent.

    Warns:
        AthaWarning: Of what was passed over, unless all images of a data set are wanted.
    """
    if isinstance(source, LabelledImages):
        return source
    found = _read_path(str(source), selection) if isinstance(source, str | Path) else _read_pairs(source)
    if selection.use != "all":
        for sentence in found.ignored:
            warnings.warn(sentence, AthaWarning, stacklevel=3)
    return found


def takes_columns(source: str) -> bool:
    """Whether a path or name is of a layout with columns that a user can name."""
    layout = _layout_of(source)
    return layout is not None and layout.has_columns


def _layout_of(source: str) -> "Layout | None":
    # Imported here because the layouts' modules need the classes above.
    from atha.data.sources import LAYOUTS

    return next((layout for layout in LAYOUTS if layout.fits(source)), None) if source else None


def _read_path(source: str, selection: Selection) -> LabelledImages:
    if (layout := _layout_of(source)) is not None:
        if selection.given and not layout.has_columns:
            raise DataError(f"{selection.given[0]} is for tables, and '{source}' is {layout.what}; leave it out")
        return layout.read(source, selection)
    path = Path(source)
    if not source or not kind_of(path):
        raise DataError(f"there is no file or folder '{source}'{did_you_mean(path)}; give {_expected()}")
    suffix = path.suffix.lower()
    if suffix in ARCHIVE_SUFFIXES:
        raise DataError(f"'{source}' is an archive; unpack it first and give the folder")
    if suffix in IMAGE_SUFFIXES:
        raise DataError(f"'{source}' is a single image, and labelled images are needed; give {_expected()}")
    if suffix == ".json":
        raise DataError(
            f"'{source}' is JSON as a whole, as of COCO, and not read; write a table or JSON Lines of it, with an "
            "image's path and its label in each row, or give class folders"
        )
    if suffix in _SPREADSHEET_SUFFIXES:
        raise DataError(f"'{source}' is a spreadsheet; save it as 'CSV UTF-8' and give that")
    raise DataError(f"'{source}' is not a source of labelled images; give {_expected()}")


def _expected() -> str:
    """What can be given, for messages."""
    from atha.data.sources import LAYOUTS

    *first, last = (layout.what for layout in LAYOUTS)
    return f"{', '.join(first)} or {last}"


def _read_pairs(source: Iterable[tuple[ImageInput, str | int]]) -> LabelledImages:
    try:
        items = list(source)
    except TypeError as error:
        raise DataError(
            f"labelled images cannot be read from {_shown(source)}; give {_expected()}, or pairs of image and label"
        ) from error
    if not items:
        raise DataError("the list of labelled images is empty; give at least one pair of image and label")
    return LabelledImages(tuple(_sample(index, item) for index, item in enumerate(items)), "a list of pairs")


def _sample(index: int, item: Any) -> Sample:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"item {index} is {_shown(item)}, not a pair; give each image as (image, label)")
    image, label = item
    if not isinstance(image, str | Path | Image.Image | np.ndarray):
        raise DataError(f"the image of item {index} is {_shown(image)}; give a path, a PIL image or an array")
    # True is a whole number to Python, but as a label it is a slip.
    if isinstance(label, Integral) and not isinstance(label, bool):
        label = str(int(label))
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"the label of item {index} is {_shown(label)}; give a string that is not empty")
    return Sample(image, str(label))


def _shown(value: object) -> str:
    """A value for a message: its type and as much of it as helps."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
