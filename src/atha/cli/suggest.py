"""``atha suggest``: which photos to label next, and how good the labels are that are there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atha import defaults
from atha.cli import common
from atha.cli.common import verb
from atha.documents.tables import Table, to_csv
from atha.errors import DataError

if TYPE_CHECKING:
    from atha.classifier import Classifier
    from atha.labelling.suggesting import Suggestions


@verb
def suggest(
    images: Annotated[list[str], typer.Argument(help="The pile: files, folders, glob patterns, or lists of them.")],
    adapter: Annotated[
        Path | None, typer.Option(help="Folder made by atha fit: model, classes and, without --labels, its images.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Without an adapter, as for atha fit; with one, where its backbone is. [{defaults.MODEL}]"),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help='Without an adapter: "melanoma,nevus", or a JSON file. (default: as --labels has)'),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="All that is labelled so far: a table (path, label), class folders.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Photos to choose.")] = 20,
    csv_: Annotated[Path | None, typer.Option("--csv", help="Write path, label (empty), chosen, guess here.")] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the choice, drawn at random: the estimate rests on these alone.")
    ] = 0.25,
    seed: Annotated[int, typer.Option(min=0, help="Fixes all that is random; keep it for one pile.")] = 0,
    download: common.Download = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Choose which of IMAGES to label next: typical ones, then doubtful and different ones, and some at random.

    Fill in the labels of --csv and add its rows to a table of your own; give that as --labels for the next choice. Its
    column 'chosen' tells which photos were drawn at random: the estimate of the accuracy is made of them.
    """
    from atha.data import Selection
    from atha.data.finding import find_images
    from atha.files import check_free, write_whole

    if csv_ is not None:
        check_free(csv_, overwrite, "--csv")
    if adapter is not None and classes is not None:
        raise DataError(f"{adapter} is an adapter with classes of its own: leave --classes out")
    names = None if classes is None else read_names(classes)
    files = find_images(images, Selection("predict"))
    classifier = open_classifier(adapter, model, names, download, device, threads, max_pixels)

    from atha.labelling.suggesting import suggest as choose

    with common.progress("Looking at photos", len(files)) as advance:
        found = choose(files, classifier, labels, count=count, seed=seed, share=share, progress=advance)
    for problem in found.problems:
        common.warn(problem)
    if csv_ is not None:
        write_whole(csv_, _table(found, csv_), overwrite)
    if json:
        common.print_json(found.to_dict())
    else:
        _print(found, csv_)


def read_names(given: str) -> "list[str] | dict[str, str]":
    """Class names as a user gives them: between commas, or in a file."""
    from atha.prompts import read_classes_file

    if given.lower().endswith(".json"):
        return read_classes_file(Path(given))
    return [name.strip() for name in given.split(",") if name.strip()]


def open_classifier(
    adapter: Path | None,
    model: str | None,
    classes: "list[str] | dict[str, str] | None",
    download: bool,
    device: str,
    threads: int | None,
    max_pixels: int,
) -> "Classifier":
    """An adapter's, or one that sees photos with a model as it is."""
    from atha.adapter.files import read_adapter

    saved = None if adapter is None else read_adapter(adapter)
    from atha.backbones import load_backbone
    from atha.classifier import Classifier
    from atha.devices import use_threads

    use_threads(threads)
    if saved is not None:
        return Classifier.from_saved(saved, backbone=model, download=download, device=device, max_pixels=max_pixels)
    return Classifier(load_backbone(model or defaults.MODEL), classes, "probes", device, max_pixels)


def _table(found: "Suggestions", place: Path) -> str:
    """The choice as a table whose labels are to be filled in; paths are relative to it, as those of a table are."""
    import os

    base = place.absolute().parent
    rows = [
        [os.path.relpath(one.file, base), "", one.chosen, one.guess, f"{one.probability:.4f}" if one.guess else ""]
        for one in found.photos
    ]
    return to_csv(["path", "label", "chosen", "guess", "probability"], rows)


def _print(found: "Suggestions", written: Path | None) -> None:
    if written is None:
        rows = [
            [one.file, one.chosen, one.guess or "-", f"{100 * one.probability:.0f}%" if one.guess else "-"]
            for one in found.photos
        ]
        common.print_table(
            Table("To label next", ["photo", "chosen", "guess", "with"], rows, numbers=False), whole=True
        )
    else:
        common.print_text(f"{len(found.photos)} photos to label in {written}: fill in the column 'label'.")
    common.print_text(f"{found.labelled} photos are labelled, of {found.pool:,} in the pile.")
    if found.estimate.is_known:
        common.print_text(
            f"Accuracy of probes on the rest of the pile: {found.estimate} by {found.estimate.images} photos drawn at "
            "random (95% interval)."
        )
    common.print_text(found.advice)
