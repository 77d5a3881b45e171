"""Whether an adapted model takes over from probes, and what it then says."""

import numpy as np
import pytest

from atha.labelling.contest import Adapted, decide, halves
from atha.labelling.estimate import estimate
from atha.labelling.model import Texts
from atha.labelling.session import Session

CLASSES, WIDTH, POOL = 3, 8, 300
NOTHING = Adapted("auto", 60, np.empty(0, dtype=int), np.empty((0, CLASSES)))


def answers(wins: int, losses: int, both: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Whether the adapted model is right, and whether the probes are."""
    adapted = np.array([True] * wins + [False] * losses + [True] * both)
    return adapted, np.array([False] * wins + [True] * losses + [True] * both)


@pytest.mark.parametrize(
    ("wins", "losses", "led", "leads"),
    [
        (0, 0, False, False), (3, 0, False, False), (4, 0, False, True), (5, 1, False, False), (6, 1, False, True),
        (0, 4, False, False), (9, 6, False, False), (1, 1, True, True), (3, 2, True, True), (2, 3, True, False),
    ],
)  # fmt: skip
def test_the_rule(wins: int, losses: int, led: bool, leads: bool):
    found = decide(NOTHING, *answers(wins, losses), led)
    assert found.leads is leads and (found.images, found.adapted, found.probes) == (
        wins + losses + 5,
        wins + 5,
        losses + 5,
    )
    said = str(found)
    assert said.startswith("The adapted model (auto, fitted to 60 labels)" if leads else "The probes lead.")
    assert f"right on {wins + 5} of {wins + losses + 5} photos" in said


def test_equal_models_seldom_take_over():
    rng = np.random.default_rng(0)
    taken = [decide(NOTHING, rng.random(40) < 0.7, rng.random(40) < 0.7, False).leads for _ in range(2000)]
    assert 0.03 < np.mean(taken) <= 0.1


def test_nothing_is_told_by_no_image():
    nothing = np.empty(0, dtype=bool)
    assert not decide(NOTHING, nothing, nothing, True).leads and not decide(NOTHING, nothing, nothing, False).leads


def test_halves_share_each_class():
    labels = [0] * 6 + [1, 1, 2]
    one, other = halves(labels)
    assert sorted(one + other) == list(range(9)) and abs(len(one) - len(other)) == 1
    assert [labels[turn] for turn in one].count(0) == 3 and {labels[turn] for turn in one} >= {0, 1}


def test_a_part_of_the_pool_gives_a_wider_interval():
    right, sure, rest = np.ones(20, dtype=bool), np.full(20, 0.8), np.tile([0.3, 1.0], 25)
    whole, part = (estimate(right, sure, rest, left, ()) for left in (50, 5000))
    assert whole.accuracy == part.accuracy and np.diff(part.interval)[0] > np.diff(whole.interval)[0]


@pytest.fixture
def pile() -> tuple[Session, np.ndarray]:
    """Features that say nothing of the classes, and 40 labels, every second one drawn at random."""
    rng = np.random.default_rng(1)
    texts = rng.normal(size=(CLASSES, WIDTH))
    session = Session(
        list("abc"), Texts(texts / np.linalg.norm(texts, axis=1, keepdims=True), 10.0), POOL, seed=2, share=0.5
    )
    session.add_features(range(POOL), rng.normal(size=(POOL, WIDTH)))
    truth = rng.integers(CLASSES, size=POOL)
    give(session, truth, 40)
    return session, truth


def give(session: Session, truth: np.ndarray, count: int) -> None:
    while len(session.labelled) < count:
        for pick in session.next(4):
            session.label(pick.place, int(truth[pick.place]), pick.how)


def adapted(session: Session, truth: np.ndarray, right: float, places: np.ndarray) -> Adapted:
    """One that is right on a share of the images, and is sure by as much."""
    rng = np.random.default_rng(3)
    said = np.where(rng.random(POOL) < right, truth, (truth + 1) % CLASSES)
    rows = np.full((POOL, CLASSES), (1 - right) / (CLASSES - 1))
    rows[np.arange(POOL), said] = right
    return Adapted("auto", len(session.labelled), places, rows[places])


def test_a_better_model_takes_over_and_a_worse_one_gives_back(pile: tuple[Session, np.ndarray]):
    session, truth = pile
    before = session.estimate()
    assert before.accuracy < 0.6 and not session.is_led and session.shown is session.looks
    random = [place for place, (_, how) in session.labelled.items() if how == "random"]
    open_ = session.questions(120).asked
    places = np.array([*random, *open_])
    session.adapted = adapted(session, truth, 0.95, places)
    found = session.estimate()
    assert session.is_led and session.verdict is not None and session.verdict.images == len(random) == 20
    assert abs(found.accuracy - 0.95) < 0.1 and found.images == 20 and found.interval[0] > before.accuracy
    assert "label 20 more" in session.advice()
    chosen = session.next(10)
    unsure = [pick.place for pick in chosen if pick.how == "unsure"]
    assert unsure and set(unsure) <= set(open_), "chosen by the doubt of the adapted model"
    assert {pick.place for pick in chosen if pick.how == "random"} <= set(open_), "those drawn next, it was asked about"

    give(session, truth, 60)  # labels that came after its fit count, too
    session.estimate()
    assert session.verdict.images == 30 and len(session.adapted_looks) == 1
    session.adapted = adapted(session, truth, 0.95, places)
    session.estimate()
    assert "20 more labels have changed the estimate by" in session.advice()
    session.recall(45)
    assert session.is_led and len(session.adapted_looks) == 2, "what is made up for the curve is the probes'"

    session.adapted = adapted(session, truth, 0.1, places)
    found = session.estimate()
    assert not session.is_led and found is session.looks[-1].estimate
    session.add_class("d", np.ones(WIDTH))
    session.label(int(places[0]), 3)
    session.estimate()
    assert len(session.shown[-1].estimate.classes) == 4


def test_few_images_that_it_was_asked_about(pile: tuple[Session, np.ndarray]):
    """The probes choose where the adapted model has not seen enough to choose from."""
    session, truth = pile
    random = [place for place, (_, how) in session.labelled.items() if how == "random"]
    session.adapted = adapted(session, truth, 0.95, np.array(random))
    assert not session.estimate().is_known and session.is_led
    assert len(session.next(10)) == 10
