"""``atha predict``: label images with an adapter."""

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.common import verb
from atha.documents import escaping
from atha.documents.escaping import tsv
from atha.errors import DataError
from atha.files import check_free, whole_file

#: Between the labels of a set.
SEPARATOR = "|"


@verb
def predict(
    adapter: Annotated[Path, typer.Argument(help="Folder made by atha fit, or hub:ORG/NAME.")],
    images: Annotated[
        list[str], typer.Argument(help="Files, folders, glob patterns, or lists: a .txt of paths, a table.")
    ],
    csv_: Annotated[Path | None, typer.Option("--csv", help="Write label, probability, file here.")] = None,
    all_classes: Annotated[bool, typer.Option("--all", help="Add the probability of every class.")] = False,
    unknown: Annotated[
        float | None,
        typer.Option(
            "--unknown",
            metavar="RATE",
            help="Say unknown of images of none of the classes; at most this share of the classes' own, such as 0.05.",
        ),
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Add a set of labels that holds the right one so often, such as 0.9."),
    ] = None,
    image_column: selecting.ImageColumn = None,
    base: selecting.Images = None,
    plain: common.Plain = False,
    model: common.Backbone = None,
    download: common.Download = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    batch_size: common.BatchSize = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    overwrite: common.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per image and line.")] = False,
    debug: common.Debug = False,
) -> None:
    """Label IMAGES. Those that cannot be read are named, the others are labelled all the same.

    With --unknown, the probability beside "unknown" is that of the nearest class. With --sets, the labels of a set are
    in the column "set", the most probable first, with | between them (| within a label is \\x7c there).
    """
    from atha.adapter.files import read_adapter
    from atha.conformal import check_shares
    from atha.data import Selection
    from atha.data.finding import find_images

    if csv_ is not None:
        check_free(csv_, overwrite, "--csv")
    check_shares(sets, unknown)
    saved = read_adapter(adapter)
    files = find_images(images, Selection("predict", image_column, images=base))

    from atha.classifier import Classifier
    from atha.devices import use_threads
    from atha.doubt import UNKNOWN

    use_threads(threads)
    classifier = Classifier.from_saved(saved, backbone=model, download=download, device=device, max_pixels=max_pixels)
    labels = saved.classes.labels
    header = ["label", "probability", "file", *(labels if all_classes else ()), *(["set"] if sets is not None else [])]
    done = failed = 0
    with _writer(csv_, overwrite, header) as write, common.progress("Predicting", len(files)) as advance:
        for prediction in classifier.stream(files, batch_size, plain=plain, sets=sets, unknown=unknown):
            done += 1
            advance(done, len(files))
            if prediction.problem:
                failed += 1
                common.warn(prediction.problem)
                continue
            file = os.fsencode(prediction.file).decode("utf-8", "backslashreplace")  # a name need not be text
            label = UNKNOWN if prediction.unknown else prediction.label
            row = [label, f"{prediction.probability:.6f}", file]
            more = [f"{value:.6f}" for value in prediction.probabilities] if all_classes else []
            more += [_joined(prediction.labels)] if sets is not None else []
            if json:
                probabilities = dict(zip(labels, prediction.probabilities, strict=True))
                common.print_line(
                    {"label": label, "probability": prediction.probability, "file": file}
                    | ({"probabilities": probabilities} if all_classes else {})
                    | ({"nearest": prediction.label} if prediction.unknown else {})
                    | ({"set": list(prediction.labels)} if sets is not None else {})
                )
            elif csv_ is None:
                common.write("\t".join(map(tsv, [*row, *more])) + "\n")
            write([*row, *more])
        if failed == done:
            raise DataError(f"none of the {done} images can be read: give other images")
    if csv_ is not None:
        common.say(
            f"{done - failed} predictions written to {csv_}"
            + (f", {failed} images could not be read" if failed else "")
        )


def _joined(labels: Sequence[str]) -> str:
    """The labels of a set as one value."""
    return SEPARATOR.join(label.replace(SEPARATOR, f"\\x{ord(SEPARATOR):02x}") for label in labels)


@contextmanager
def _writer(path: Path | None, overwrite: bool, header: list[str]) -> Iterator[Any]:
    """A function that writes a row; the file gets its name when all rows are in it."""
    if path is None:
        yield lambda row: None
        return
    with whole_file(path, overwrite, "--csv") as new, new.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(map(escaping.csv, header))
        yield lambda row: rows.writerow(map(escaping.csv, row))
