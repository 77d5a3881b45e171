"""The paths of the service: what is asked becomes images, images become answers in their order."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from atha.errors import DataError
from atha.serving import answers, page
from atha.serving.batching import Answer, Batches
from atha.serving.limits import ServiceLimits
from atha.serving.metrics import KIND, Metrics
from atha.serving.models import Model
from atha.serving.uploads import Decoders, Problem, files, name_of, read_images
from atha.web.access import Access
from atha.web.guard import App, Guard
from atha.web.refusals import Refusal, answer, later, refuse_in_sentences

_PATHS = frozenset({"/", "/predict", "/explain", "/health", "/info", "/metrics", "/docs", "/openapi.json"})
_MOST_SECONDS = 30  # that somebody is told to wait
_ABOUT = "Labels images. See /info for the classes."


def create_app(
    model: Model,
    limits: ServiceLimits = ServiceLimits(),  # noqa: B008 - frozen
    access: Access = Access(),  # noqa: B008 - frozen
    maps: bool = False,
) -> App:
    """The service as an application of ASGI, for a server of yours.

    Args:
        model: what answers; see `atha.serving.of_classifier`.
        limits: how much is taken.
        access: who may ask. A server that is reached from other machines needs a token in it.
        maps: whether ``POST /explain`` draws where the model looks, which takes longer than a prediction.

    Returns:
        The application. It begins and ends its threads by ASGI's lifespan.
    """
    service = _Service(model, limits, maps)
    made = FastAPI(
        title="atha", description=_ABOUT, docs_url=None, redoc_url=None, lifespan=service.lifespan,
        openapi_url="/openapi.json", default_response_class=Response,
    )  # fmt: skip
    refuse_in_sentences(made)
    _add_paths(made, service)
    return service.metrics.around(Guard(made, access, limits.web))


def _add_paths(made: FastAPI, service: "_Service") -> None:
    shown, documented = page.start_page(), page.docs_page(made)

    @made.post(
        "/predict", openapi_extra=answers.form("image", several=True),
        responses={200: {"model": answers.Predictions}, **answers.REFUSALS},
    )  # fmt: skip
    async def predict(request: Request, votes: bool = False) -> Response:
        """The label of each image, and the probability of every class."""
        return await service.predict(request, votes)

    if service.maps:

        @made.post(
            "/explain", openapi_extra=answers.form("image", several=False),
            responses={200: {"content": {"image/png": {}}, "description": "The map."}, **answers.REFUSALS},
        )  # fmt: skip
        async def explain(request: Request, label: str | None = None) -> Response:
            """Where the model looks in one image: the similarity of its patches to a class, by default the answer."""
            return await service.explain(request, label)

    @made.get("/health", responses={200: {"model": answers.Health}, 503: {"model": answers.Health}})
    async def health() -> Response:
        """Whether answers are to be had."""
        well = service.batches.alive
        return answer(
            {"status": "ok" if well else "the model's thread has ended: start the service again"}, 200 if well else 503
        )

    @made.get("/info", responses={200: {"model": answers.About}})
    async def info() -> Response:
        """What answers, and within which limits."""
        return answer(service.about())

    @made.get("/metrics", responses={200: {"content": {"text/plain": {}}, "description": "For Prometheus."}})
    async def metrics() -> Response:
        """Counters and times, in the format of Prometheus."""
        return Response(service.metrics.text(), media_type=KIND)

    @made.get("/", include_in_schema=False)
    async def start() -> Response:
        return shown.response()

    @made.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return documented().response()


class _Service:
    def __init__(self, model: Model, limits: ServiceLimits, maps: bool) -> None:
        self.metrics, self.maps = Metrics(_PATHS), maps
        self.batches = Batches(model, self._note)
        self._model, self._limits = model, limits
        self._waiting, self._seconds_each = 0, 0.1
        self._decoders = Decoders(model, limits)
        self._drawing = ThreadPoolExecutor(1, "atha-draw")  # matplotlib is for one thread

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Threads begin and end with the application."""
        self.batches.start()
        yield
        self.batches.stop()
        self._decoders.stop()
        self._drawing.shutdown()

    def about(self) -> dict[str, Any]:
        """See `answers.About`."""
        limits = self._limits
        told = {
            "images": limits.images,
            "image_bytes": limits.image_bytes,
            "request_bytes": limits.web.body,
            "queue": limits.queue,
            "seconds": limits.seconds,
        }
        return {**self._model.about, "limits": told, "maps": self.maps}

    async def predict(self, request: Request, votes: bool) -> Response:
        """See the path of this name."""
        self._check_room(1)
        form = await read_images(request, self._limits, self._limits.images)
        try:
            uploads = files(form)
            with self._room(len(uploads)):
                found = await self._in_time(asyncio.gather(*(self._classify(one, votes) for one in uploads)))
        finally:
            await form.close()
        for one in found:
            self.metrics.image("refused" if isinstance(one, Problem) else "classified")
        told = [self._tell(name_of(upload), one) for upload, one in zip(uploads, found, strict=True)]
        problems = [one for one in found if isinstance(one, Problem)]
        if len(problems) < len(found):
            return answer({"predictions": told})
        status = problems[0].status if len({one.status for one in problems}) == 1 else 422
        which = "the image" if len(found) == 1 else f"none of the {len(found)} images"
        can = "cannot" if len(found) == 1 else "can"
        first = f"{name_of(uploads[0]) or 'no name'}: {problems[0].sentence}"
        raise Refusal(status, f"{which} {can} be used ({first})", more={"predictions": told})

    async def explain(self, request: Request, label: str | None) -> Response:
        """See the path of this name."""
        self._check_room(1)
        form = await read_images(request, self._limits, 1)
        try:
            with self._room(1):
                drawn = await self._in_time(self._map(files(form)[0], label))
        finally:
            await form.close()
        if isinstance(drawn, Problem):
            raise Refusal(drawn.status, f"the image cannot be used ({drawn.sentence})")
        return Response(drawn, media_type="image/png")

    async def _classify(self, upload: UploadFile, votes: bool) -> Answer | Problem:
        view = await self._decoders.use(upload, self._model.view)
        if isinstance(view, Problem):
            return view
        return await asyncio.wrap_future(self.batches.classify(view, votes))

    async def _map(self, upload: UploadFile, label: str | None) -> bytes | Problem:
        def explained(path: Path) -> Any:
            self._model.view(path)  # a bad image is told before the model is waited for
            return self.batches.alone(lambda: self._model.explain(path, name_of(upload), label)).result()

        try:
            draw = await self._decoders.use(upload, explained)
        except DataError as error:
            return Problem(422, str(error))
        if isinstance(draw, Problem):
            return draw
        if draw is None:
            return Problem(422, "this model has no map of where it looks")
        return await asyncio.get_running_loop().run_in_executor(self._drawing, draw)

    async def _in_time(self, work: Any) -> Any:
        try:
            return await asyncio.wait_for(work, self._limits.seconds)
        except TimeoutError:
            sentence = f"there was no answer after {self._limits.seconds:g} s: send fewer images, or ask later"
            raise Refusal(504, sentence) from None

    @contextmanager
    def _room(self, images: int) -> Iterator[None]:
        """A place in the queue.

        Raises:
            Refusal: there is none.
        """
        self._check_room(images)
        self._waiting += images
        self.metrics.waiting(self._waiting)
        try:
            yield
        finally:
            self._waiting -= images
            self.metrics.waiting(self._waiting)

    def _check_room(self, images: int) -> None:
        if self._waiting + images > self._limits.queue:
            seconds = min(_MOST_SECONDS, ceil(self._waiting * self._seconds_each))
            raise later(
                f"{self._waiting} images wait already, at most {self._limits.queue} may: ask later", max(1, seconds)
            )

    def _note(self, images: int, seconds: float) -> None:
        self.metrics.batch(images, seconds)
        self._seconds_each += 0.2 * (seconds / images - self._seconds_each)

    def _tell(self, name: str, one: Answer | Problem) -> dict[str, Any]:
        if isinstance(one, Problem):
            return {"file": name, "error": one.sentence}
        best = int(one.probabilities.argmax())
        told: dict[str, Any] = {
            "file": name,
            "label": self._model.labels[best],
            "probability": float(one.probabilities[best]),
            "probabilities": self._named(one.probabilities),
        }
        if one.votes:
            told["votes"] = {member: self._named(row) for member, row in one.votes.items()}
        return told

    def _named(self, row: Any) -> dict[str, float]:
        return dict(zip(self._model.labels, map(float, row), strict=True))
