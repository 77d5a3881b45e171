"""``atha export``: an adapter as files that other programs run."""

from pathlib import Path
from typing import Annotated

import typer

from atha import defaults
from atha.cli import common
from atha.cli.common import verb


@verb
def export(
    adapter: Annotated[Path, typer.Argument(help="Folder made by atha fit, or hub:ORG/NAME.")],
    out: Annotated[Path, typer.Option(help="Folder to make for the export.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="onnx, transformers (a plain checkpoint, LoRA merged) or torch (a torch.export program)."
        ),
    ] = "onnx",
    quantize: Annotated[
        str | None, typer.Option(help="int8: smaller and mostly faster, with its cost measured. Of onnx.")
    ] = None,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(help="Images for --quantize, such as the support set's folder. May be given several times."),
    ] = None,
    accept_difference: Annotated[
        bool, typer.Option("--accept-difference", help="Write what the format cannot hold all of, too.")
    ] = False,
    plain: common.Plain = False,
    model: common.Backbone = None,
    download: common.Download = False,
    threads: common.Threads = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    overwrite: common.Overwrite = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Write ADAPTER with its backbone as ONNX, a plain checkpoint or a torch program, and prove that it is equal."""
    from atha.adapter.files import read_adapter
    from atha.data.finding import find_images
    from atha.export import check

    check(format_, out, quantize, calibrate, overwrite)
    saved = read_adapter(adapter)
    images = None if calibrate is None else find_images(calibrate)

    from atha.classifier import Classifier
    from atha.devices import use_threads

    use_threads(threads)
    classifier = Classifier.from_saved(saved, backbone=model, download=download, device="cpu", max_pixels=max_pixels)
    with common.stages() as advance:
        made = classifier.export(
            out,
            format_,
            quantize=quantize,
            calibrate=images,
            accept_difference=accept_difference,
            plain=plain,
            overwrite=overwrite,
            progress=advance,
        )
    if json:
        common.print_json({"export": str(out), **made.proof})
        return
    for sentence in made.sentences():
        common.print_text(sentence)
    common.print_text(f"Export saved in {out}")
