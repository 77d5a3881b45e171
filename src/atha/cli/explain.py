"""``atha explain``: where a model looks, before and after adaptation."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atha import defaults
from atha.cli import common
from atha.cli.common import verb
from atha.documents.tables import Table
from atha.errors import DataError

if TYPE_CHECKING:
    from atha.explain import Block, Explanation

#: Endings of ``--out``.
FORMATS = (".png", ".svg", ".pdf", ".jpg", ".jpeg")


@verb
def explain(
    adapter: Annotated[
        str, typer.Argument(help="Folder made by atha fit, or hub:ORG/NAME; or a model, with --classes.")
    ],
    image: Annotated[str, typer.Argument(help="The photo.")],
    out: Annotated[Path | None, typer.Option(help=f"Picture to make: {', '.join(FORMATS)}.")] = None,
    class_: Annotated[
        str | None, typer.Option("--class", help="Similarity to which class. (default: the predicted one)")
    ] = None,
    block: Annotated[str, typer.Option(help="A block's number from 0, sum over the blocks, or all of them.")] = "sum",
    show: Annotated[
        Literal["both", "before", "after"], typer.Option(help="Before adaptation, after it, or both.")
    ] = "both",
    classes: Annotated[
        Path | None, typer.Option(help="For a model without adapter: JSON, a list of class texts or label -> text.")
    ] = None,
    model: common.Backbone = None,
    download: common.Download = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Show the similarity of every patch of IMAGE to a class, and which tokens are head and tail."""
    from atha.adapter.files import is_adapter, read_adapter
    from atha.data.images import open_image
    from atha.data.reading import Reading
    from atha.files import check_free

    if out is not None:
        if out.suffix.lower() not in FORMATS:
            raise DataError(f"--out {out} must end in {', '.join(FORMATS)}: give it such a name")
        check_free(out, overwrite)
    saved = None
    if is_adapter(adapter):
        if classes is not None:
            raise DataError(f"{adapter} is an adapter with classes of its own: leave --classes out")
        saved = read_adapter(adapter)
    elif classes is None:
        raise DataError(
            f"{adapter} is no adapter: give the folder that atha fit --out made, or --classes for a model as it is"
        )
    given = common.read_classes(classes)
    open_image(image, Reading() if saved is None else saved.record.read_as, max_pixels=max_pixels)

    from atha.classifier import Classifier
    from atha.devices import use_threads

    use_threads(threads)
    if saved is not None:
        classifier = Classifier.from_saved(
            saved, backbone=model, download=download, device=device, max_pixels=max_pixels
        )
    else:
        classifier = Classifier.from_pretrained(adapter, given, backbone=model, device=device, max_pixels=max_pixels)
    found = classifier.explain(image)
    label = class_ if class_ is not None else found.label
    found.index(label)
    blocks = _blocks(block, found)
    if show == "after" and found.after is None:
        raise DataError(f"{adapter} is not adapted, there is no after: leave --show out or give an adapter")
    if out is not None:
        from atha.documents import figures
        from atha.files import write_bytes
        from atha.reports import tokens

        with figures.style():
            write_bytes(out, figures.save(tokens.draw(found, label, blocks, show), out), overwrite)
    if json:
        common.print_json(found.to_dict() | {"class": label})
        return
    _print(found, label, out)


def _blocks(given: str, found: "Explanation") -> "list[Block]":
    if given == "sum":
        return ["sum"]
    if given == "all":
        return list(range(found.before.blocks))
    if not given.isdecimal():
        raise DataError(f"--block is '{given}', it must be a number from 0, sum or all")
    return [found.before.check(int(given))]


def _print(found: "Explanation", label: str, out: Path | None) -> None:
    from atha.reports.tokens import HOW_TO_READ, strength_words

    index = found.index(label)
    for name, maps in found.states.items():
        best = int(maps.probabilities.argmax())
        common.print_text(
            f"{name}: {found.classes[best]} with {100 * maps.probabilities[best]:.1f}%, "
            f"{label} with {100 * maps.probabilities[index]:.1f}%. {maps.anchors}"
        )
    if found.votes:
        rows = [
            [name, found.classes[int(vote.argmax())], f"{100 * vote.max():.1f}%", f"{100 * vote[index]:.1f}%"]
            for name, vote in found.votes.items()
        ]
        common.print_table(Table("Votes of the members", ["member", "says", "with", f"{label} with"], rows))
    rows = []
    for block in range(found.before.blocks):
        cells = [str(block)]
        for maps in found.states.values():
            heat = maps.heat(index, block)
            cells.append(f"{heat.mean():+.3f} ({heat.min():+.3f} to {heat.max():+.3f})")
        marks = [int(mask[block].sum()) for mask in (found.last.head, found.last.tail)]
        rows.append([*cells, *map(str, marks), strength_words(found.last, block)])
    headers = ["block", *(f"similarity {name}" for name in found.states), "head", "tail", "moved by"]
    common.print_table(Table(f"Patches against {label}: mean (least to most)", headers, rows), whole=True)
    if out is not None:
        common.say(HOW_TO_READ)
        common.print_text(f"Picture in {out}")
