"""Fits of the full recipe beside the labelling: when a round of them begins, and what comes of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from atha.data.processes import Asking, BrokenOffError
from atha.defaults import MAX_PIXELS
from atha.labelling.contest import FEWEST, NEW, Adapted
from atha.labelling.fitting import Round
from atha.labelling.page.desk import Desk

if TYPE_CHECKING:
    from atha.labelling.session import Session

#: Open images that fits are asked about: those that are drawn at random next, and a random part of the pool.
ASKED = 1000
# Labels of which another round has more than the last one by this share at least: rounds take longer with more.
_MORE = 0.25
_MODULE = "atha.labelling.fitting"


class Adapting:
    """Rounds of fits, one after the other; for the thread that owns the session.

    Args:
        desk: whose photos are fitted to.
        model: of `atha.backbones.load_backbone`.
        recipe: of the fits.
        texts: what the model reads for a label; others are read as they are.
        device: to fit on.
        threads: see `Round`.
        max_pixels: larger photos are refused.
        told: called with a sentence when there is something to say.
        module: whose ``main`` is the process that fits.
    """

    def __init__(
        self,
        desk: Desk,
        model: str,
        recipe: str,
        texts: Mapping[str, str],
        device: str = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
        told: Callable[[str], None] = lambda sentence: None,
        module: str = _MODULE,
    ) -> None:
        self._desk, self._model, self._recipe, self._texts = desk, model, recipe, texts
        self._device, self._threads, self._max_pixels = device, threads, max_pixels
        self._told, self._module = told, module
        self._asking: Asking | None = None
        self._round: tuple[int, list[int]] = 0, []  # labels of the round that is being made, and places it answers on
        self._problem = self._last = self._news = ""

    def step(self, session: "Session") -> bool:
        """Begin a round where it is time, or take what one gave.

        Returns:
            Whether there is a new adapted model in the session.
        """
        if self._asking is None:
            self._begin(session)
            return False
        try:
            found = self._asking.answer()
        except BrokenOffError:
            found = {"problem": "its process was ended: is there enough memory?"}, b""
        if found is None:
            return False
        self._asking.end()
        self._asking = None
        said, content = found
        labels, places = self._round
        self._problem = said.get("problem", "")
        if self._problem:
            self._told(f"No model was adapted to {labels} labels: {self._problem}")
            return False
        rows = np.frombuffer(content, "<f4").reshape(len(places), -1)
        good = np.isfinite(rows).all(1)
        session.adapted = Adapted(self._recipe, labels, np.array(places, dtype=int)[good], rows[good])
        return True

    def say(self, session: "Session") -> str:
        """What is known, for the page; told where it has changed who speaks, or a new fit was compared."""
        verdict = session.verdict
        if verdict is not None and str(verdict) != self._last:
            news = f"{verdict.leads} {verdict.labels}"
            if news != self._news:
                self._told(str(verdict))
            self._news, self._last = news, str(verdict)
        parts = [self._last] if self._last else []
        if self._asking is not None:
            parts.append(f"A model is being adapted to {self._round[0]} labels ({self._recipe}).")
        elif self._problem:
            parts.append(f"No model was adapted to {self._round[0]} labels: {self._problem}")
        elif not parts:
            parts.append(
                f"A model is adapted ({self._recipe}) from {NEW} labels on, {FEWEST} of them of photos drawn at random."
            )
        return " ".join(parts)

    def end(self) -> None:
        """End the round that is being made; nothing is lost but its work."""
        if self._asking is not None:
            self._asking.end()
            self._asking = None

    def _begin(self, session: "Session") -> None:
        before = self._round[0]
        if len(session.known) < max(NEW + before, (1 + _MORE) * before):
            return
        questions = session.questions(ASKED)
        if not questions.are_enough:
            return
        self._round = len(questions.places), questions.answered
        self._problem = ""
        given = Round(
            model=self._model,
            recipe=self._recipe,
            device=self._device,
            threads=self._threads,
            max_pixels=self._max_pixels,
            seed=session.seed,
            classes=list(session.classes),
            texts=dict(self._texts),
            files=self._paths(questions.places),
            labels=questions.labels,
            held=questions.held,
            asked=self._paths(questions.asked),
        )
        self._asking = Asking(self._module, given.to_dict())

    def _paths(self, places: Sequence[int]) -> list[str]:
        return [str(self._desk.files[place].absolute()) for place in places]
