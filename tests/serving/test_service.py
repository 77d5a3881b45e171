"""The service: answers that are those of the classifier, in order, whoever asks beside; and what it refuses."""

import asyncio
import io
import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from asgi import Reply, ask, form, running
from PIL import Image

import atha
from atha.data.images import ImageReader
from atha.serving import ServiceLimits, create_app, of_classifier
from atha.serving.batching import Batches
from atha.web.access import Access, read_token
from atha.web.limits import Limits
from conftest import COLOURS
from parsed_page import Parsed

TOKEN = "0123456789abcdef0123"


def png(seed: int, size: tuple[int, int] = (30, 24)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be of any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def classifier(support: Path, tiny_clip: str) -> atha.Classifier:
    """A blend of probes: members that vote, and several views."""
    recipe = atha.Recipe.load("probes", ["training.precision=float32"])
    return atha.Classifier.from_pretrained(tiny_clip, recipe=recipe, device="cpu").fit(support)


class Slow:
    """A model of two classes that waits until it is let go; it knows how many images came at once."""

    labels = ("dark", "bright")
    batch = 8
    about: ClassVar[dict[str, Any]] = {"classes": {"dark": "dark", "bright": "bright"}, "members": []}

    def __init__(self) -> None:
        self.go, self.batches = threading.Event(), list[int]()
        self.entered = threading.Event()

    def prepare_thread(self) -> None: ...

    def view(self, path: Path) -> float:
        return float(np.asarray(ImageReader(quiet=True).open(path)).mean() / 255)

    def probabilities(self, views: Sequence[float]) -> np.ndarray:
        self.entered.set()
        if any(value == 0 for value in views):
            raise RuntimeError("black images break it")
        self.go.wait(20)
        self.batches.append(len(views))
        return np.array([[1 - value, value] for value in views])

    def votes(self, views: Sequence[float]) -> dict[str, np.ndarray]:
        return {}

    def explain(self, path: Path, name: str, label: str | None) -> Callable[[], bytes] | None:
        return None


def at_once(app: Any, *requests: tuple[Any, ...]) -> list[Reply]:
    """Replies to requests that are asked together."""

    async def go() -> list[Reply]:
        async with running(app):
            return await asyncio.gather(*(ask(app, *request) for request in requests))

    return asyncio.run(go())


def one(app: Any, *request: Any) -> Reply:
    return at_once(app, request)[0]


def test_answers_are_the_classifiers_bit_for_bit(classifier: atha.Classifier) -> None:
    files = [png(seed) for seed in range(9)]
    images = [Image.open(io.BytesIO(content)) for content in files]
    expected = classifier.predict_proba(images)
    votes = classifier.explain(images[0]).votes
    app = create_app(of_classifier(classifier))
    parts = [files[:1], files[1:4], files[4:9]]
    requests = [
        ("POST", "/predict?votes=1", form([(f"{row}.png", one) for row, one in enumerate(part)])) for part in parts
    ]
    replies = at_once(app, *requests)
    told = [one for reply in replies for one in reply.json["predictions"]]
    assert [one["file"] for one in told] == ["0.png", "0.png", "1.png", "2.png", *(f"{row}.png" for row in range(5))]
    assert np.array_equal([list(one["probabilities"].values()) for one in told], expected)
    assert [one["label"] for one in told] == classifier.predict(images)
    assert set(told[0]["probabilities"]) == set(COLOURS)
    assert votes and told[0]["votes"] == {
        name: dict(zip(told[0]["probabilities"], row, strict=True)) for name, row in votes.items()
    }


def test_what_waits_together_goes_through_together() -> None:
    model, seen = Slow(), list[int]()
    model.go.set()
    batches = Batches(model, lambda images, seconds: seen.append(images))
    asked = [batches.classify(0.1 * place, False) for place in range(1, 11)]
    asked[3].cancel()
    batches.start()
    batches.stop()
    assert model.batches == seen == [7, 2], "at most 8 are taken at once, and who waits no longer costs nothing"
    assert [float(one.result().probabilities[1]) for one in asked if not one.cancelled()] == [
        pytest.approx(0.1 * place) for place in range(1, 11) if place != 4
    ]
    assert batches.classify(0.1, False).cancelled() and not batches.alive


def test_a_batch_that_fails_ends_nothing() -> None:
    model = Slow()
    model.go.set()
    black = io.BytesIO()
    Image.new("RGB", (8, 8)).save(black, "PNG")
    app = create_app(model)

    async def go() -> list[Reply]:
        async with running(app):
            with pytest.raises(RuntimeError, match="black"):  # so that the server's log has it
                await ask(app, "POST", "/predict", form([("a.png", black.getvalue())]))
            return [await ask(app, "POST", "/predict", form([("b.png", png(1))])), await ask(app, "GET", "/health")]

    after, health = asyncio.run(go())
    assert after.json["predictions"][0]["file"] == "b.png" and health.json == {"status": "ok"}


@pytest.fixture
def app() -> Any:
    """A service with small limits, of a model that answers at once."""
    model = Slow()
    model.go.set()
    web = Limits(body=40_000, body_seconds=0.2)
    return create_app(model, ServiceLimits(images=3, image_bytes=9_000, queue=4, web=web))


def test_a_bad_image_fails_alone(app: Any) -> None:
    good, bad = png(1), png(2)[:300]
    reply = one(app, "POST", "/predict", form([("bad.png", bad), ("good.png", good), ("x\u202ey", b"GIF89a")]))
    first, second, third = reply.json["predictions"]
    assert reply.status == 200
    assert first.keys() == third.keys() == {"file", "error"} and "truncated" in first["error"]
    assert second["label"] in Slow.labels and sum(second["probabilities"].values()) == pytest.approx(1)
    assert "atha-image" not in reply.body.decode() and "\u202e".encode() not in reply.body


SIDE = 30_000


@pytest.mark.parametrize(
    ("files", "status", "said"),
    [
        ([("a.png", b"")], 422, "empty"),
        ([("a.png", b"not an image"), ("b.png", b"")], 422, "none of the 2 images"),
        ([("a.png", bomb(SIDE, SIDE))], 413, "900,000,000 pixels"),
        ([("a.png", b"\0" * 9_001)], 413, "9,001 bytes"),
        ([(f"{row}.png", b"x") for row in range(4)], 413, "at most 3 images"),
        ([(f"{row}.png", b"x") for row in range(40)], 413, "at most 3 images"),
        ([("a.png", b"\0" * 50_000)], 413, "40,000 bytes"),
        ([], 422, "no image"),
    ],
)  # fmt: skip
def test_images_that_are_refused(app: Any, files: list[tuple[str, bytes]], status: int, said: str) -> None:
    reply = one(app, "POST", "/predict", form(files))
    assert reply.status == status and said in reply.sentence


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (("POST", "/predict", b"{}", {"content-type": "application/json"}), 415, "application/json"),
        (("POST", "/predict", b"{}", {"content-type": ""}), 415, "none"),
        (("POST", "/predict", b"x", {"content-encoding": "gzip"}), 415, "compressed"),
        (("POST", "/predict", b"nonsense"), 400, "form cannot be read"),
        (("POST", "/predict", b"x", {"content-type": "multipart/form-data"}), 400, "boundary"),
        (("POST", "/predict", form([("a", b"x")]).replace(b'; filename="a"', b"")), 422, "no path or address is read"),
        (("POST", "/predict", form([("a", b"x")]).replace(b'name="image"; ', b"")), 400, "form cannot be read"),
        (("POST", "/predict", form([("a", b"x")])[:-8]), 400, "before its last boundary"),
        (("POST", "/predict?votes=perhaps", form([("a", b"x")])), 422, "votes is not valid"),
        (("POST", "/predict", [form([("a", b"x" * 30_000)])[:30_000], b"x" * 30_000]), 413, "40,000 bytes"),
        (("POST", "/predict", [form([("a", b"x")])[:60], None]), 408, "not here after 0.2 s"),
        (("GET", "/predict"), 405, "GET is not for this path"),
        (("GET", "/../etc/passwd"), 404, "nothing at this path"),
        (("POST", "/explain", form([("a", png(1))])), 404, "nothing at this path"),
        (("GET", "/", b"", {"host": "evil.example"}), 421, "evil.example"),
        (("GET", "/", b"", {"host": "127.0.0.1.evil.example:8000"}), 421, "this machine alone"),
        (("POST", "/predict", b"x", {"origin": "http://evil.example"}), 403, "another site"),
        (("POST", "/predict", b"x", {"origin": "null"}), 403, "another site"),
        (("POST", "/predict", b"x", {"origin": "http://127.0.0.1:9"}), 403, "another site"),
        (("POST", "/predict", b"x", {"sec-fetch-site": "cross-site"}), 403, "another site"),
    ],
)  # fmt: skip
def test_requests_that_are_refused(app: Any, request_: tuple[Any, ...], status: int, said: str) -> None:
    reply = one(app, *request_)
    assert reply.status == status and said in reply.sentence, reply
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_too_many_wait(app: Any) -> None:
    many = [("POST", "/predict", form([("a.png", png(row)), ("b.png", png(row))])) for row in range(6)]
    model = Slow()
    slow = create_app(model, ServiceLimits(queue=4, seconds=0.5))
    # Set free long after the answers were due: what is at work is waited for at the end.
    threading.Timer(2.0, model.go.set).start()
    replies = at_once(slow, *many)
    refused = [reply for reply in replies if reply.status == 429]
    assert len(refused) == 4 and all(int(reply.headers["retry-after"]) >= 1 for reply in refused)
    assert "at most 4 may" in refused[0].sentence
    late = [reply for reply in replies if reply.status == 504]
    assert len(late) == 2 and "no answer after 0.5 s" in late[0].sentence


def test_all_bodies_together_are_bounded() -> None:
    app = create_app(Slow(), ServiceLimits(web=Limits(bodies=1_000, body_seconds=0.3)))
    part = form([("a.png", b"x" * 500)])
    replies = at_once(app, *[("POST", "/predict", [part[:600], None]) for _ in range(2)])
    assert sorted(reply.status for reply in replies) == [408, 429]


def test_a_token_is_asked_for() -> None:
    model = Slow()
    model.go.set()
    app = create_app(model, access=Access("0.0.0.0", TOKEN))
    body, right = form([("a.png", png(1))]), {"authorization": f"Bearer {TOKEN}", "host": "any.example"}
    statuses = [
        reply.status
        for reply in at_once(
            app,
            ("POST", "/predict", body, right),
            ("POST", "/predict", body),
            ("POST", "/predict", body, {"authorization": f"Bearer {TOKEN}x"}),
            ("POST", "/predict", body, {"authorization": TOKEN}),
            ("GET", "/info"),
            ("GET", "/metrics"),
            ("GET", "/info", b"", right),
            *(("GET", path) for path in ("/", "/health", "/docs", "/openapi.json")),
        )
    ]
    assert statuses == [200, 401, 401, 401, 401, 401, 200, 200, 200, 200, 200]


def test_other_machines_need_a_token(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(atha.AthaError, match="--token-file"):
            Access(host)
    for host in ("localhost", "127.0.0.2", "::1"):
        Access(host)
    for content in ("short", "with a space in it ......", "\x1b" * 20):
        (tmp_path / "token").write_text(content)
        with pytest.raises(atha.AthaError, match="no token"):
            read_token(tmp_path / "token")
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert read_token(tmp_path / "token") == TOKEN
    with pytest.raises(atha.AthaError, match="cannot be read"):
        read_token(tmp_path / "none")


def test_what_the_service_says_of_itself(classifier: atha.Classifier) -> None:
    app = create_app(of_classifier(classifier), maps=True)
    replies = at_once(app, *(("GET", path) for path in ("/info", "/docs", "/openapi.json", "/", "/metrics")))
    info, docs, described, start, metrics = replies
    assert [reply.status for reply in replies] == [200] * 5
    assert list(info.json["classes"]) == list(classifier.classes.labels) and info.json["limits"]["images"] == 16
    assert "/tmp" not in info.body.decode(), "no path of the machine is told"
    assert {"/predict", "/explain", "/health", "/info", "/metrics"} == described.json["paths"].keys()
    assert "POST /predict" in docs.body.decode() and "gather" not in docs.body.decode()
    assert 'atha_requests_total{path="/info",status="200"}' in metrics.body.decode()
    for page in (docs, start):
        parsed = Parsed(page.body.decode())
        links = [attributes.get(name) for _, attributes in parsed.tags for name in ("src", "href")]
        assert {link for link in links if link} <= {"data:,", "/docs", "/", "/openapi.json"}
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]


def test_a_map_is_drawn(classifier: atha.Classifier) -> None:
    app = create_app(of_classifier(classifier), maps=True)
    file, label = form([("$x$.png", png(3))]), "blue thing"
    good, other, bad = at_once(
        app,
        ("POST", "/explain?label=blue%20thing", file),
        ("POST", "/explain?label=none", file),
        ("POST", "/explain", form([("a.png", b"x")])),
    )
    assert label in classifier.classes.labels and good.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(good.body)).size[0] > 300
    assert other.status == 422 and "no class 'none'" in other.sentence
    assert bad.status == 422 and "cannot be used" in bad.sentence
