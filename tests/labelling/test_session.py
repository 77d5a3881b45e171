"""A labelling session on features of clusters, whose labels are known."""

import numpy as np
import pytest

from atha.errors import DataError
from atha.labelling.choosing import different, directions, named, typical, unsure
from atha.labelling.estimate import Estimate, Look, advise
from atha.labelling.model import Texts
from atha.labelling.session import Session
from atha.statistics import Share

WIDTH, SIZES = 16, (200, 60, 20, 10)


def pile(seed: int = 0, noise: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(SIZES), WIDTH)) / np.sqrt(WIDTH)
    labels = np.repeat(np.arange(len(SIZES)), SIZES)
    return (centres[labels] + noise * rng.normal(size=(len(labels), WIDTH)) + 1).astype(np.float32), labels


def session(features: np.ndarray, **more: object) -> Session:
    texts = np.random.default_rng(9).normal(size=(len(SIZES), WIDTH))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    made = Session(list("abcd"), Texts(texts, 20.0), len(features), **more)  # type: ignore[arg-type]
    made.add_features(range(len(features)), features)
    return made


def label(one: Session, truth: np.ndarray, count: int, batch: int = 10) -> None:
    while len(one.labelled) < count:
        for pick in one.next(batch):
            one.label(pick.place, int(truth[pick.place]), pick.how)


def test_an_afternoon():
    features, truth = pile()
    one = session(features)
    first = one.next(4)
    assert {int(truth[pick.place]) for pick in first if pick.how == "typical"} >= {0, 1}
    label(one, truth, 40)
    assert min(one.counts) > 0
    hows = [how for _, how in one.labelled.values()]
    assert hows.count("random") == 10 and hows.count("unsure") > 0
    estimate = one.estimate()
    rest = np.setdiff1d(np.arange(len(truth)), list(one.labelled))
    assert one.model is not None
    accuracy = (one.model.probabilities(one.features[rest]).argmax(1) == truth[rest]).mean()
    assert estimate.images == 10
    assert estimate.interval[0] <= accuracy <= estimate.interval[1] and np.diff(estimate.interval)[0] < 0.4
    label(one, truth, 60)
    one.estimate()
    assert "20 more labels have changed the estimate by" in one.advice()


def test_the_same_choice_for_the_same_labels_however_they_came():
    features, truth = pile()
    one, other = session(features), session(features)
    label(one, truth, 30)
    for place, (number, how) in one.labelled.items():
        other.label(place, number, how)
    assert one.next(12) == other.next(12)
    assert len({pick.place for pick in one.next(12)}) == 12
    assert one.next(12) != session(features, seed=1).next(12)


def test_what_is_offered_left_out_or_labelled_is_not_offered_again():
    features, truth = pile()
    one = session(features)
    first = [pick.place for pick in one.next(8)]
    one.leave_out(first[0])
    assert not {*first} & {pick.place for pick in one.next(8, offered=first[1:])}
    one.unlabel(first[0])
    everything = one.next(1000)
    assert len(everything) == len(truth) and len({pick.place for pick in everything}) == len(truth)


def test_random_picks_are_a_fixed_draw_whatever_the_labels_say():
    features, truth = pile()
    one, wrong = session(features), session(features)
    label(one, truth, 40)
    label(wrong, np.zeros_like(truth), 40)
    drawn = [[place for place, (_, how) in each.labelled.items() if how == "random"] for each in (one, wrong)]
    shared = set(drawn[0]) & set(drawn[1])
    assert len(shared) >= 8  # those that one of them had chosen for its model are passed over
    assert set(drawn[0]) <= set(one.order[:40].tolist())


def test_only_images_whose_features_are_there():
    features, _ = pile()
    one = session(features)
    one.ready[:] = False
    one.add_features(one.order[:30].tolist(), features[one.order[:30]])
    assert {pick.place for pick in one.next(50)} == set(one.order[:30].tolist())


def test_corrections_and_new_classes():
    features, truth = pile()
    one = session(features)
    label(one, truth, 20)
    place = next(place for place, (_, how) in one.labelled.items() if how == "random")
    assert one.add_class("e", np.ones(WIDTH)) == 4
    one.label(place, 4)
    assert one.labelled[place] == (4, "random") and one.counts[4] == 1
    assert one.model is not None and one.model.probabilities(features[:1]).shape == (1, 5)
    with pytest.raises(DataError, match="a class 'e' already"):
        one.add_class("e", np.ones(WIDTH))
    with pytest.raises(DataError, match="is not there"):
        one.label(10**6, 0)


def test_labels_from_elsewhere_are_learned_from_and_not_estimated_from():
    features, truth = pile()
    one = session(features)
    one.add_labelled(features[::10], truth[::10].tolist())
    assert one.model is not None and one.estimate().images == 0
    assert one.next(4)[0].guess is not None and "Nothing is known" in one.advice()


def test_choosing_among_few_and_equal_ones():
    rows = directions(np.ones((6, 4)) + 1e-3 * np.eye(6, 4))
    free = np.array([True, True, True, False, False, True])
    assert sorted(typical(rows, ~free, free, 10, 0)) == [0, 1, 2, 5]
    assert sorted(unsure(rows, np.ones(6), free, 10, 0)) == [0, 1, 2, 5]
    same = directions(np.ones((6, 4)))
    assert len(set(unsure(same, np.ones(6), free, 3, 0))) == 3
    assert typical(rows, ~free, np.zeros(6, dtype=bool), 3, 0) == [] == unsure(rows, np.ones(6), free & ~free, 3, 0)


def test_a_class_without_a_label_is_looked_for():
    features, truth = pile()
    one = session(features)
    for place in np.flatnonzero(truth < 2)[:: 200 // 8].tolist():
        one.label(place, int(truth[place]), "typical")
    hows = [pick.how for pick in one.next(12)]
    assert {how: hows.count(how) for how in set(hows)} == {"named": 3, "different": 3, "typical": 3, "random": 3}
    far = np.vstack([directions(features), -np.ones((1, WIDTH)) / 4])
    taken = np.arange(len(far)) < 50
    assert different(far, taken, ~taken, 3, 0) == different(far, taken, ~taken, 3, 0)
    assert len(set(different(far, taken, ~taken, 30, 0))) == 30 and not set(different(far, taken, ~taken, 30, 0)) & {0}
    label(one, truth, 60)
    assert min(one.counts) > 0 and {pick.how for pick in one.next(12)} == {"unsure", "random"}


def test_the_text_of_a_class_without_a_label_finds_it():
    features, truth = pile(noise=0.1)
    one = session(features)
    # The text of the rarest class is nearest to its images, and less near to them than all other texts are.
    texts = np.ones((len(SIZES), WIDTH)) / 4
    texts[3] = features[truth == 3].mean(0) - features.mean(0)
    one.texts = Texts(texts / np.linalg.norm(texts, axis=1, keepdims=True), 20.0)
    for place in np.flatnonzero(truth < 3)[::40].tolist():
        one.label(place, int(truth[place]), "own")
    assert one.counts[3] == 0
    sought = [int(truth[pick.place]) for pick in one.next(12) if pick.how == "named"]
    assert len(sought) == 3 and sought[0] == 3 and sought.count(3) >= 2
    one, hows = session(features), []  # one at a time there are as many
    for _ in range(20):
        (pick,) = one.next(1)
        one.label(pick.place, 0, pick.how)
        hows.append(pick.how)
    assert 4 <= hows.count("named") <= 5 and hows.count("random") == 5


def test_a_text_is_measured_by_itself_and_beside_the_others():
    # Text 1 is nearest to every image; text 0 stands out on image 2, and on image 0 less than text 2 does.
    cosines = np.array([[0.30, 0.90, 0.50], [0.10, 0.80, 0.10], [0.28, 0.70, 0.10], [0.05, 0.85, 0.12]])
    free = np.ones(4, dtype=bool)
    assert named(cosines, [0], free) == [2]
    assert named(cosines, [0, 2, 0], free)[:2] == [2, 0]
    assert named(cosines, [0], free & (np.arange(4) != 2)) != [2]
    assert sorted(named(np.ones((4, 3)), [1] * 9, free)) == [0, 1, 2, 3] and named(cosines, [], free) == []


def test_advice():
    classes = [Share(9, 10), Share(2, 10)]

    def look(labels: int, accuracy: float, predicted: int) -> Look:
        return Look(labels, Estimate(accuracy, (0.1, 0.9), 9, classes), np.arange(100) // predicted)

    assert "label 20 more" in advise([look(30, 0.5, 50)], ["a", "b"])
    stop = advise([look(30, 0.5, 50), look(50, 0.504, 50)], ["a", "b"])
    assert stop == (
        "20 more labels have changed the estimate by 0.4 points and 0% of the predictions: stop here, or label more of "
        "'b', the weakest class."
    )
    assert "go on; 'b'" in advise([look(30, 0.5, 50), look(50, 0.6, 50)], ["a", "b"])
    assert "go on" in advise([look(30, 0.5, 50), look(50, 0.5, 10)], ["a", "b"])


def test_nothing_is_left_to_label():
    features, truth = pile()
    features, truth = features[180:220], truth[180:220]
    one = session(features)
    label(one, truth, 40)
    assert one.estimate().images == 10 and not one.estimate().is_known
    assert one.advice() == "No image is left to label: fit a model to the labels."
    one.unlabel(next(iter(one.labelled)))
    assert one.estimate().is_known and "label 20 more" in one.advice()
