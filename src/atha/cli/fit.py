"""``atha fit``: adapt a model to labelled images and save the adapter."""

from pathlib import Path
from typing import Annotated

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.common import verb
from atha.cli.saving import save_and_tell
from atha.documents.tables import Table, to_terminal


@verb
def fit(
    support: Annotated[
        str,
        typer.Argument(help="Folder with one sub-folder of images per class, a table (path, label), or hf:ORG/NAME."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make for the adapter.")],
    model: common.Model = defaults.MODEL,
    recipe: Annotated[str, typer.Option(help="A preset (see atha info) or a .toml or .json file.")] = defaults.RECIPE,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the recipe.")
    ] = None,
    shot: Annotated[
        int | None, typer.Option(min=1, help="Draw so many images of each class by the seed. (default: all)")
    ] = None,
    eval_: Annotated[
        str | None,
        typer.Option(
            "--eval", help="Labelled images to evaluate on, after training; or rest: those that --shot did not draw."
        ),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="JSON: folder name -> text for the model, or a list of texts.")
    ] = None,
    image_column: selecting.ImageColumn = None,
    label_column: selecting.LabelColumn = None,
    images: selecting.Images = None,
    split: selecting.Split = None,
    eval_split: selecting.EvalSplit = None,
    bands: common.Bands = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes all that is random.")] = 0,
    keep_support: Annotated[
        bool,
        typer.Option(
            help="Keep small pictures and frozen features of the support images in the adapter, for reports, "
            "atha add, atha suggest and --unknown."
        ),
    ] = True,
    device: common.Device = "auto",
    threads: common.Threads = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    batch_size: common.BatchSize = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Adapt a model to SUPPORT, one to twenty labelled images per class, and save the adapter."""
    from atha.adapter.files import check_free
    from atha.classes import Classes
    from atha.data import Selection
    from atha.recipe import Recipe

    # All that can be wrong is looked at before the model is loaded.
    chosen = Recipe.load(recipe, set_ or ())
    check_free(out, overwrite)
    wanted = common.read_bands(bands)
    selection = Selection("fit", image_column, label_column, images, split)
    data, test = selecting.read_support(support, eval_, selection, eval_split, shot, seed)
    names = common.read_classes(classes)
    task = Classes.of_support(data, names)
    task.warn_of_wordless(data.source)
    index = task.index(data)
    if test is not None:
        task.index(test)

    from atha.devices import resolve_device, use_threads

    resolve_device(device)
    use_threads(threads)
    if not json:
        counts = {task.labels[index[label]]: count for label, count in data.counts.items()}
        rows = [[label, text, str(counts[label])] for label, text in zip(task.labels, task.texts, strict=True)]
        headers = ["class", "text for the model", "images"]
        common.err.print(to_terminal(Table(f"Support: {data.source}", headers, rows)))
        if data.drawn is not None:
            common.say(f"The images are {data.drawn.describe()}.")

    from atha.data.deciding import decide_reading

    reading = decide_reading([sample.image for sample in data.samples], wanted, max_pixels)
    for sentence in reading.describe():
        common.say(sentence)

    from atha.backbones import load_backbone
    from atha.classifier import Classifier

    common.say(f"Loading {model} ...")
    classifier = Classifier(load_backbone(model, revision), names, chosen, device, max_pixels)
    if chosen.trains:
        with common.progress(f"Training ({chosen.name})") as advance:
            told = [lambda now: advance(now.step, now.steps, now.loss)]
            classifier.fit(data, seed=seed, callbacks=told, bands=reading)
    else:
        common.say(f"Fitting ({chosen.name}) ...")
        classifier.fit(data, seed=seed, bands=reading)
    save_and_tell(classifier, out, test, batch_size, overwrite=overwrite, keep_support=keep_support, json=json)
