"""``atha data audit``: labels that look wrong, copies, and images that show nothing."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.common import verb
from atha.documents.tables import Table, to_csv
from atha.errors import DataError

if TYPE_CHECKING:
    from atha.auditing.audit import Audit

_LISTED = 10


@verb
def audit(
    source: Annotated[str, typer.Argument(help="Labelled images: class folders, a table (path, label).")],
    adapter: Annotated[
        Path | None, typer.Option(help="Folder made by atha fit, for its model and class texts.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=f"Without an adapter, as for atha fit; with one, where its backbone is. [{defaults.MODEL}]"),
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Without an adapter: JSON, label -> text for the model, or a list of texts.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Other labelled images, which should hold no copy of these.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a report with pictures here.")] = None,
    csv_: Annotated[Path | None, typer.Option("--csv", help="Write all findings here.")] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write a table of what is left: without broken and blank images, copies and images with two labels; "
            "labels and other columns stay, and labels that look wrong have another in the column 'suggested'."
        ),
    ] = None,
    image_column: selecting.ImageColumn = None,
    label_column: selecting.LabelColumn = None,
    images: selecting.Images = None,
    split: selecting.Split = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds in which images are held out.")] = 0,
    download: common.Download = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Look for labels of SOURCE that others contradict, for copies, and for broken, tiny and blank images.

    No image and no table that is there is changed.
    """
    from atha.auditing.audit import audit as look
    from atha.data import Selection
    from atha.data.sources.divided import others_of
    from atha.files import check_free, write_whole

    for path, option in ((html, "--html"), (csv_, "--csv"), (write, "--write")):
        if path is not None:
            check_free(path, overwrite, option)
    if adapter is not None and classes is not None:
        raise DataError(f"{adapter} is an adapter with classes of its own: leave --classes out")
    selection = Selection("all", image_column, label_column, images, split)
    names = common.read_classes(classes)

    # Read before anything is written, which may be to the same place.
    others = others_of(source, selection) if write is not None else ((), {})

    from atha.cli.suggest import open_classifier

    classifier = open_classifier(adapter, model, names, download, device, threads, max_pixels)
    with common.stages() as advance:
        found = look(source, classifier, test, seed=seed, selection=selection, progress=advance)
    if html is not None:
        from atha.reports.audit import audit_report

        write_whole(html, audit_report(found, source, classifier.reader), overwrite)
    if csv_ is not None:
        write_whole(csv_, to_csv(["finding", "path", "label", "suggested", "more"], found.rows()), overwrite)
    if write is not None:
        write_whole(write, _left(found, write, *others), overwrite)
    if json:
        common.print_json(found.to_dict())
    else:
        _print(found)


def _left(found: "Audit", place: Path, names: Sequence[str], told: Mapping[str, Sequence[str]]) -> str:
    """The table of what is left, with the names of other columns and what they say, by absolute path."""
    base = place.absolute().parent
    header = ["path", "label", "split", "suggested"]
    kept = [place for place, name in enumerate(names) if name.strip().lower() not in header]
    rows = []
    for file, *rest in found.cleaned():
        more = told.get(os.path.abspath(file), [""] * len(names))  # noqa: PTH100 - a Path for each costs
        rows.append([os.path.relpath(file, base), *rest, *[more[place] for place in kept]])
    header += [names[place] for place in kept]
    if not any(row[2] for row in rows):
        header, rows = header[:2] + header[3:], [row[:2] + row[3:] for row in rows]
    return to_csv(header, rows)


def _print(found: "Audit") -> None:
    common.print_text(f"{len(found.photos):,} images.")
    rows = []
    for one in found.doubtful[:_LISTED]:
        near = ", ".join(photo.label for photo in one.neighbours)
        rows.append([one.photo.file, one.photo.label, one.suggested, f"{one.own:.3f}", near])
    if rows:
        headers = ["photo", "label", "looks like", "probability", "neighbours"]
        title = f"{len(found.doubtful):,} labels look wrong, the most doubtful first"
        common.print_table(Table(title, headers, rows, numbers=False), whole=True)
    else:
        common.print_text("No label looks wrong.")
    copies = sum(len(group.photos) for group in found.copies)
    labels = sum(len(group.labels) > 1 for group in found.copies)
    parts = sum(len(group.parts) > 1 for group in found.copies)
    common.print_text(
        f"Copies: {copies:,} images in {len(found.copies):,} groups, {labels:,} with several labels, {parts:,} in "
        "several parts of the data."
    )
    for group in found.copies[:_LISTED]:
        common.print_text(f"  {', '.join(photo.file for photo in group.photos[:4])} ({', '.join(group.labels)})")
    common.print_text(f"Broken, tiny or blank: {len(found.odd):,} images.")
    for odd in found.odd[:_LISTED]:
        common.print_text(f"  {odd.photo.file}: {odd.kind}, {odd.what}")
    if max(len(found.doubtful), len(found.copies), len(found.odd)) > _LISTED:
        common.print_text("All of it is in --csv and --json, and with pictures in --html.")
