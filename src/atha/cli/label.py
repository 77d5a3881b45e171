"""``atha label``: a page to label photos on, which chooses the next ones and says how good the labels are by now."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atha import defaults
from atha.cli import common
from atha.cli.common import verb

if TYPE_CHECKING:
    from atha.classifier import Classifier
    from atha.labelling.page.desk import Desk
    from atha.labelling.page.journal import Journal


@verb
def label(
    images: Annotated[list[str], typer.Argument(help="The pile: files, folders, glob patterns, or lists of them.")],
    out: Annotated[Path, typer.Option(help="Table of labels (path, label, chosen); one of this verb is gone on with.")],
    classes: Annotated[
        str | None, typer.Option(help='"melanoma,nevus", or a JSON file; more can be made on the page.')
    ] = None,
    model: Annotated[str | None, typer.Option(help=f"As for atha fit. [{defaults.MODEL}]")] = None,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Of the photos shown, drawn at random: the estimate rests on these.")
    ] = 0.25,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="Fit a full recipe beside it, which takes over where it is better.")
    ] = False,
    recipe: Annotated[
        str | None, typer.Option(help=f"Of --adapt; as for atha fit. [{defaults.RECIPE}]", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Fixes all that is random. (default: 0)")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    device: common.Device = "auto",
    threads: common.Threads = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    debug: common.Debug = False,
) -> None:
    """Open a page on this machine to label IMAGES on, a key a class: typical ones first, then doubtful ones.

    Each label is in --out, and on the disk, before the next photo is shown. End with Ctrl-C; the same command goes on.
    """
    from atha.labelling.page import check_installed

    check_installed()
    from atha.classes import Classes
    from atha.cli.suggest import read_names
    from atha.data import Selection
    from atha.data.finding import find_images
    from atha.errors import DataError
    from atha.labelling.page.adapting import Adapting
    from atha.labelling.page.journal import Journal
    from atha.labelling.page.running import label_on_page
    from atha.recipe import Recipe

    if recipe is not None and not adapt:
        raise DataError("--recipe is of the fit beside the labelling: give --adapt with it")
    if adapt and not share:
        raise DataError("--adapt compares on photos drawn at random, and --share is 0: give it a share above 0")
    chosen, loaded = recipe or defaults.RECIPE, model or defaults.MODEL
    if adapt:
        Recipe.load(chosen)
    names = [] if classes is None else read_names(classes)
    if len(names) > 1:
        Classes.given(names)
    texts = names if isinstance(names, dict) else {}
    files = _writable(find_images(images, Selection("predict")))
    journal = Journal(out, list(names), seed)
    if len(journal.marks):
        common.print_text(f"Going on with {out}, which has {_count(journal)} labels.")

    def open_classifier() -> "Classifier":
        from atha.backbones import load_backbone
        from atha.classifier import Classifier
        from atha.devices import use_threads

        use_threads(threads)
        backbone = load_backbone(loaded)
        return Classifier(backbone, None, "probes", device, max_pixels)

    def adapting(desk: "Desk") -> Adapting:
        return Adapting(desk, loaded, chosen, texts, device, threads, max_pixels, common.say)

    def ready(address: str) -> None:
        common.print_text(f"Label on {address}")

    try:
        label_on_page(
            files, journal, open_classifier, texts, share=share, port=port, max_pixels=max_pixels, browser=browser,
            ready=ready, adapt=adapting if adapt else None,
        )  # fmt: skip
    finally:
        journal.close()
    if journal.trouble:
        raise DataError(journal.trouble)
    common.say(f"{_count(journal)} labels are in {out}; the same command goes on.")
    if adapt:
        asked = [] if chosen == defaults.RECIPE else ["--recipe", chosen]
        words = ["atha", "fit", str(out), "--model", loaded, *asked, "--out", "adapter"]
        common.say(f"To fit to all of them, and keep the adapter: {shlex.join(words)}")


def _count(journal: "Journal") -> int:
    return sum(one.kind == "label" for one in journal.marks)


def _writable(files: list[Path]) -> list[Path]:
    """Those whose names a table can hold.

    Raises:
        DataError: there is none.
    """
    from atha.data.finding import some_of
    from atha.errors import DataError

    good = [file for file in files if str(file).isprintable() or _is_text(str(file))]
    if len(good) < len(files):
        odd = some_of([ascii(file.name) for file in files if file not in set(good)])
        common.warn(f"{len(files) - len(good)} photos are left out whose names are not UTF-8: rename {odd}")
    if not good:
        raise DataError("no photo has a name that a table can hold: rename them in UTF-8")
    return good


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
