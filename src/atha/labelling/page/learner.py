"""Features, choices and estimates, in threads of their own: whoever labels never waits for them.

One thread owns the session and does all that changes or asks it; another one makes features, in the order in which
photos are drawn, and hands them over some at a time.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from atha.errors import AthaError, reason
from atha.labelling.page.adapting import Adapting
from atha.labelling.page.desk import AHEAD, Desk, Learned
from atha.labelling.page.marks import Event

if TYPE_CHECKING:
    from atha.classifier import Classifier
    from atha.labelling.photos import Photo, PhotoFeatures
    from atha.labelling.session import Session

T = TypeVar("T")

# Photos that must have features before any is chosen by them, batches of photos that wait, and seconds of a wait.
_ENOUGH, _WAITING, _PAUSE = 256, 4, 0.1
# An estimate is made again after so many times the time that the last one took.
_REST = 1.0
# Points of the curve that are made up, and most that are drawn.
_RECALLED = 12
_CURVE = 200


class Learner:
    """Learns from what is pressed.

    Args:
        desk: whose photos are looked at, and which is told what to show.
        open_classifier: makes the classifier whose backbone sees the photos; an `AthaError` of it ends the learner.
        texts: what the model reads for a label; others are read as they are.
        share: of the photos that are chosen, those that are drawn at random.
        failed: called with why nothing can be learned.
        adapting: makes fits of a full recipe beside it; None: there are none.
    """

    def __init__(
        self,
        desk: Desk,
        open_classifier: "Callable[[], Classifier]",
        texts: Mapping[str, str],
        share: float,
        failed: Callable[[AthaError], None] = lambda error: None,
        adapting: Adapting | None = None,
    ) -> None:
        self._adapting = adapting
        self._desk, self._open, self._texts, self._share, self._failed = desk, open_classifier, texts, share, failed
        self._events: queue.SimpleQueue[tuple[int | None, Event]] = queue.SimpleQueue()
        self._photos: queue.Queue[list[Photo]] = queue.Queue(_WAITING)
        self._ended, self._seen_all = threading.Event(), threading.Event()
        self._early: list[tuple[int | None, Event]] = []  # taken while there was nothing to do
        # What comes after this is told.
        self._marks, self._classes = list(desk.journal.marks), list(desk.journal.marks.classes)
        self._first: dict[str, int] = {}
        self._unreadable = self._copies = 0
        self._curve: dict[int, tuple[int, float, float, float]] = {}
        self._recalled: set[int] = set()
        # Points of an adapted model, and labels from which it speaks.
        self._adapted: dict[int, tuple[int, float, float, float]] = {}
        self._led: int | None = None
        self._told = self._next_estimate = 0.0
        self._changed = True
        self._threads = [threading.Thread(target=self._run, name="atha-learn", daemon=True)]

    def start(self) -> None:
        """Begin; returns at once."""
        self._threads[0].start()

    def stop(self) -> None:
        """End, after what is being done."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def is_alive(self) -> bool:
        """Whether it still learns."""
        return any(thread.is_alive() for thread in self._threads)

    def tell(self, place: int | None, event: Event) -> None:
        """What was pressed.

        Args:
            place: of its photo; None where it has none in the pile.
            event: see `Event`.
        """
        self._events.put((place, event))

    def _run(self) -> None:
        try:
            self._work()
        except AthaError as error:
            self._say(str(error))
            self._failed(error)
        except Exception as error:  # labelling goes on without it
            self._say(f"a fault of ours ({reason(error)}); labels are saved, and photos are drawn at random")

    def _say(self, why: str) -> None:
        self._desk.learned = Learned(problem=f"Nothing is learned: {why}.")

    def _work(self) -> None:
        import sklearn.cluster  # noqa: F401 - its threads are limited below
        from threadpoolctl import threadpool_limits

        from atha.data.cache import Cache
        from atha.files import cache_folder
        from atha.labelling.suggesting import CACHE

        session = self._begin()
        cache = Cache(cache_folder() / CACHE)
        try:
            reader = self._classifier._now.photo_features(self._desk.files, cache)
            self._threads.append(
                threading.Thread(target=self._look, args=(reader, session), name="atha-look", daemon=True)
            )
            self._threads[1].start()
            # Products are small, and whoever looks at photos has the cores.
            with threadpool_limits(1):
                while not self._ended.is_set():
                    self._step(session)
        finally:
            self._ended.set()
            if self._adapting is not None:
                self._adapting.end()
            if len(self._threads) > 1:
                self._threads[1].join()
            cache.close()

    def _begin(self) -> "Session":
        from atha.labelling.model import Texts
        from atha.labelling.session import Session
        from atha.methods.base import unit

        self._classifier = self._open()
        backbone = self._classifier.backbone
        texts = np.zeros((0, backbone.joint_width))
        if self._classes:
            texts = np.stack([self._text(label) for label in self._classes])
        desk = self._desk
        session = Session(
            list(self._classes),
            Texts(unit(texts.astype(np.float64)), backbone.logit_scale),
            len(desk.files),
            desk.journal.seed,
            self._share,
        )
        for mark in self._marks:
            if (place := desk.place_of(mark.path)) is None:
                continue
            if mark.kind == "label":
                session.label(place, self._classes.index(mark.label), mark.how)
            else:
                session.leave_out(place)
        return session

    def _text(self, label: str) -> np.ndarray:
        now = self._classifier._now
        found = now.frozen.text_features([self._texts.get(label, label)], now.recipe.prompt.template)
        return np.asarray(found[0])

    def _look(self, reader: "PhotoFeatures", session: "Session") -> None:
        """Features of all photos: of those that are labelled first, then as they are drawn."""
        labelled = list(session.labelled)
        known = set(labelled)
        order = [*labelled, *(place for place in session.order.tolist() if place not in known)]
        try:
            for photos in reader.stream(self._desk.files, order):
                while not self._ended.is_set():
                    with suppress(queue.Full):
                        self._photos.put(photos, timeout=_PAUSE)
                        break
                if self._ended.is_set():
                    return
        except Exception as error:
            self._trouble = f"photos are not looked at any more ({reason(error)}): start again"
        self._seen_all.set()

    _trouble = ""

    def _step(self, session: "Session") -> None:
        """What there is to do."""
        done, looked = [*self._early, *_all_of(self._events)], list(_all_of(self._photos, _WAITING))
        self._early = []
        for place, event in done:
            self._apply(session, place, event)
        for photos in looked:
            self._add(session, photos)
        self._changed |= bool(done)
        if self._adapting is not None and not self._is_behind(session):
            self._changed |= self._adapting.step(session)
        chosen = self._choose(session)
        now = time.monotonic()
        if self._changed and now >= self._next_estimate and session.labelled and not self._is_behind(session):
            self._estimate(session)
            self._next_estimate = time.monotonic() + _REST * (time.monotonic() - now)
        elif looked:
            self._publish(session)
        if not (done or looked or chosen or self._recall(session)):
            with suppress(queue.Empty):
                self._early = [self._events.get(timeout=_PAUSE)]

    def _is_behind(self, session: "Session") -> bool:
        """Whether labelled photos have no features yet that will have some."""
        return not self._seen_all.is_set() and not session.ready[list(session.labelled)].all()

    def _apply(self, session: "Session", place: int | None, event: Event) -> None:
        if not event.path:
            session.add_class(event.label, self._text(event.label))
        elif place is not None:
            if event.kind == "label":
                session.label(place, session.classes.index(event.label), event.how)
            elif event.kind:
                session.leave_out(place)
            else:
                session.unlabel(place)

    def _add(self, session: "Session", photos: "list[Photo]") -> None:
        labelled = session.labelled
        for photo in photos:
            # Labelled ones come first, so that what is left out is none of them, or was labelled just now.
            copy = photo.features is not None and self._first.setdefault(photo.digest, photo.place) != photo.place
            self._copies += copy
            self._unreadable += photo.features is None
            if photo.features is not None:
                session.add_features([photo.place], photo.features[None])
            if (copy or photo.features is None) and photo.place not in labelled:
                session.leave_out(photo.place)
                self._desk.pass_over(photo.place)

    def _choose(self, session: "Session") -> bool:
        if session.ready.sum() < _ENOUGH and not self._is_all_seen():
            return False
        count, taken = self._desk.wanted()
        if count <= AHEAD // 2:
            return False
        picks = session.next(count, taken)
        self._desk.choose((pick.place, pick.how) for pick in picks)
        return bool(picks)

    def _is_all_seen(self) -> bool:
        return self._seen_all.is_set() and self._photos.empty()

    def _estimate(self, session: "Session") -> None:
        from atha.labelling.estimate import BACK

        self._changed = False
        before = len(session.labelled) - BACK
        if not any(look.labels <= before for look in session.looks):
            session.recall(before)
        session.estimate()
        self._note(session)
        self._publish(session)

    def _note(self, session: "Session") -> None:
        """Keep of estimates what the page draws, and the predictions of the whole pile where they are compared."""
        from atha.labelling.estimate import BACK

        count = len(session.labelled)
        self._curve = {labels: point for labels, point in self._curve.items() if labels < count}
        self._adapted = {labels: point for labels, point in self._adapted.items() if labels < count}
        for look in session.looks:
            if look.estimate.is_known:
                self._curve[look.labels] = look.labels, look.estimate.accuracy, *look.estimate.interval
        if session.is_led:
            found = session.shown[-1].estimate
            self._adapted[count] = count, found.accuracy, *found.interval
            self._led = count if self._led is None else min(count, self._led)
        else:
            self._adapted, self._led = {}, None
        session.looks = [look for look in session.looks if look.labels > count - 2 * BACK]

    def _recall(self, session: "Session") -> bool:
        """Make up a point of the curve that an earlier process had, while there is nothing else to do."""
        count = len(session.labelled)
        step = max(5, count // _RECALLED)
        known = self._recalled.union(self._curve)
        missing = [one for one in range(step, count, step) if not any(abs(one - other) < step for other in known)]
        if not missing or not session.looks or not self._is_all_seen():
            return False
        self._recalled.add(missing[-1])
        session.recall(missing[-1])
        self._note(session)
        self._publish(session)
        return True

    def _publish(self, session: "Session") -> None:
        found = session.shown[-1].estimate if session.shown else None
        curve = {labels: point for labels, point in self._curve.items() if self._led is None or labels < self._led}
        curve |= {labels: point for labels, point in self._adapted.items() if np.isfinite(point[1])}
        weakest = None
        if found is not None and found.weakest is not None:
            share = found.classes[found.weakest]
            weakest = (session.classes[found.weakest], share.successes, share.total)
        self._desk.learned = Learned(
            looked=int(session.ready.sum()) + self._unreadable,
            unreadable=self._unreadable,
            copies=self._copies,
            accuracy=found.accuracy if found is not None and found.is_known else None,
            interval=found.interval if found is not None else (0.0, 1.0),
            images=found.images if found is not None else 0,
            curve=_thinned([curve[labels] for labels in sorted(curve)]),
            led=self._led,
            adapted=self._adapting.say(session) if self._adapting is not None else "",
            advice=session.advice() if found is not None else "",
            weakest=weakest,
            problem=self._trouble,
        )


def _all_of(source: "queue.SimpleQueue[T] | queue.Queue[T]", most: int = 1000) -> Iterator[T]:
    for _ in range(most):
        try:
            yield source.get_nowait()
        except queue.Empty:
            return


def _thinned(points: list[T]) -> list[T]:
    step = -(-len(points) // _CURVE) or 1
    return points[::-1][::step][::-1]
