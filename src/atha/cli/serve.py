"""``atha serve``: an adapter behind HTTP, with a page to drop pictures on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atha import defaults
from atha.cli import common
from atha.cli.common import verb

if TYPE_CHECKING:
    from atha.serving.models import Model

Images = Annotated[int, typer.Option(min=1, max=256, help="Most images of one request.")]
Megabytes = Annotated[int, typer.Option(min=1, max=1024, help="Most megabytes of one image's file.")]
Queue = Annotated[int, typer.Option(min=1, help="Most images that wait, of all requests together.")]
Seconds = Annotated[float, typer.Option(min=1, help="Until a request that is here is answered, or given up.")]


@verb
def serve(
    adapter: Annotated[Path | None, typer.Argument(help="Folder made by atha fit, or hub:ORG/NAME.")] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Made by atha export --format onnx: serve that instead, without torch."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0: any that is free.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on. One that other machines reach needs --token-file.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(help="File with a token that must be sent as Authorization: Bearer TOKEN.")
    ] = None,
    maps: Annotated[bool, typer.Option("--maps", help="Let POST /explain draw where the model looks.")] = False,
    images: Images = 16,
    image_megabytes: Megabytes = 20,
    queue: Queue = 256,
    seconds: Seconds = 30,
    plain: common.Plain = False,
    model: common.Backbone = None,
    download: common.Download = False,
    device: common.Device = "auto",
    threads: common.Threads = None,
    batch_size: common.BatchSize = None,
    max_pixels: common.MaxPixels = defaults.MAX_PIXELS,
    debug: common.Debug = False,
) -> None:
    """Answer POST /predict with the labels of the images in it, and show a page to drop pictures on."""
    from atha.errors import AthaError
    from atha.serving import check_installed

    if (adapter is None) == (onnx is None):
        raise AthaError("what is to be served? give an adapter, or an export with --onnx FOLDER, and not both")
    if onnx is not None and (given := _not_of_exports(maps, plain, model, download, device, batch_size)):
        raise AthaError(f"{given} is for adapters, and an export is as it was written: leave it out")
    check_installed()
    from atha.serving.limits import ServiceLimits
    from atha.web.access import Access, is_loopback, read_token
    from atha.web.limits import Limits
    from atha.web.server import bind

    token = None if token_file is None else read_token(token_file)
    access = Access(host, token)
    each = image_megabytes << 20
    limits = ServiceLimits(images, each, queue, seconds, Limits(body=max(64 << 20, each + (1 << 20))))
    answering: Model
    if adapter is None:
        from atha.serving.exported import of_export

        assert onnx is not None
        answering = of_export(onnx, threads, max_pixels)
    else:
        from atha.adapter.files import read_adapter

        saved = read_adapter(adapter)
    with bind(host, port) as bound:
        from atha.serving.running import serve_on

        if adapter is not None:
            from atha.classifier import Classifier
            from atha.devices import use_threads
            from atha.serving.models import of_classifier

            use_threads(threads)
            classifier = Classifier.from_saved(
                saved, backbone=model, download=download, device=device, max_pixels=max_pixels
            )
            answering = of_classifier(classifier, plain, batch_size)
        if not is_loopback(host):
            common.warn("what is sent is not encrypted: let others come through a proxy that speaks HTTPS")

        def ready(address: str) -> None:
            behind = "" if token is None else f"#token=... (what {token_file} holds)"
            common.print_text(f"Listening on {address}{behind}")

        answered = serve_on(bound, answering, access, limits, maps, ready)
    common.say("Ended; all that was asked was answered." if answered else "Ended at once, as was asked for twice.")


def _not_of_exports(
    maps: bool, plain: bool, model: str | None, download: bool, device: str, batch_size: int | None
) -> str | None:
    """The first option that was given and that an export has no use for."""
    given = {
        "--maps": maps,
        "--plain": plain,
        "--model": model is not None,
        "--download": download,
        "--device": device not in ("auto", "cpu"),
        "--batch-size": batch_size is not None,
    }
    return next((name for name, there in given.items() if there), None)
