"""The service with names that mean harm: in all that it answers, text stays text."""

import asyncio
import io
from typing import Any
from urllib.parse import quote

from asgi import Reply, ask, running
from PIL import Image

from atha import Classifier
from atha.serving import create_app, of_classifier
from cast import CLASSES, FILES, obeyed


def test_names_are_shown_and_never_obeyed(tiny_clip: str) -> None:
    app = create_app(of_classifier(Classifier.from_pretrained(tiny_clip, list(CLASSES), device="cpu")), maps=True)
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "PNG")
    photo = file.getvalue()
    names = [name.replace('"', "%22").replace("\n", "%0A").replace("\r", "%0D") for name in (*CLASSES, *FILES)]
    other = "%1B%5D0;owned%07%0A%E2%80%AE%ED%A0%80"
    begin = '--qz7\r\nContent-Disposition: form-data; name="image"; filename'
    bodies = [
        *(f'{begin}="{name}"\r\n\r\n'.encode("utf-8", "surrogateescape") for name in names),
        f"{begin}*=utf-8''{other}\r\n\r\n".encode(),
    ]
    requests: list[tuple[Any, ...]] = [
        ("POST", "/predict", head + content + b"\r\n--qz7--\r\n") for head in bodies for content in (photo, b"none")
    ]
    for name in CLASSES:
        seen = quote(name)
        requests += [
            ("POST", f"/explain?label=no-{seen}", bodies[0] + photo + b"\r\n--qz7--\r\n"),
            ("POST", f"/predict?votes={seen}", bodies[0] + photo + b"\r\n--qz7--\r\n"),
            ("GET", f"/{name}"),
            ("POST", "/predict", b"x", {"content-type": seen}),
            ("POST", "/predict", photo, {"content-type": f"multipart/form-data; boundary={seen}"}),
            ("GET", "/info", b"", {"host": seen}),
            ("POST", "/predict", b"x", {"origin": f"http://[{seen}"}),
        ]
    requests += [("GET", path) for path in ("/", "/docs", "/info", "/metrics", "/openapi.json")]
    for request, reply in zip(requests, asked_of(app, requests), strict=True):
        text = reply.body.decode()
        assert not obeyed(text) or reply.headers["content-type"] == "image/png", request
        assert reply.status < 500, (request, text)
        if reply.headers["content-type"] == "application/json":
            assert reply.json
        if request == ("GET", "/info"):
            assert set(reply.json["classes"]) == set(CLASSES)


def asked_of(app: Any, requests: list[tuple[Any, ...]]) -> list[Reply]:
    async def go() -> list[Reply]:
        async with running(app):
            return [await ask(app, *request) for request in requests]

    return asyncio.run(go())
