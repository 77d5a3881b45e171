"""Whether a fit of a full recipe, made while somebody labels, is better than the probes, and so speaks for them.

Both are asked about the same labelled images, those that were drawn at random: the adapted model about those that its
fit did not learn from, the probes while they are held out. Probes are fitted to all other labels but those of a fold,
so that they know more than a fit that is some labels old: what is compared is what would be used.

The adapted model takes over when it is right on more of them, and so many more that two equal models would differ so in
less than `CHANCE` of the cases (exact sign test on the images where one alone is right). It stays until it is right on
fewer.

Shapes: m images of a pool, N classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int

#: Probability of so large a lead between equal models, below which the adapted one takes over.
CHANCE = 0.1
#: Fits of one round: each random image is held out of one of them.
ROUND = 2
#: Random images, and labels since the last round, without which there is no other one.
FEWEST, NEW = 8, 20


@dataclass(frozen=True)
class Questions:
    """What a round of fits learns from and is asked about; places are those of the pool.

    Attributes:
        places: of labelled images.
        labels: of each, its class index.
        held: of each fit, which of ``places`` it does not learn from, by their number: random ones.
        asked: places of open images that all fits are asked about.
    """

    places: Sequence[int]
    labels: Sequence[int]
    held: Sequence[Sequence[int]]
    asked: Sequence[int]

    @property
    def answered(self) -> list[int]:
        """Places of what is answered, in the order of the answers."""
        return [*(self.places[turn] for out in self.held for turn in out), *self.asked]

    @property
    def are_enough(self) -> bool:
        """Whether there are random images enough, and each fit learns from two classes at least."""
        if sum(map(len, self.held)) < FEWEST:
            return False
        return all(
            len({label for turn, label in enumerate(self.labels) if turn not in out}) > 1 for out in map(set, self.held)
        )


@dataclass(frozen=True)
class Adapted:
    """What fits of a full recipe say of images that they did not learn from.

    Attributes:
        recipe: its name.
        labels: how many there were when they were fitted.
        places: of the images in the pool.
        probabilities: of each image, by the fits that did not learn from it; their mean where these are several.
    """

    recipe: str
    labels: int
    places: Int[np.ndarray, "m"]
    probabilities: Float[np.ndarray, "m N"]

    @cached_property
    def rows(self) -> dict[int, int]:
        """The row of each place."""
        return {int(place): row for row, place in enumerate(self.places)}


@dataclass(frozen=True)
class Verdict:
    """Which of the two speaks, and why.

    Attributes:
        recipe: of the adapted model.
        labels: that it was fitted to.
        images: random ones that both were asked about.
        adapted: of these, those that the adapted model is right on.
        probes: those that the probes are right on.
        chance: probability of so large a lead of the adapted model, or a larger one, between equal models.
        leads: whether the adapted model speaks.
    """

    recipe: str
    labels: int
    images: int
    adapted: int
    probes: int
    chance: float
    leads: bool

    def __str__(self) -> str:
        who = f"The adapted model ({self.recipe}, fitted to {self.labels} labels)"
        found = (
            f"right on {self.adapted} of {self.images} photos drawn at random that it did not learn from, "
            f"the probes on {self.probes}"
        )
        if not self.leads:
            return f"The probes lead. {who} is {found}; it takes over when a lead is no matter of chance."
        if self.chance <= CHANCE:
            return f"{who} leads: it is {found} (between equals, a chance of {100 * self.chance:.1f}%)."
        return f"{who} still leads: it is {found}."


def halves(labels: Sequence[int]) -> list[list[int]]:
    """Which random images are held out of which fit of a round: of each class as many of one as of the other.

    Args:
        labels: class indices of the random images.
    """
    order = np.argsort(np.asarray(labels, dtype=int), kind="stable")
    return [order[start::ROUND].tolist() for start in range(ROUND)]


def decide(adapted: Adapted, by_adapted: Bool[np.ndarray, "k"], by_probes: Bool[np.ndarray, "k"], led: bool) -> Verdict:
    """Compare on k images; see above for the rule.

    Args:
        adapted: what is compared with the probes.
        by_adapted: whether it is right.
        by_probes: whether the probes are.
        led: whether an adapted model has spoken so far.
    """
    wins, losses = int((by_adapted & ~by_probes).sum()), int((by_probes & ~by_adapted).sum())
    differ = wins + losses
    chance = sum(comb(differ, more) for more in range(wins, differ + 1)) / 2**differ
    return Verdict(
        adapted.recipe,
        adapted.labels,
        len(by_adapted),
        int(by_adapted.sum()),
        int(by_probes.sum()),
        chance,
        chance <= CHANCE or (led and wins >= losses and len(by_adapted) > 0),
    )
