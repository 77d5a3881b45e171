"""``atha report``: everything about one adaptation, in one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from atha import defaults
from atha.cli import common, selecting
from atha.cli.common import verb
from atha.errors import DataError


@verb
def report(
    adapter: Annotated[Path, typer.Argument(help="Folder made by atha fit, or hub:ORG/NAME.")],
    test: Annotated[str, typer.Option(help="Labelled images: class folders, a table (path, label), or hf:ORG/NAME.")],
    out: Annotated[Path, typer.Option(help="HTML file to make.")],
    mistakes: Annotated[int, typer.Option(min=0, max=20, help="Most confident mistakes to show with token maps.")] = 6,
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
    overwrite: common.Overwrite = False,
    debug: common.Debug = False,
) -> None:
    """Write a report on ADAPTER: data, accuracy beside baselines, mistakes with token maps, what to do next."""
    from atha.adapter.files import read_adapter
    from atha.data import Selection, read_labelled
    from atha.files import check_free, write_whole

    if out.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--out {out} must end in .html: give it such a name")
    check_free(out, overwrite)
    saved = read_adapter(adapter)
    data = read_labelled(test, Selection("test", image_column, label_column, images, split))
    saved.classes.index(data)

    from atha.classifier import Classifier
    from atha.devices import use_threads
    from atha.reports.adaptation import adaptation_report

    use_threads(threads)
    classifier = Classifier.from_saved(saved, backbone=model, download=download, device=device, max_pixels=max_pixels)
    with common.stages() as advance:
        html = adaptation_report(classifier, data, adapter.resolve().name, mistakes, batch_size, advance)
    write_whole(out, html, overwrite)
    common.print_text(f"Report in {out}, {len(html.encode()) / 1e6:.1f} MB")
