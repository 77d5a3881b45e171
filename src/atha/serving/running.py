"""The service on a port of this machine."""

import logging
from collections.abc import Callable
from socket import socket

from atha.serving.app import create_app
from atha.serving.limits import ServiceLimits
from atha.serving.models import Model
from atha.web.access import Access
from atha.web.server import address, bind, run


def serve(
    model: Model,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: ServiceLimits = ServiceLimits(),  # noqa: B008 - frozen
    maps: bool = False,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Answer until the process is told to end; what was asked by then is answered.

    Args:
        model: what answers; see `atha.serving.of_classifier`.
        host: to bind to; others than this machine's own need a token.
        port: 0: any that is free.
        token: that must be brought by whoever asks.
        limits: how much is taken.
        maps: see `create_app`.
        ready: called with the address of the page when it can be asked for.

    Raises:
        AthaError: the port cannot be had, or others could ask without a token.
    """
    access = Access(host, token)
    serve_on(bind(host, port), model, access, limits, maps, ready)


def serve_on(
    bound: socket, model: Model, access: Access, limits: ServiceLimits, maps: bool, ready: Callable[[str], None]
) -> bool:
    """`serve`, where the port was bound before the model was loaded; whether it answered all, see `run`."""
    # What others send is told to them, and does not fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    app = create_app(model, limits, access, maps)
    patience = limits.seconds + limits.web.body_seconds
    return run(app, bound, limits.web, patience, lambda: ready(address(bound)))
