"""The outermost layer of an application: who may ask, how much is read and until when, and headers of every answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect

from atha.web.access import Access
from atha.web.limits import Limits
from atha.web.refusals import Refusal, later

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
# Who still sends when it is refused reads the answer only after that: so much is taken and thrown away.
_LINGER_SECONDS, _LINGER_BYTES = 2.0, 8 << 20


class Guard:
    """An application of ASGI around another one.

    Args:
        app: what is guarded. It may raise `Refusal` anywhere.
        access: who may ask.
        limits: how much.
    """

    def __init__(self, app: App, access: Access, limits: Limits) -> None:
        self._app, self._access, self._limits = app, access, limits
        self._requests = self._bytes = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        exchange = _Exchange(self, receive, send, self._limits)
        exchange.whole = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        self._requests += 1
        try:
            self._check(scope["method"], scope["path"], headers)
            await self._app(scope, exchange.receive, exchange.send)
        except Refusal as refusal:
            if not exchange.started:
                await refusal.response()(scope, exchange.receive, exchange.send)
        finally:
            self._requests -= 1
            self._bytes -= exchange.taken

    def take(self, count: int) -> None:
        """Count bytes of a body that came in.

        Raises:
            Refusal: all requests together hold too many.
        """
        self._bytes += count
        if self._bytes > self._limits.bodies:
            raise later("too much is being sent to this service at once: send it later", 2)

    def _check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Whether a request may be read.

        Raises:
            Refusal: it may not.
        """
        self._access.check(method, path, headers)
        if self._requests > self._limits.requests:
            raise later(f"{self._limits.requests} requests are being worked on: ask later", 1)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > self._limits.body:
            raise self.too_much()

    def too_much(self) -> Refusal:
        """What is said of a body that is too large."""
        return Refusal(413, f"a request has at most {self._limits.body:,} bytes: send fewer or smaller images")


class _Exchange:
    """One request and its answer."""

    def __init__(self, guard: Guard, receive: Receive, send: Send, limits: Limits) -> None:
        self._guard, self._receive, self._send, self._limits = guard, receive, send, limits
        self._until = time.monotonic() + limits.body_seconds
        self.taken, self.started, self.whole = 0, False, False

    async def receive(self) -> Message:
        """The next part of the request.

        Raises:
            Refusal: it is too long, or comes too slowly.
        """
        if self.whole:  # whoever asks again waits for the other side to leave
            return await self._receive()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + self._until - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise Refusal(
                408, f"the request was not here after {self._limits.body_seconds:g} s: send it faster or in parts"
            ) from None
        self.whole = message["type"] == "http.disconnect" or not message.get("more_body", False)
        count = len(message.get("body", b""))
        self.taken += count
        self._guard.take(count)
        if self.taken > self._limits.body:
            raise self._guard.too_much()
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer."""
        if message["type"] == "http.response.start":
            self.started = True
            there = {name.lower() for name, _ in message["headers"]}
            more = {name: value for name, value in _HEADERS.items() if name.encode() not in there}
            message["headers"] = [
                *message["headers"],
                *((name.encode(), value.encode()) for name, value in more.items()),
            ]
            if not self.whole:
                message["headers"].append((b"connection", b"close"))
        if message["type"] == "http.response.body" and not message.get("more_body", False) and not self.whole:
            await self._send({**message, "more_body": True})
            with suppress(ClientDisconnect, TimeoutError):
                await asyncio.wait_for(self._throw_away(), _LINGER_SECONDS)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _throw_away(self) -> None:
        count = 0
        while count < _LINGER_BYTES:
            message = await self._receive()
            count += len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return
