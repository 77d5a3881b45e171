"""What is wanted of labelled images, beyond where they lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from atha.schema import Part

Use = Literal["all", "fit", "test", "predict"]


@dataclass(frozen=True)
class Selection:
    """Which images of a source are wanted, and where a table has what.

    Attributes:
        use: what the images are for. ``all`` are those of a data set that is looked at as a whole, where what is
            missing is found out later; of the others, what is missing is left out, and that is said.
        image_column: name of the column of images, or its number from 1; None: it is found.
        label_column: the same of the column of labels, or of several, with commas, that hold 1 for an image's class
            and 0 for the others.
        images: the folder that paths of images are relative to; None: that of the table.
        split: names of parts of the data, with commas, or ``all``; None: those that fit the use.
        split_option: what the command line calls that, for messages.
        grouped: whether what each image is of, such as a patient, is wanted where a table says it; of a data set that
            is looked at as a whole, it always is.
    """

    use: Use = "all"
    image_column: str | None = None
    label_column: str | None = None
    images: Path | None = None
    split: str | None = None
    split_option: str = "--split"
    grouped: bool = False

    @property
    def given(self) -> tuple[str, ...]:
        """The options that a user gave, as the command line calls them."""
        values = {
            "--image-column": self.image_column,
            "--label-column": self.label_column,
            "--images": self.images,
            self.split_option: self.split,
        }
        return tuple(name for name, value in values.items() if value is not None)


class Draw(Part):
    """How a support set was drawn."""

    shot: Annotated[int, Field(gt=0)]
    """Images of each class, or all where there are fewer."""
    seed: Annotated[int, Field(ge=0)]
    """Of the draw."""
    images: Annotated[int, Field(ge=0)]
    """How many there were to draw from."""

    def describe(self) -> str:
        """In words."""
        return f"up to {self.shot} a class, drawn from {self.images:,} images by seed {self.seed}"
