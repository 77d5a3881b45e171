"""Options that say which labelled images are meant, and where a table has what."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from atha.data import LabelledImages, Selection

PANEL = "Of a table"
ImageColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Column of the images, or its number. (default: the one that is)", rich_help_panel=PANEL
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Column of the labels, or its number. (default: the one that is)", rich_help_panel=PANEL
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="DIR", help="What its paths are relative to. (default: its folder)", rich_help_panel=PANEL
    ),
]


def read_with_test(
    images: str, test: str | None, selection: "Selection"
) -> "tuple[LabelledImages, LabelledImages | None]":
    """Images to learn from, and those of ``--eval``. What is said of columns holds for each that has columns.

    Raises:
        DataError: either cannot be read, or none has columns and some are named.
    """
    from atha.data import Selection, read_labelled, takes_columns

    def of(source: str, other: str | None) -> Selection:
        named = takes_columns(source) or other is None or not takes_columns(other)
        return selection if named else Selection(selection.use)

    data = read_labelled(images, of(images, test))
    return data, None if test is None else read_labelled(test, of(test, images).to("test"))
