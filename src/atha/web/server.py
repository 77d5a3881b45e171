"""An application on a port: what it is bound to, headers that come in time, and an end that answers what was asked."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from atha.errors import AthaError
from atha.web.limits import Limits

# A second after which a refused sender who still sends is no longer listened to.
_LINGER = 1.0
_KEEP_ALIVE = 20


def bind(host: str, port: int) -> socket.socket:
    """A port of this machine; nobody is answered on it yet.

    Args:
        host: a name or an address.
        port: 0: any that is free.

    Raises:
        AthaError: it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise AthaError(f"--host {host} is no address of this machine ({_why(error)}): give 127.0.0.1") from None
    try:
        if os.name == "posix":  # elsewhere it lets two services share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        bound.close()
        raise AthaError(f"port {port} of {host} cannot be had ({_why(error)}): choose another --port") from None
    return bound


def address(bound: socket.socket) -> str:
    """Where a browser on this machine finds what is bound."""
    host, port = bound.getsockname()[:2]
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}/"


def run(app: Any, bound: socket.socket, limits: Limits, patience: float, ready: Callable[[], None]) -> bool:
    """Answer until the process is told to end, by TERM or by the keyboard.

    Whoever was asked before that is answered, and new ones are refused; told a second time, it ends at once.

    Args:
        app: of ASGI.
        bound: see `bind`.
        limits: of what is read.
        patience: seconds that answers may take after the end was asked for.
        ready: called when the first answer can be had.

    Returns:
        Whether all that was asked was answered: it was not told a second time.
    """
    most = limits.connections

    class Protocol(_Protocol):
        head_seconds, connections_most = limits.head_seconds, most

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(patience) + 1,
        h11_max_incomplete_event_size=limits.head,
    )
    server = _Server(config, ready)
    with _ended_in_peace():
        server.run(sockets=[bound])
    return not server.force_exit


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit:  # what is broken off then is no failure, and nobody is to read of it
            logging.getLogger("uvicorn.error").disabled = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


@contextmanager
def _ended_in_peace() -> Iterator[None]:
    """uvicorn raises the signals that ended it once more when all is done; being told to end is no failure."""
    asked = [signal.SIGINT, signal.SIGTERM]
    before = [signal.signal(one, lambda *_: None) for one in asked]
    try:
        yield
    finally:
        for one, handler in zip(asked, before, strict=True):
            signal.signal(one, handler)


class _Protocol(H11Protocol):
    """A connection, whose headers must come in time and whose end is heard by who still sends."""

    head_seconds: float
    connections_most: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._over = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > self.connections_most:
            self._refuse(503, f"{self.connections_most} connections are open: ask later")

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_be()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        with suppress(h11.LocalProtocolError):  # what was refused while it was being answered
            super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        else:
            self._let_be()

    def send_400_response(self, msg: str) -> None:
        hint = getattr(sys.exc_info()[1], "error_status_hint", 400)
        if hint == 431:
            self._refuse(431, "the headers of the request are too long: send shorter ones")
        else:
            self._refuse(400, "this is no request of HTTP that can be read: send one that is")

    def _await_head(self) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.head_seconds, self._late)

    def _let_be(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self._refuse(
                408, f"the headers of the request were not here after {self.head_seconds:g} s: send them faster"
            )

    def _refuse(self, status: int, sentence: str) -> None:
        """Say why, and go on listening for a moment: who is still sending would not hear it otherwise."""
        self._let_be()
        body = json.dumps({"error": sentence}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        events: list[Any] = [
            h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        self._over = True
        try:
            for event in events:
                self.transport.write(self.conn.send(event))
            if self.transport.can_write_eof():
                self.transport.write_eof()
        except (h11.LocalProtocolError, OSError):  # an answer had begun
            self.transport.close()
            return
        self.flow.resume_reading()
        self.loop.call_later(_LINGER, self.transport.close)


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
