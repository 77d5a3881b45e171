"""Options that say which labelled images are meant, and where a table has what."""

import os
from dataclasses import replace
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
        metavar="NAME",
        help="Column of the labels, or its number; several with commas, if each holds 1 for its class. (default: the "
        "one that is)",
        rich_help_panel=PANEL,
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="DIR", help="What its paths are relative to. (default: its folder)", rich_help_panel=PANEL
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Part of the data, by its column split, set or fold; several with commas, or all. (default: the one that "
        "fits the verb)",
        rich_help_panel=PANEL,
    ),
]
EvalSplit = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The same for --eval. (default: test)", rich_help_panel=PANEL),
]


REST = "rest"
"""What ``--eval`` calls the images that ``--shot`` did not draw."""


def read_support(
    images: str, test: str | None, selection: "Selection", eval_split: str | None, shot: int | None, seed: int
) -> "tuple[LabelledImages, LabelledImages | None]":
    """Images to learn from, all or some of each class, and those of ``--eval``, which may be the others.

    Args:
        images: to learn from.
        test: to evaluate on.
        selection: of the first.
        eval_split: parts of the second.
        shot: images to draw of each class.
        seed: of the draw.

    Raises:
        DataError: as of `read_with_test`, or there is no rest, or all to evaluate on are learned from.
    """
    from atha.data.drawing import draw
    from atha.data.finding import kind_of
    from atha.errors import DataError

    if shot is None:
        if test == REST and not kind_of(Path(REST)):
            raise DataError("--eval rest is what --shot leaves: draw with --shot N, or give the path of test images")
        data, other = read_with_test(images, test, selection, eval_split)
    elif test != REST:
        full, other = read_with_test(images, test, selection, eval_split)
        data, _ = draw(full, shot, seed)
    else:
        full, _ = read_with_test(images, None, replace(selection, grouped=True), eval_split)
        data, other = draw(full, shot, seed)
        if not other.samples:
            raise DataError(
                f"--shot {shot} leaves nothing of {images} to evaluate on: lower it, or give --eval other images"
            )
    learned = {os.path.abspath(str(sample.image)) for sample in data.samples}  # noqa: PTH100 - a Path for each costs
    if other is not None and all(os.path.abspath(str(sample.image)) in learned for sample in other.samples):  # noqa: PTH100
        raise DataError(
            f"all {len(other.samples):,} images of --eval {test} are learned from: give others, draw with --shot N and "
            "--eval rest, or say in a column 'split' of a table which are for tests"
        )
    return data, other


def read_with_test(
    images: str, test: str | None, selection: "Selection", eval_split: str | None
) -> "tuple[LabelledImages, LabelledImages | None]":
    """Images to learn from, and those of ``--eval``. What is said of columns is said of both, or of the only table.

    Args:
        images: to learn from.
        test: to evaluate on.
        selection: of the first.
        eval_split: parts of the second.

    Raises:
        DataError: either cannot be read, or none has columns and some are named.
    """
    from atha.data import read_labelled, takes_columns
    from atha.errors import DataError

    if test is None:
        if eval_split is not None:
            raise DataError(f"--eval-split {eval_split} is of test images: give these with --eval, or leave it out")
        return read_labelled(images, selection), None
    of_test = replace(selection, use="test", split=eval_split, split_option="--eval-split")
    first, second = takes_columns(images), takes_columns(test)
    if first and not second:
        of_test = _without_columns(of_test)
    if second and not first:
        selection = _without_columns(selection)
    return read_labelled(images, selection), read_labelled(test, of_test)


def _without_columns(selection: "Selection") -> "Selection":
    return replace(selection, image_column=None, label_column=None, images=None)
