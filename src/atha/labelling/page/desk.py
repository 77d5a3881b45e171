"""Which tab shows which photo, and what may be pressed: the part of the page that needs no model and no server.

Photos are chosen by a learner, some ahead of the person who labels them. While it has not begun, they are drawn in the
order that the seed fixes, so that the first one is there at once.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atha.errors import DataError
from atha.labelling.drawing import How, draw
from atha.labelling.page.journal import Journal
from atha.labelling.page.marks import Event, Kind, Mark

#: Photos that are chosen ahead, and seconds after which what a silent tab shows is shown to another one.
AHEAD, PATIENCE = 12, 600.0
#: Photos that one tab may hold.
HELD = 4
_TABS = 64


@dataclass(frozen=True)
class Learned:
    """What a learner says for now.

    Attributes:
        looked: photos whose features are there.
        unreadable: photos that cannot be read.
        copies: photos that are copies of others, and are not shown.
        accuracy: the estimate; None: there is none yet.
        interval: its 95% interval.
        images: random ones that it rests on.
        curve: labels, estimate and interval, as they went.
        led: labels from which an adapted model speaks in the curve and the rest; None: the probes do.
        adapted: what is known of the adapted model, in a sentence; empty where none is asked for.
        advice: whether more labels are worth it, in a sentence.
        weakest: a class, and how many of its labelled photos are classified right while they are held out.
        problem: why nothing is learned; empty where something is.
    """

    looked: int = 0
    unreadable: int = 0
    copies: int = 0
    accuracy: float | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    images: int = 0
    curve: Sequence[tuple[int, float, float, float]] = ()
    led: int | None = None
    adapted: str = ""
    advice: str = ""
    weakest: tuple[str, int, int] | None = None
    problem: str = ""


@dataclass
class _Tab:
    seen: float = 0.0
    places: list[int] = field(default_factory=list)


class Desk:
    """All that the page asks for; any number of threads may use it.

    Args:
        files: the photos.
        journal: of the labels.
        told: called with each event, in their order, after it is on the disk.
    """

    def __init__(
        self, files: Sequence[Path], journal: Journal, told: Callable[[int | None, Event], None] = lambda *_: None
    ) -> None:
        self.files, self.journal, self.told = files, journal, told
        self.learned = Learned()
        self._base = str(journal.table.parent)
        self._lock = threading.RLock()
        self._places = {os.path.abspath(file): place for place, file in enumerate(files)}  # noqa: PTH100 - many
        self._tabs: dict[str, _Tab] = {}
        self._how: dict[int, How] = {}
        self._chosen: deque[int] = deque()
        self._back: deque[int] = deque()
        self._gone: set[int] = set()
        self._learning = False
        self._order = map(int, draw(len(files), journal.seed))

    def path_of(self, place: int) -> str:
        """A photo as the table has it, which is relative to the table's folder.

        Raises:
            DataError: there is no such photo.
        """
        if not 0 <= place < len(self.files):
            raise DataError(f"there is no photo {place}: load the page again")
        return os.path.relpath(self.files[place], self._base)

    def place_of(self, path: str) -> int | None:
        """The place of a photo of the table; None where it is not in the pile."""
        return self._places.get(os.path.normpath(os.path.join(self._base, path)))  # noqa: PTH118 - a table's text

    def hand_out(self, tab: str, count: int, keep: Iterable[int] = ()) -> list[dict[str, Any]]:
        """Photos for a tab to show.

        Args:
            tab: names it.
            count: photos that it wants to hold, with those it holds.
            keep: places that it holds.

        Returns:
            All that it holds by then; fewer than it wants where no more are left or chosen.
        """
        with self._lock:
            mine = self._tab(tab)
            wanted = set(keep)
            self._put_back(place for place in mine.places if place not in wanted)
            mine.places = [place for place in mine.places if place in wanted and not self._is_marked(place)]
            while len(mine.places) < min(count, HELD) and (place := self._take()) is not None:
                mine.places.append(place)
            return [self.describe(place) for place in mine.places]

    def leave(self, tab: str) -> None:
        """Let others have what a tab held."""
        with self._lock:
            if (gone := self._tabs.pop(tab, None)) is not None:
                self._put_back(gone.places)

    def press(self, press: str, place: int, kind: Kind, number: int | None, seen: int) -> None:
        """Say something of a photo; it is on the disk when this returns.

        Args:
            press: tells it from all others, also where it is sent again.
            place: of the photo.
            kind: see `atha.labelling.page.marks.Kind`.
            number: index of the class, where it is a label.
            seen: see `Marks.press`.

        Raises:
            ConflictError: see `Marks.press`.
            AthaError: it cannot be said, or not be saved.
        """
        with self._lock:
            marks = self.journal.marks
            if marks.knows(press):
                return
            path, label = self.path_of(place), ""
            if kind == "label":
                if number is None or not 0 <= number < len(marks.classes):
                    raise DataError(f"there is no class {number}: load the page again")
                label = marks.classes[number]
            self._write(place, marks.press(press, path, kind, label, self._how.get(place, "own"), seen))

    def undo(self, press: str, expected: int) -> dict[str, Any] | None:
        """Take back what was pressed last.

        Returns:
            The photo that it was pressed on; None where that is not in the pile any more.

        Raises:
            ConflictError: see `Marks.undo`.
            AthaError: there is nothing to take back, or it cannot be saved.
        """
        with self._lock:
            marks = self.journal.marks
            if marks.knows(press):
                return None
            event = marks.undo(press, expected)
            place = self.place_of(event.path)
            self._write(place, event)
            if place is None:
                return None
            self._how.setdefault(place, event.how)
            return self.describe(place)

    def hold(self, tab: str, place: int) -> None:
        """Let no other tab show a photo, and this one before all others; for one too many, another gives way."""
        with self._lock:
            for other in self._tabs.values():
                if place in other.places:
                    return
            mine = self._tab(tab).places
            mine.insert(0, place)
            self._put_back(mine[HELD:])
            del mine[HELD:]

    def add_class(self, press: str, label: str) -> None:
        """Make a class.

        Raises:
            AthaError: it cannot be made, or not be saved.
        """
        with self._lock:
            if not self.journal.marks.knows(press):
                self._write(None, self.journal.marks.new_class(press, label))

    def describe(self, place: int) -> dict[str, Any]:
        """A photo, as the page shows it."""
        path = self.path_of(place)
        return {"place": place, "name": path, **_told(self.journal.marks.of(path), self.journal.marks.classes)}

    def earlier(self, before: int, count: int) -> list[dict[str, Any]]:
        """What was said of photos, the latest first.

        Args:
            before: number of an event that comes after those that are wanted; 0: the latest.
            count: how many.
        """
        with self._lock:
            marks = self.journal.marks
            wanted = sorted(
                (mark for mark in marks if not before or mark.number < before), key=lambda mark: -mark.number
            )
            return [
                {"place": self.place_of(mark.path), "name": mark.path, **_told(mark, marks.classes)}
                for mark in wanted[:count]
            ]

    def status(self) -> dict[str, Any]:
        """How far it is."""
        with self._lock:
            marks, learned = self.journal.marks, self.learned
            kinds = {"label": 0, "none": 0, "skip": 0}
            counts = dict.fromkeys(marks.classes, 0)
            for mark in marks:
                kinds[mark.kind] += 1
                if mark.kind == "label":
                    counts[mark.label] += 1
            return {
                "classes": [{"label": label, "count": count} for label, count in counts.items()],
                "labelled": kinds["label"],
                "none": kinds["none"],
                "skipped": kinds["skip"],
                "photos": len(self.files),
                "looked": learned.looked,
                "unreadable": learned.unreadable,
                "copies": learned.copies,
                "last": marks.undoable,
                "table": self.journal.table.name,
                "estimate": None
                if learned.accuracy is None
                else {"accuracy": learned.accuracy, "interval": learned.interval, "images": learned.images},
                "curve": learned.curve,
                "led": learned.led,
                "adapted": learned.adapted,
                "advice": learned.advice,
                "weakest": learned.weakest,
                "problem": self.journal.trouble or learned.problem,
            }

    def wanted(self) -> tuple[int, list[int]]:
        """For the learner: photos that are to be chosen, and places that are chosen or shown already."""
        with self._lock:
            held = [place for tab in self._tabs.values() for place in tab.places]
            return max(0, AHEAD - len(self._chosen)), [*held, *self._chosen, *self._back]

    def choose(self, places: Iterable[tuple[int, How]]) -> None:
        """For the learner: photos to show, and how they were chosen."""
        with self._lock:
            self._learning = True
            for place, how in places:
                if not self._is_marked(place):
                    self._how[place] = how
                    self._chosen.append(place)

    def pass_over(self, place: int) -> None:
        """For the learner: never show a photo, which cannot be read or is a copy."""
        with self._lock:
            self._gone.add(place)

    def _write(self, place: int | None, event: Event) -> None:
        self.journal.write(event)
        if place is not None:
            for tab in self._tabs.values():
                if place in tab.places:
                    tab.places.remove(place)
        self.told(place, event)

    def _take(self) -> int | None:
        """A photo that nobody is shown; None where there is none for now."""
        held = {place for tab in self._tabs.values() for place in tab.places}
        for queue in (self._back, self._chosen):
            while queue:
                place = queue.popleft()
                if place not in held and place not in self._gone and not self._is_marked(place):
                    return place
        if self._learning and not self.learned.problem:
            return None
        for place in self._order:
            if place not in held and place not in self._gone and not self._is_marked(place):
                self._how[place] = "random"
                return place
        return None

    def _put_back(self, places: Iterable[int]) -> None:
        self._back.extend(place for place in places if not self._is_marked(place))

    def _is_marked(self, place: int) -> bool:
        return self.journal.marks.of(self.path_of(place)) is not None

    def _tab(self, name: str) -> _Tab:
        now = time.monotonic()
        silent = [one for one, tab in self._tabs.items() if one != name and now - tab.seen > PATIENCE]
        many = sorted(self._tabs, key=lambda one: self._tabs[one].seen)[: max(0, len(self._tabs) - _TABS)]
        for one in {*silent, *many} - {name}:
            self.leave(one)
        tab = self._tabs.setdefault(name, _Tab())
        tab.seen = now
        return tab


def _told(mark: Mark | None, classes: Sequence[str]) -> dict[str, Any]:
    if mark is None:
        return {"kind": "", "class": None, "seen": 0}
    return {
        "kind": mark.kind,
        "class": classes.index(mark.label) if mark.kind == "label" else None,
        "seen": mark.number,
    }
