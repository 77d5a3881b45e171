"""A labelling session: features of a pool, labels as they come in, what to label next, and how good it is by now.

It knows nothing of files, pages or terminals. Which images it offers at random is fixed by the seed alone; these are
marked, kept apart, and all that the estimate is made of: images that were chosen for a model are harder than others,
and a test of them would say too little.

Shapes: n images of the pool, N classes, E width of features.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from atha.errors import DataError
from atha.labelling import choosing
from atha.labelling.contest import Adapted, Questions, Verdict, decide, halves
from atha.labelling.drawing import How, draw
from atha.labelling.estimate import Estimate, Look, advise, by_class, estimate, hold_out
from atha.labelling.model import LinearModel, Texts, fit_model
from atha.methods.base import unit

SHARE = 0.25
"""Of the images that are offered, those that are drawn at random."""

#: Labels of a class, in the mean, until which typical images are chosen, and until which a class without one is sought;
#: and of the images that are chosen, those that are sought by its text.
_COLD, _SOUGHT, _NAMED = 2, 10, 0.3


@dataclass(frozen=True)
class Pick:
    """An image to label.

    Attributes:
        place: in the pool.
        how: it was chosen.
        guess: index of the class that the model takes it for; None without a model.
        probability: of that class.
    """

    place: int
    how: How
    guess: int | None = None
    probability: float = float("nan")


@dataclass
class Session:
    """What is known of a pool while it is labelled. It is for one thread at a time.

    Attributes:
        classes: labels; more may come.
        texts: of the classes.
        size: n.
        seed: of all that is random.
        share: of the images that are offered, those that are drawn at random, from 0 to 1.
        looks: estimates of the probes.
        adapted: what a fit of a full recipe says, where there is one.
        verdict: whether it speaks for the probes, as of the last estimate.
        adapted_looks: estimates of adapted models, the last one of each fit, by the labels that it had.
    """

    classes: list[str]
    texts: Texts
    size: int
    seed: int = 0
    share: float = SHARE
    looks: list[Look] = field(default_factory=list)
    adapted: Adapted | None = None
    verdict: Verdict | None = None
    adapted_looks: list[Look] = field(default_factory=list)
    _labels: dict[int, tuple[int, How]] = field(default_factory=dict)
    _left_out: set[int] = field(default_factory=set)
    _others: list[tuple[np.ndarray, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise DataError(f"the random share is {self.share}, give a number from 0 to 1")
        self.features = np.zeros((self.size, self.texts.features.shape[1]), dtype=np.float32)
        self.ready = np.zeros(self.size, dtype=bool)
        #: The order in which images are drawn at random. Features are best made in it: those that are there first are
        #: then a random part of the pool, whatever its folders are sorted by.
        self.order: Int[np.ndarray, n] = draw(self.size, self.seed)
        self._model: LinearModel | None = None

    def add_features(self, places: Sequence[int], features: Float[np.ndarray, "k E"]) -> None:
        """Features of some images of the pool, of any length.

        Args:
            places: of the images.
            features: not normalised.
        """
        self.features[list(places)] = unit(np.asarray(features, dtype=np.float32))
        self.ready[list(places)] = True

    def add_labelled(self, features: Float[np.ndarray, "k E"], labels: Sequence[int]) -> None:
        """Labelled images that are not of the pool: something to learn from, and nothing to estimate from.

        Args:
            features: of the images, of any length.
            labels: class index of each.
        """
        self._others += zip(unit(np.asarray(features, dtype=np.float32)), map(int, labels), strict=True)
        self._model = None

    def add_class(self, label: str, text: Float[np.ndarray, "E"]) -> int:
        """A class that turned up on the way.

        Args:
            label: of the class.
            text: feature of its text, of any length.

        Returns:
            Its index.

        Raises:
            DataError: there is such a class.
        """
        if label in self.classes:
            raise DataError(f"there is a class '{label}' already, give the new one another name")
        self.classes.append(label)
        self.texts = Texts(
            np.vstack([self.texts.features, unit(np.asarray(text[None], dtype=np.float32))]), self.texts.scale
        )
        self._model = None
        return len(self.classes) - 1

    def label(self, place: int, label: int, how: How = "own") -> None:
        """Label an image, or correct its label.

        Args:
            place: of the image.
            label: class index.
            how: it came to be labelled, see `Pick`; of a label that is corrected, the first stays.

        Raises:
            DataError: there is no such image or class.
        """
        if not (0 <= place < self.size and 0 <= label < len(self.classes)):
            raise DataError(f"image {place} or class {label} is not there, give one of the session's")
        self._left_out.discard(place)
        self._labels[place] = label, self._labels[place][1] if place in self._labels else how
        self._model = None

    def unlabel(self, place: int) -> None:
        """Take a label back, or what was left out; the image may be offered again.

        Args:
            place: of the image, in the pool.
        """
        self._labels.pop(place, None)
        self._left_out.discard(place)
        self._model = None

    def leave_out(self, place: int) -> None:
        """Never offer an image again: it is none of the classes, cannot be told or cannot be read.

        Args:
            place: of the image, in the pool.
        """
        self.unlabel(place)
        self._left_out.add(place)

    @property
    def unlabelled(self) -> Bool[np.ndarray, "n"]:
        """Images that are neither labelled nor left out."""
        found = np.ones(self.size, dtype=bool)
        found[[*self._labels, *self._left_out]] = False
        return found

    @property
    def labelled(self) -> dict[int, tuple[int, How]]:
        """Class index and how it came to be labelled, by place, in the order of labelling."""
        return dict(self._labels)

    @property
    def known(self) -> list[tuple[int, int, How]]:
        """Place, class index and how it came to be labelled, of those whose features are there, in the same order."""
        return [(place, *found) for place, found in self._labels.items() if self.ready[place]]

    def questions(self, most: int) -> Questions:
        """What a round of fits is to learn from, and what it is asked about.

        Args:
            most: open images that are asked about.
        """
        known = self.known
        places, labels = [place for place, _, _ in known], [label for _, label, _ in known]
        random = [turn for turn, (_, _, how) in enumerate(known) if how == "random"]
        held = [[random[turn] for turn in part] for part in halves([labels[turn] for turn in random])]
        open_ = self.ready & self.unlabelled
        return Questions(places, labels, held, self.order[open_[self.order]][:most].tolist())

    @property
    def counts(self) -> list[int]:
        """Labels of each class, those that are not of the pool included."""
        found = [label for label, _ in self._labels.values()] + [label for _, label in self._others]
        return [int(one) for one in np.bincount(found, minlength=len(self.classes))]

    @property
    def model(self) -> LinearModel | None:
        """Fitted to all labels whose images' features are there; None while these are of fewer than two classes."""
        if self._model is None:
            features, labels, _ = self._learned()
            if len(np.unique(labels)) > 1:
                self._model = fit_model(features, labels, self.texts, self.seed)
        return self._model

    def next(self, count: int, offered: Iterable[int] = ()) -> list[Pick]:
        """Images to label next.

        Args:
            count: how many; there are fewer where fewer are left.
            offered: places that somebody has been offered already and has not labelled yet.

        Returns:
            The images, those drawn at random among the others.
        """
        open_ = self.ready & self.unlabelled
        waiting = list(offered)
        open_[waiting] = False
        ours = sum(how != "own" for _, how in self._labels.values()) + len(waiting)
        turns = [int((ours + turn + 1) * self.share) > int((ours + turn) * self.share) for turn in range(count)]
        chosen = self._choose(open_, count - sum(turns), waiting)
        open_[[place for place, _ in chosen]] = False
        drawn = [int(place) for place in self.order[open_[self.order]][: sum(turns)]]
        queue: dict[bool, list[tuple[int, How]]] = {
            True: [(place, "random") for place in reversed(drawn)],
            False: chosen[::-1],
        }
        order = [queue[turn].pop() for turn in turns if queue[turn]]
        places = [place for place, _ in order]
        probabilities = None if self.model is None else self.model.probabilities(self.features[places])
        if probabilities is None:
            return [Pick(place, how) for place, how in order]
        return [
            Pick(place, how, int(row.argmax()), float(row.max()))
            for (place, how), row in zip(order, probabilities, strict=True)
        ]

    @property
    def is_led(self) -> bool:
        """Whether an adapted model speaks for the probes."""
        return self.verdict is not None and self.verdict.leads

    @property
    def shown(self) -> list[Look]:
        """Estimates of what speaks."""
        return self.adapted_looks if self.is_led else self.looks

    def estimate(self) -> Estimate:
        """How good what speaks is on the rest of the pool, and what its progress says; noted in `looks`.

        Where there is an adapted model, it is decided anew whether it speaks.
        """
        features, labels, random = self._learned()
        predicted = None if self.model is None else self.model.probabilities(self.features[self.ready])
        rest = self.unlabelled
        sure = np.empty(0) if predicted is None else predicted[rest[self.ready]].max(1)
        right, certain = hold_out(features, labels, random, self.texts, self.seed)
        classes = by_class(labels, right, len(self.classes))
        found = estimate(right[random], certain[random], sure, int(rest.sum()), classes)
        # A label that was taken back makes looks of more labels worthless.
        self.looks = [look for look in self.looks if look.labels < len(labels)]
        self.looks.append(Look(len(labels), found, None if predicted is None else predicted.argmax(1).astype(np.int16)))
        if self.adapted is not None:
            self._compare(self.adapted, right, rest)
        return self.shown[-1].estimate

    def recall(self, labels: int) -> None:
        """Make up the look that there would have been after the first labels, where none was made."""
        if 0 < labels < len(self._labels) and not any(look.labels == labels for look in self.looks):
            before = copy(self)
            before.looks, before._model, before.adapted, before.verdict = [], None, None, None
            before._labels = dict(list(self._labels.items())[:labels])
            before.estimate()
            self.looks = sorted([*self.looks, *before.looks], key=lambda look: look.labels)

    def advice(self) -> str:
        """A sentence on whether more labels are worth it, by the estimates so far."""
        return advise(self.shown, self.classes)

    def _compare(self, adapted: Adapted, right: Bool[np.ndarray, "k"], rest: Bool[np.ndarray, "n"]) -> None:
        """Decide whether an adapted model speaks, and note its estimate.

        Args:
            adapted: what it says.
            right: what the probes classified right while it was held out, of all that they learned from.
            rest: images of the pool that are open.
        """
        mine = self.known
        asked = [turn for turn, (place, _, _) in enumerate(mine) if place in adapted.rows]
        rows = adapted.probabilities[[adapted.rows[mine[turn][0]] for turn in asked]]
        labels = np.array([mine[turn][1] for turn in asked], dtype=int)
        random = np.array([mine[turn][2] == "random" for turn in asked], dtype=bool)
        good = rows.argmax(1) == labels
        self.verdict = decide(adapted, good[random], right[asked][random], self.is_led)
        open_ = rest[adapted.places]
        predicted = np.full(self.size, -1, dtype=np.int16)
        predicted[adapted.places] = adapted.probabilities.argmax(1)
        found = estimate(
            good[random],
            rows.max(1)[random],
            adapted.probabilities[open_].max(1),
            int(rest.sum()),
            by_class(labels, good, len(self.classes)),
        )
        self.adapted_looks = [look for look in self.adapted_looks if look.labels < adapted.labels]
        self.adapted_looks.append(Look(adapted.labels, found, predicted))

    def _choose(self, free: Bool[np.ndarray, "n"], count: int, waiting: Sequence[int]) -> list[tuple[int, How]]:
        """Images by what is known of them; the same for the same labels."""
        if count < 1 or not free.any():
            return []
        back = np.flatnonzero(self.ready)
        features = self.features[back]
        rows = choosing.directions(features)
        taken = np.zeros(self.size, dtype=bool)
        taken[[*self._labels, *waiting]] = True
        known, open_ = taken[back], free[back]
        seed = int(np.random.default_rng([self.seed, 1, len(self._labels) + len(waiting)]).integers(1 << 31))
        model, labels, classes = self.model, sum(self.counts), len(self.classes)
        missing = [place for place in range(classes) if not self.counts[place]] if labels < _SOUGHT * classes else []
        if model is not None and labels >= _COLD * classes and not missing:
            doubt, asked = self._doubt(model, back, open_, count)
            return [(int(back[place]), "unsure") for place in choosing.unsure(rows, doubt, asked, count, seed)]
        found: list[tuple[int, How]] = []

        def take(places: Sequence[int], how: How) -> None:
            found.extend((int(back[place]), how) for place in places)
            known[places], open_[places] = True, False

        if missing:
            before = round((len(self._labels) + len(waiting)) * (1 - self.share))
            turns = range(int(before * _NAMED), int((before + count) * _NAMED))
            wanted = [missing[turn % len(missing)] for turn in turns]
            if wanted:
                cosines = features @ self.texts.features.T.astype(np.float32)
                take(choosing.named(cosines, wanted, open_), "named")
        far = (count - len(found)) // 2 if labels >= _COLD * classes > 0 else 0
        take(choosing.typical(rows, known, open_, count - len(found) - far, seed), "typical")
        take(choosing.different(rows, known, open_, far, seed), "different")
        return found

    def _doubt(
        self, model: LinearModel, back: Int[np.ndarray, "k"], open_: Bool[np.ndarray, "k"], count: int
    ) -> tuple[Float[np.ndarray, "k"], Bool[np.ndarray, "k"]]:
        """Doubt of what speaks, and the open images that it was asked about; the probes' where these are too few."""
        if self.is_led and self.adapted is not None:
            said = np.zeros(self.size)
            said[self.adapted.places] = choosing.margin_doubt(self.adapted.probabilities)
            asked = open_ & np.isin(back, self.adapted.places)
            if asked.sum() >= choosing.DOUBTED * count:
                return said[back], asked
        return choosing.margin_doubt(model.probabilities(self.features[back])), open_

    def _learned(self) -> tuple[Float[np.ndarray, "k E"], Int[np.ndarray, "k"], Bool[np.ndarray, "k"]]:
        """Features at unit length, class indices, and whether drawn at random, of all that can be learned from."""
        mine = self.known
        own = self.features[[place for place, _, _ in mine]]
        others = np.array([row for row, _ in self._others], dtype=np.float32).reshape(-1, own.shape[1])
        labels = [label for _, label, _ in mine] + [label for _, label in self._others]
        random = [how == "random" for _, _, how in mine] + [False] * len(self._others)
        return np.concatenate([own, others]), np.array(labels, dtype=int), np.array(random, dtype=bool)
