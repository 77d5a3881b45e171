"""The one thread that owns the model: images that wait together go through it together, whoever sent them.

Nobody waits for others to come. While a batch is in the model the next one gathers, so that there are batches when
there is much to do, and none when there is not. No answer depends on what is beside it: see `atha.models.inference`.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from atha.serving.models import Model

#: Told of each batch: its images and seconds.
Told = Callable[[int, float], None]


class Answer(NamedTuple):
    """Probabilities of N classes, and each member's where they were asked for."""

    probabilities: Float[np.ndarray, "N"]
    votes: dict[str, Float[np.ndarray, "N"]]


@dataclass(frozen=True)
class _Asked:
    """An image to classify, or other work for the model alone."""

    view: Any = None
    votes: bool = False
    work: Callable[[], Any] | None = None
    result: "Future[Any]" = field(default_factory=Future)


class Batches:
    """A queue before the model. Who waits no longer for an answer cancels it, and it costs nothing more.

    Args:
        model: asked in a thread of its own.
        told: of each batch.
    """

    def __init__(self, model: Model, told: Told) -> None:
        self._model, self._told = model, told
        self._queue: SimpleQueue[_Asked | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="atha-model", daemon=True)
        self._over = False

    @property
    def alive(self) -> bool:
        """Whether answers are to be had."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what was asked, and end."""
        self._queue.put(None)
        self._thread.join()

    def classify(self, view: Any, votes: bool) -> "Future[Answer]":
        """Ask for one image.

        Args:
            view: what the model made of it.
            votes: whether each member's are wanted.
        """
        return self._put(_Asked(view, votes))

    def alone(self, work: Callable[[], Any]) -> "Future[Any]":
        """Ask for other work, with the model to itself."""
        return self._put(_Asked(work=work))

    def _put(self, asked: _Asked) -> "Future[Any]":
        self._queue.put(asked)
        if self._over:
            self._let_go()
        return asked.result

    def _run(self) -> None:
        more = True
        while more:
            together: list[_Asked | None] = [self._queue.get()]
            while len(together) < self._model.batch:
                try:
                    together.append(self._queue.get_nowait())
                except Empty:
                    break
            more = None not in together
            wanted = [one for one in together if one is not None and one.result.set_running_or_notify_cancel()]
            for one in wanted:
                if one.work is not None:
                    _settle([one], lambda one=one: [one.work()])  # type: ignore[misc]
            if images := [one for one in wanted if one.work is None]:
                started = perf_counter()
                _settle(images, lambda images=images: self._answers(images))  # type: ignore[misc]
                self._told(len(images), perf_counter() - started)
        self._over = True
        self._let_go()

    def _let_go(self) -> None:
        """Of what came after the end."""
        with suppress(Empty):
            while True:
                if (one := self._queue.get_nowait()) is not None:
                    one.result.cancel()

    def _answers(self, images: Sequence[_Asked]) -> list[Answer]:
        rows = self._model.probabilities([one.view for one in images])
        asking = [place for place, one in enumerate(images) if one.votes]
        votes = self._model.votes([images[place].view for place in asking]) if asking else {}
        of_place = {place: {name: found[row] for name, found in votes.items()} for row, place in enumerate(asking)}
        return [Answer(row, of_place.get(place, {})) for place, row in enumerate(rows)]


def _settle(asked: Sequence[_Asked], work: Callable[[], Sequence[Any]]) -> None:
    """Give each its result, or all of them what went wrong."""
    try:
        made = work()
    except BaseException as error:  # told to whoever asked; the thread goes on
        for one in asked:
            one.result.set_exception(error)
        return
    for one, result in zip(asked, made, strict=True):
        one.result.set_result(result)
