"""``atha evaluate``: how good an adapter is on labelled images."""

from pathlib import Path
from typing import Annotated

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.common import verb
from atha.documents.tables import Table

# A wider confusion matrix cannot be read in a terminal.
WIDEST = 20


@verb
def evaluate(
    adapter: Annotated[Path, typer.Argument(help="Folder made by atha fit.")],
    test: Annotated[str, typer.Argument(help="Labelled images: class folders, a table (path, label), or hf:ORG/NAME.")],
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
    from atha.data import Selection, read_labelled

    saved = read_adapter(adapter)
    data = read_labelled(test, Selection("test", image_column, label_column, images, split))
    saved.classes.index(data)

    from atha.classifier import Classifier
    from atha.devices import use_threads
    from atha.documents.words import share_percent

    use_threads(threads)
    classifier = Classifier.from_saved(saved, backbone=model, download=download, device=device, max_pixels=max_pixels)
    with common.progress("Evaluating", len(data.samples)) as advance:
        result = classifier.evaluate(data, batch_size, advance, plain=plain)
    if json:
        common.print_json(result.to_dict())
        return
    common.print_text(f"Accuracy {result.share} on {len(result.truth)} images (95% interval, Wilson)")
    common.print_text(
        f"Balanced accuracy {100 * result.balanced_accuracy:.1f}%, calibration error {result.calibration_error:.3f}, "
        f"Brier score {result.brier:.3f}"
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
