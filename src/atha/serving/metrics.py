"""What a service did, as Prometheus reads it."""

from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from atha.web.guard import App, Message, Receive, Send

KIND = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service, in a registry of their own.

    Args:
        paths: that are told apart; all others are one.
    """

    def __init__(self, paths: frozenset[str]) -> None:
        self._paths, self._registry = paths, CollectorRegistry()
        own = self._registry
        self._requests = Counter("atha_requests", "Requests that were answered.", ["path", "status"], registry=own)
        self._seconds = Histogram(
            "atha_request_seconds", "From headers to answer.", ["path"], buckets=_SECONDS, registry=own
        )
        self._images = Counter("atha_images", "Images, by what became of them.", ["outcome"], registry=own)
        self._batch = Histogram(
            "atha_batch_images", "Images that went through the model together.", buckets=_IMAGES, registry=own
        )
        self._model = Counter("atha_model_seconds", "In which the model was at work.", registry=own)
        self._waiting = Gauge(
            "atha_waiting_images", "Images that are decoded or classified, or wait for it.", registry=own
        )

    def batch(self, images: int, seconds: float) -> None:
        """Note a batch."""
        self._batch.observe(images)
        self._model.inc(seconds)

    def image(self, outcome: str) -> None:
        """Note an image: ``classified`` or ``refused``."""
        self._images.labels(outcome).inc()

    def waiting(self, images: int) -> None:
        """Note how many images wait."""
        self._waiting.set(images)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)

    def around(self, app: App) -> App:
        """An application whose requests are counted."""

        async def counted(scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            path = scope["path"] if scope["path"] in self._paths else "other"
            started = perf_counter()

            async def noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._requests.labels(path, str(message["status"])).inc()
                    self._seconds.labels(path).observe(perf_counter() - started)
                await send(message)

            await app(scope, receive, noting)

        return counted
