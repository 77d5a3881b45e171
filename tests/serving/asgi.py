"""A client of an application of ASGI in this process: whole requests, or parts of them at any pace."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

BOUNDARY = "qz7"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def sentence(self) -> str:
        said = self.json["error"]
        assert isinstance(said, str) and said
        return said


def form(files: Sequence[tuple[str, bytes]], field_name: str = "image") -> bytes:
    """Files as a browser sends them."""
    parts = []
    for name, content in files:
        head = f'Content-Disposition: form-data; name="{field_name}"; filename="{name}"\r\nContent-Type: image/png'
        parts.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def ask(
    app: Any,
    method: str,
    path: str,
    body: bytes | Sequence[bytes | None] = b"",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request.

    Args:
        app: the application.
        method: of HTTP.
        path: with its query.
        body: at once, or in parts without a length; at None, the sender goes quiet for good.
        headers: beside those that every request has.
    """
    parts = [body] if isinstance(body, bytes) else list(body)
    told = {"host": "127.0.0.1:8000"}
    if isinstance(body, bytes) and body:
        told |= {"content-type": MULTIPART, "content-length": str(len(body))}
    elif parts != [b""]:
        told |= {"content-type": MULTIPART, "transfer-encoding": "chunked"}
    told |= headers or {}
    bare, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": bare, "raw_path": bare.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in told.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    reply = Reply()

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        if part is None:
            parts.insert(0, None)
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            reply.body += message.get("body", b"")

    await app(scope, receive, send)
    return reply


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """The application between its beginning and its end."""
    asked: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, asked.get, told.put))
    asked.put_nowait({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        asked.put_nowait({"type": "lifespan.shutdown"})
        assert (await told.get())["type"] == "lifespan.shutdown.complete"
        await task
