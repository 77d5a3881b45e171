"""``atha add``: more labelled images for an adapter, without training."""

from pathlib import Path
from typing import Annotated

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.common import verb
from atha.cli.saving import save_and_tell


@verb
def add(
    adapter: Annotated[
        Path, typer.Argument(help="Folder made by atha fit, or hub:ORG/NAME, of a blend such as auto or probes.")
    ],
    more: Annotated[
        str,
        typer.Argument(metavar="IMAGES", help="Labelled images: class folders, a table (path, label), or hf:ORG/NAME."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make for the new adapter; may be ADAPTER, with --overwrite.")],
    eval_: Annotated[str | None, typer.Option("--eval", help="Labelled images to evaluate on.")] = None,
    classes: Annotated[Path | None, typer.Option(help="JSON: label of a new class -> text for the model.")] = None,
    image_column: selecting.ImageColumn = None,
    label_column: selecting.LabelColumn = None,
    images: selecting.Images = None,
    split: selecting.Split = None,
    eval_split: selecting.EvalSplit = None,
    model: common.Backbone = None,
    download: common.Download = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    batch_size: common.BatchSize = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Fit the probes of ADAPTER anew with more IMAGES, of its classes or of new ones, and save the result.

    What was adapted in the backbone stays as it was trained.
    """
    from atha.adapter.files import check_free, read_adapter
    from atha.data import Selection
    from atha.errors import DataError

    saved = read_adapter(adapter)
    check_free(out, overwrite)
    data, test = selecting.read_with_test(
        more, eval_, Selection("fit", image_column, label_column, images, split), eval_split
    )
    texts = common.read_classes(classes)
    if texts is not None and not isinstance(texts, dict):
        raise DataError(f'{classes} is a list: give texts of new classes by label, such as {{"label": "text"}}')

    from atha.classifier import Classifier
    from atha.devices import use_threads

    use_threads(threads)
    classifier = Classifier.from_saved(saved, backbone=model, download=download, device=device, max_pixels=max_pixels)
    classifier.add(data, texts)
    if test is not None:
        assert classifier.classes is not None
        classifier.classes.index(test)
    save_and_tell(classifier, out, test, batch_size, overwrite=overwrite, json=json)
