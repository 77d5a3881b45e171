"""``atha fit``: adapt a model to labelled images and save the adapter."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atha import defaults
from atha.cli import common
from atha.cli.common import verb
from atha.documents.tables import Table, to_terminal

if TYPE_CHECKING:
    from atha.adapter.record import Record
    from atha.evaluation import Evaluation


@verb
def fit(
    support: Annotated[
        str, typer.Argument(help="Folder with one sub-folder of images per class, or a CSV (path, label).")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make for the adapter.")],
    model: common.Model = defaults.MODEL,
    recipe: Annotated[str, typer.Option(help="A preset (see atha info) or a .toml or .json file.")] = defaults.RECIPE,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the recipe.")
    ] = None,
    eval_: Annotated[str | None, typer.Option("--eval", help="Labelled images to evaluate on, after training.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="JSON: folder name -> text for the model, or a list of texts.")
    ] = None,
    bands: common.Bands = None,
    seed: Annotated[int, typer.Option(min=0, help="Fixes all that is random.")] = 0,
    keep_support: Annotated[
        bool,
        typer.Option(help="Keep small pictures and frozen features of the support images in the adapter, for reports."),
    ] = True,
    device: common.Device = "auto",
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub model.")] = None,
    batch_size: common.BatchSize = None,
    max_pixels: common.MaxPixels = None,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Adapt a model to SUPPORT, one to twenty labelled images per class, and save the adapter."""
    from atha.adapter.files import check_free
    from atha.classes import Classes
    from atha.data import read_labelled
    from atha.recipe import Recipe

    # All that can be wrong is looked at before the model is loaded.
    chosen = Recipe.load(recipe, set_ or ())
    check_free(out, overwrite)
    wanted, most = common.read_bands(bands), common.most_pixels(max_pixels)
    data = read_labelled(support)
    names = common.read_classes(classes)
    task = Classes.of_support(data.labels, names)
    index = task.index(data.labels, data.source)
    test = None if eval_ is None else read_labelled(eval_)
    if test is not None:
        task.index(test.labels, test.source)

    from atha.devices import resolve_device

    resolve_device(device)
    if not json:
        counts = {task.labels[index[label]]: count for label, count in data.counts.items()}
        rows = [[label, text, str(counts[label])] for label, text in zip(task.labels, task.texts, strict=True)]
        headers = ["class", "text for the model", "images"]
        common.err.print(to_terminal(Table(f"Support: {data.source}", headers, rows)))

    from atha.data.deciding import decide_reading

    reading = decide_reading([sample.image for sample in data.samples], wanted, most)
    for sentence in reading.describe():
        common.say(sentence)

    from atha.backbones import load_backbone
    from atha.classifier import Classifier

    common.say(f"Loading {model} ...")
    classifier = Classifier(load_backbone(model, revision), names, chosen, device, most)
    if chosen.trains:
        with common.progress(f"Training ({chosen.name})") as advance:
            classifier.fit(data, seed=seed, progress=advance, bands=reading)
    else:
        common.say(f"Fitting ({chosen.name}) ...")
        classifier.fit(data, seed=seed, bands=reading)
    # Saved before the evaluation: a fault there must not cost the training.
    classifier.save_pretrained(out, overwrite=overwrite, keep_support=keep_support)
    results = {}
    if test is not None:
        with common.progress("Evaluating", len(test.samples)) as advance:
            results = classifier.compare(test, batch_size, advance)
        classifier.save_evaluation(out, results)
    record = classifier.record
    assert record is not None
    if json:
        evaluation = {name: result.to_dict() for name, result in results.items()}
        common.print_json(
            {
                "adapter": str(out),
                "classes": classifier.class_texts,
                "fitted": record.definition,
                "evaluation": evaluation,
            }
        )
        return
    _tell(record, results)
    common.print_text(f"Adapter saved in {out}")


def _tell(record: "Record", results: "Mapping[str, Evaluation]") -> None:
    from atha.adapter.members import members_table

    run = record.run
    losses = (
        f"loss {run.losses[0]:.3f} at the first step, {run.losses[-1]:.3f} at the last of {run.steps}; "
        if run.losses
        else ""
    )
    common.say(f"Trained {record.learned}; {losses}{run.seconds:.1f} s on {run.device} in {run.precision}.")
    if (members := members_table(record)) is not None:
        common.print_table(members)
    if results:
        named = record.named(results)
        common.print_table(common.comparison(named))
        common.print_text(common.difference(named, list(named)[-1], "linear probe"))
    else:
        common.say("How good it is, nobody knows yet: evaluate it on other labelled images.")
