"""``atha data``: which data sets there are, whether one is what is expected, and what its classes are called."""

from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.audit import audit
from atha.cli.common import verb
from atha.documents import escaping
from atha.documents.tables import Table, to_csv
from atha.errors import DataError

if TYPE_CHECKING:
    from atha.data.duplicates import Duplicates, Group
    from atha.data.survey import Benchmark, Survey

app = typer.Typer(
    help="Data sets: which benchmarks there are, whether data and labels are in order, what classes are called.",
    no_args_is_help=True,
)


app.command()(audit)


@app.command("list")
@verb
def list_benchmarks(json: common.Json = False, debug: common.Debug = False) -> None:
    """List the four benchmarks: images, classes and their texts, official archives, layout of the files."""
    from atha.data.sources.cdfsl import benchmarks

    if json:
        common.print_json({name: _described(benchmark) for name, benchmark in benchmarks().items()})
        return
    for name, benchmark in benchmarks().items():
        about = "about " * benchmark.approximate
        rows = [
            ("images", f"{about}{benchmark.total:,}"),
            ("classes", str(len(benchmark.texts))),
            ("class texts", ", ".join(benchmark.texts.values())),
            ("texts from", benchmark.texts_source),
            ("archives", benchmark.source),
            ("layout below --root", benchmark.layout),
        ]
        common.print_table(Table(f"{name}: {benchmark.title}", ["", ""], rows, numbers=False))


@app.command()
@verb
def check(
    dataset: Annotated[
        str, typer.Argument(help="eurosat, cropdiseases, isic2018, chestx, class folders, a table, or hf:ORG/NAME.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="The folder that holds the data set's folder, or that folder itself.")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="Look for copies; all images are decoded.")
    ] = True,
    write_list: Annotated[
        Path | None, typer.Option(help="Write the images without copies as a CSV of path,label, which --keep reads.")
    ] = None,
    image_column: selecting.ImageColumn = None,
    label_column: selecting.LabelColumn = None,
    images: selecting.Images = None,
    split: selecting.Split = None,
    bands: common.Bands = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Compare what is there of DATASET with what the protocol expects, and look for copies.

    The exit code is 0 if all matches, 1 if anything differs or images cannot be read, and 2 if there is no such data
    set or folder. Copies leave it at 0, unless they have two labels, which is a fact of the official data and a
    mistake in other data.

    The paths in the list of --write-list are relative to the data set, wherever the list lies. Of copies it has the
    first.
    """
    from atha.data import Selection
    from atha.data.check import check as check_data

    if write_list is not None:
        _check_list(write_list, duplicates, overwrite)
    wanted = common.read_bands(bands)
    with common.stages() as advance:
        found = check_data(
            dataset, root, duplicates=duplicates, progress=advance, bands=wanted, max_pixels=max_pixels,
            selection=Selection("all", image_column, label_column, images, split),
        )  # fmt: skip
    if json:
        common.print_json(found.describe())
    else:
        _print(found)
    if write_list is not None:
        _write_list(write_list, found, overwrite)
    if found.problems:
        raise typer.Exit(1)


@app.command()
@verb
def classes(
    support: Annotated[str, typer.Argument(help="Labelled images, as for atha fit.")],
    out: Annotated[Path | None, typer.Option(help="File to make. (default: standard output)")] = None,
    image_column: selecting.ImageColumn = None,
    label_column: selecting.LabelColumn = None,
    images: selecting.Images = None,
    split: selecting.Split = None,
    overwrite: common.Overwrite = False,
    debug: common.Debug = False,
) -> None:
    """Write the class texts of SUPPORT as JSON, which --classes reads; empty where the label tells the model nothing.

    Fill in the empty ones, and improve others: MEL as melanoma.
    """
    from atha.classes import Classes
    from atha.data import Selection, read_labelled
    from atha.files import check_free, write_whole
    from atha.prompts import tells_nothing

    if out is not None:
        check_free(out, overwrite)
    read = read_labelled(support, Selection("fit", image_column, label_column, images, split))
    if read.doubt:  # whoever reads the file that is made sees what would be the classes
        common.warn(read.doubt)
    found = Classes.of_support(replace(read, doubt=""))
    texts = {label: "" if tells_nothing(text) else text for label, text in zip(found.labels, found.texts, strict=True)}
    content = escaping.json(dumps(texts, indent=2, ensure_ascii=False)) + "\n"
    if out is None:
        common.write(content)
    else:
        write_whole(out, content, overwrite)
    if empty := sum(not text for text in texts.values()):
        common.say(f"{empty} of {len(texts)} texts are empty: fill them in before --classes reads them.")


def _described(benchmark: "Benchmark") -> dict[str, Any]:
    return {
        "title": benchmark.title,
        "images": benchmark.total,
        "approximate": benchmark.approximate,
        "classes": dict(benchmark.texts),
        "counts": dict(benchmark.counts) or None,
        "texts_source": benchmark.texts_source,
        "archives": benchmark.source,
        "layout": benchmark.layout,
    }


def _print(found: "Survey") -> None:
    if found.pool is not None:
        expected = found.benchmark.counts if found.benchmark else {}
        headers = ["class", "text", "images", *(["expected"] if expected else [])]
        rows = [
            [label, found.pool.texts[label], f"{count:,}", *([f"{expected[label]:,}"] if expected else [])]
            for label, count in found.pool.counts.items()
        ]
        if found.benchmark:
            about = "about " * found.benchmark.approximate
            whole = f" of {about}{found.benchmark.total:,}"
        else:
            whole = ""
        where = f" in {found.home}" if found.home else ""
        title = f"{len(found.pool.ids):,}{whole} images{where}"
        common.print_table(Table(title, headers, rows, numbers=False))
        if found.label_file is not None:
            common.print_text(f"Label file: {found.label_file}")
        common.print_text(f"Hash of the labels: {found.pool.labels_hash}")
        if found.pool.groups:
            common.print_text(f"Groups: {len(set(found.pool.groups)):,}, each a {found.pool.group_kind}")
    if found.duplicates is not None:
        _print_copies(found.duplicates)
    for note in found.notes:
        common.print_text(f"Note: {note}.")
    for problem in found.problems:
        common.print_text(f"Problem: {problem}.")
    if not found.problems:
        what = "as the protocol expects it" if found.benchmark else "in order"
        unseen = "" if found.duplicates else " (its images were not opened)"
        common.print_text(f"{found.dataset} is {what}{unseen}.")


def _print_copies(copies: "Duplicates") -> None:
    for what, groups in (("Exact copies", copies.exact), ("Near copies", copies.near)):
        images = sum(len(group.ids) for group in groups)
        conflicting = [group for group in groups if group.conflicting]
        common.print_text(f"{what}: {images:,} images in {len(groups):,} groups, {len(conflicting):,} with two labels.")
        for group in sorted(groups, key=lambda group: not group.conflicting)[:5]:
            common.print_text(f"  {_shown(group)}")
        if len(groups) > 5:
            common.print_text(f"  and {len(groups) - 5:,} more groups; --json has all")
    if copies.flat:
        common.print_text(f"Too flat for near copies to be told: {copies.flat:,} images.")
    common.print_text(f"Without copies: {len(copies.kept):,} images.")


def _shown(group: "Group") -> str:
    more = f" and {len(group.ids) - 4} more" if len(group.ids) > 4 else ""
    conflict = f" (labels: {', '.join(group.labels)})" if group.conflicting else ""
    return ", ".join(group.ids[:4]) + more + conflict


def _check_list(path: Path, duplicates: bool, overwrite: bool) -> None:
    """Before the work, not after it."""
    from atha.files import check_free

    if not duplicates:
        raise DataError("--write-list writes the images without copies, and --no-duplicates looks for none: drop one")
    check_free(path, overwrite, "--write-list")


def _write_list(path: Path, found: "Survey", overwrite: bool) -> None:
    from atha.files import write_whole

    if not found.kept:
        raise DataError(f"{found.dataset} has no image to list, so {path} is not written; see the problems above")
    write_whole(path, to_csv(["path", "label"], found.kept), overwrite)
    common.say(f"{len(found.kept):,} images listed in {path}")
