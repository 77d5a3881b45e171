"""``atha evaluate``: how good an adapter is on labelled images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.common import verb
from atha.documents.tables import Table
from atha.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from atha.evaluation import Evaluation

# A wider confusion matrix cannot be read in a terminal.
WIDEST = 20


@verb
def evaluate(
    adapter: Annotated[Path, typer.Argument(help="Folder made by atha fit, or hub:ORG/NAME.")],
    test: Annotated[str, typer.Argument(help="Labelled images: class folders, a table (path, label), or hf:ORG/NAME.")],
    unknown_set: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Images of none of the classes: how well are they told from TEST's?"),
    ] = None,
    unknown: Annotated[
        float | None,
        typer.Option(
            "--unknown", metavar="RATE", help=f"With --unknown-set, as for atha predict. [{defaults.UNKNOWN_RATE}]"
        ),
    ] = None,
    sets: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Measure sets of labels, as for atha predict, such as 0.9.")
    ] = None,
    plain: common.Plain = False,
    image_column: selecting.ImageColumn = None,
    label_column: selecting.LabelColumn = None,
    images: selecting.Images = None,
    split: selecting.Split = None,
    model: common.Backbone = None,
    download: common.Download = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    batch_size: common.BatchSize = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Accuracy with its interval, per class, confusion and calibration of an adapter on TEST."""
    from atha.adapter.files import read_adapter
    from atha.conformal import check_shares
    from atha.data import Selection, read_labelled
    from atha.data.finding import find_images

    if unknown is not None and unknown_set is None:
        raise DataError(f"--unknown {unknown:g} is measured on images of none of the classes: give --unknown-set, too")
    rate = defaults.UNKNOWN_RATE if unknown is None else unknown
    check_shares(sets, unknown)
    saved = read_adapter(adapter)
    data = read_labelled(test, Selection("test", image_column, label_column, images, split))
    saved.classes.index(data)
    others = None if unknown_set is None else find_images(unknown_set, Selection("predict"))

    from atha.classifier import Classifier
    from atha.devices import use_threads
    from atha.documents.words import share_percent

    use_threads(threads)
    classifier = Classifier.from_saved(saved, backbone=model, download=download, device=device, max_pixels=max_pixels)
    doubt, rejection = classifier.doubt(sets, None, plain), None
    with common.progress("Evaluating", len(data.samples)) as advance:
        if others is None:
            result = classifier.evaluate(data, batch_size, advance, plain=plain)
        else:
            result, rejection = classifier.evaluate_unknown(data, others, rate, batch_size, advance, plain)
    held = None if doubt is None else doubt.label_sets(result.probabilities)
    if json:
        common.print_json(
            result.to_dict()
            | ({} if rejection is None else {"unknown": rejection.to_dict()})
            | ({} if held is None else {"sets": _of_sets(held, result) | {"promised": sets or 0.0}})
        )
        return
    common.print_text(f"Accuracy {result.share} on {len(result.truth)} images (95% interval, Wilson)")
    common.print_text(
        f"Balanced accuracy {100 * result.balanced_accuracy:.1f}%, calibration error {result.calibration_error:.3f}, "
        f"Brier score {result.brier:.3f}"
    )
    if held is not None:
        told = _of_sets(held, result)
        common.print_text(
            f"Sets for {100 * (sets or 0):g}% hold the right label of {100 * told['coverage']:.1f}%, with "
            f"{told['mean_size']:.2f} labels on average"
        )
    if rejection is not None:
        low, high = rejection.interval
        common.print_text(
            f"Unknown images are told from these in {100 * rejection.auroc:.1f}% of pairs (AUROC; 95% interval "
            f"{100 * low:.1f} to {100 * high:.1f}); where 95% of these are accepted, {rejection.accepted_at_95} of "
            f"{len(rejection.unknown)} unknown ones are, too"
        )
        common.print_text(
            f"--unknown {rate:g} rejects {rejection.false_rejections} of these, and {rejection.found} of the "
            "unknown ones"
        )
    rows = [[name, str(share.total), *share_percent(share)] for name, share in result.per_class.items()]
    common.print_table(Table("Per class", ["class", "images", "accuracy", "95% interval"], rows))
    if len(result.classes) > WIDEST:
        common.say(f"The confusion matrix of {len(result.classes)} classes is in --json.")
        return
    numbers = [str(number + 1) for number in range(len(result.classes))]
    rows = [
        [f"{number} {name}", *map(str, row)]
        for number, name, row in zip(numbers, result.classes, result.confusion.tolist(), strict=True)
    ]
    common.print_table(Table("Confusion", ["true \\ predicted", *numbers], rows))


def _of_sets(held: "np.ndarray", result: "Evaluation") -> dict[str, float]:
    right = held[range(len(result.truth)), result.truth]
    return {"coverage": float(right.mean()), "mean_size": float(held.sum(1).mean())}
