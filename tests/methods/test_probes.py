"""Probes: what all of them keep to, and each against its formula written another way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support_sets import task

from atha.methods import clap, lp_plus_plus, proker
from atha.methods.base import unit
from atha.methods.gaussian import gaussian
from atha.methods.gda import discriminant, gda, left_out
from atha.methods.probes import PROBES
from atha.methods.prototypes import prototypes

COUNTS = st.lists(st.integers(1, 20), min_size=2, max_size=6)
UNEVEN, ONE_EACH, TWO = (1, 3, 20), (1, 1, 1, 1), (2, 5)


def queries(width, count=7):
    return unit(np.random.default_rng(1).normal(size=(count, width)) + 3)


@pytest.mark.parametrize("name", PROBES)
@given(counts=COUNTS, seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_probes_know_what_is_easy(name, counts, seed):
    examples, centres = task(counts, 16, seed, spread=0.05)
    found = PROBES[name](replace(examples, texts=centres)).score(centres)
    assert np.isfinite(found).all()
    assert (found.argmax(1) == np.arange(len(counts))).mean() > 0.8


@pytest.mark.parametrize("counts", [UNEVEN, ONE_EACH, TWO])
@pytest.mark.parametrize("name", PROBES)
def test_order_is_no_matter(name, counts):
    """Of classes and of images: beyond rounding, the same scores."""
    examples, _ = task(counts, 12)
    rng = np.random.default_rng(2)
    classes, images = rng.permutation(len(counts)), rng.permutation(len(examples.labels))
    place = np.argsort(classes)  # of a class, among those in the other order
    other = replace(
        examples,
        features=examples.features[images],
        labels=place[examples.labels[images]],
        texts=examples.texts[classes],
    )
    wanted = PROBES[name](examples).score(queries(12))
    found = PROBES[name](other).score(queries(12))
    np.testing.assert_allclose(found, wanted[:, classes], atol=1e-4 * np.ptp(wanted))
    assert np.ptp(wanted) > 0


@pytest.mark.parametrize("counts", [UNEVEN, ONE_EACH, TWO])
@pytest.mark.parametrize("name", PROBES)
def test_an_image_is_classified_on_its_own(name, counts):
    examples, _ = task(counts, 12)
    probe, again = PROBES[name](examples), PROBES[name](examples)
    found = probe.score(queries(12))
    assert np.array_equal(again.score(queries(12)), found), "nothing is drawn"
    assert np.array_equal(np.concatenate([probe.score(row[None]) for row in queries(12)]), found)
    np.testing.assert_allclose(probe.of_features(queries(12)).sum(1), 1, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", sorted(PROBES.keys() - {"logistic"}))
def test_identical_images_are_no_division_by_zero(name):
    examples, _ = task((2, 2), 6)
    same = replace(examples, features=unit(np.ones((4, 6))))
    assert np.isfinite(PROBES[name](same).score(same.features)).all()


def test_prototypes_do_not_see_what_all_images_share():
    examples, _ = task([3, 4, 5])
    one, other = (prototypes(rows, examples.labels, 3) for rows in (examples.features, examples.features + 10))
    np.testing.assert_allclose(one.weights, other.weights, atol=1e-9)


@given(counts=COUNTS, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_gaussian_is_a_normal_distribution_a_class(counts, seed):
    """By the covariance itself, whichever of images and features are more."""
    for width in (4, 40):
        examples, _ = task(counts, width, seed)
        features, labels = examples.features, examples.labels
        means = np.stack([features[labels == label].mean(0) for label in range(len(counts))])
        centre = means.mean(0)
        covariance = np.zeros((width, width))
        for label, count in enumerate(counts):
            away = features[labels == label] - centre
            covariance += away.T @ away / count / len(counts)
        covariance += np.trace(covariance) / len(labels) * np.eye(width)
        wanted = (features - centre) @ np.linalg.solve(covariance, (means - centre).T)
        np.testing.assert_allclose(gaussian(features, labels, len(counts)).score(features), wanted, atol=1e-8)


def without(examples, row):
    return examples.take(np.arange(len(examples.labels)) != row)


@pytest.mark.parametrize("width", [3, 30])
@pytest.mark.parametrize("counts", [UNEVEN, ONE_EACH, TWO, (1, 2)])
def test_gda_is_its_formula_and_leaves_out_as_if_fitted_anew(counts, width):
    """By the precision itself, up to its factor, whichever of images and features are more."""
    examples, _ = task(counts, width)
    features, labels = examples.features, examples.labels
    means = np.stack([features[labels == label].mean(0) for label in range(len(counts))])
    away = features - means[labels]
    ridge = (away**2).sum() / (len(labels) - 1)
    precision = ridge * np.linalg.inv(away.T @ away + ridge * np.eye(width)) if max(counts) > 1 else np.eye(width)
    wanted = features @ precision @ means.T - np.einsum("ne,ef,nf->n", means, precision, means) / 2
    np.testing.assert_allclose(discriminant(examples).score(features), wanted, atol=1e-9)

    held = left_out(examples)
    for row, label in enumerate(labels):
        if counts[label] == 1:
            assert np.isnan(held[row]).all()
        else:
            again = discriminant(without(examples, row)).score(features[[row]])[0]
            np.testing.assert_allclose(held[row], again, atol=1e-9)


@pytest.mark.parametrize("counts", [(4, 4, 4), ONE_EACH])
def test_gda_trusts_texts_as_far_as_they_are_right(counts):
    examples, centres = task(counts, 20, spread=0.4)
    right, wrong = replace(examples, texts=centres), replace(examples, texts=np.roll(centres, 1, axis=0))
    for one in (right, wrong):
        both, own = gda(one), discriminant(one)
        # What is left of the sum when the discriminant is taken away lies along the class texts.
        rest = both.weights - both.bias[0] / own.bias[0] * own.weights
        share = (rest * one.texts).sum(1)
        np.testing.assert_allclose(rest, share[:, None] * one.texts, atol=1e-8)
        assert (share > 1).all() if one is right else (abs(share) < 1e-6).all()


@pytest.mark.parametrize("width", [3, 30])
@pytest.mark.parametrize("counts", [UNEVEN, ONE_EACH, TWO])
def test_proker_is_ridge_regression_and_leaves_out_as_if_fitted_anew(counts, width):
    """By the normal equations of the features, whichever of images and features are more."""
    examples, _ = task(counts, width)
    x, penalty = examples.features, 0.3
    ridge = proker.Ridge.of(examples, 0.7)
    right = np.eye(len(counts))[examples.labels] - 1 / len(counts)
    cosines = x @ examples.texts.T
    targets = right - 0.7 * (cosines - cosines.mean(1, keepdims=True))
    weights = len(x) * np.concatenate([np.full(count, 1 / count / len(counts)) for count in counts])

    def fitted(rows):
        own = x[rows] * weights[rows, None]
        return np.linalg.solve(own.T @ x[rows] + penalty * np.eye(width), own.T @ targets[rows])

    np.testing.assert_allclose(x.T @ ridge.solve(penalty), fitted(np.arange(len(x))), atol=1e-9)
    held = ridge.left_out(penalty)
    for row in range(len(x)):
        other = np.arange(len(x)) != row
        np.testing.assert_allclose(held[row], targets[row] - x[row] @ fitted(other), atol=1e-9)


def test_proker_trusts_texts_as_far_as_they_are_right():
    examples, centres = task((1, 3, 20), 20)
    right = replace(examples, texts=centres)
    wrong = replace(examples, texts=np.roll(centres, 1, axis=0))
    assert proker.trust_in_texts(right) > 1 and proker.trust_in_texts(wrong) == 0
    one = right.take(np.array([0, 1, 4]))
    assert 0 < proker.trust_in_texts(one) < proker.trust_in_texts(right)


def weighted_loss(examples, logits):
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(examples.labels), reduction="none")
    return (torch.tensor(examples.shares) * loss).sum()


@pytest.mark.parametrize("counts", [UNEVEN, ONE_EACH, TWO])
def test_lp_plus_plus_goes_downhill(counts):
    """By slopes that are found by themselves, and never up."""
    examples, _ = task(counts, 12)
    features, texts = torch.tensor(examples.features), torch.tensor(examples.texts)

    def loss(weights, multipliers):
        return weighted_loss(examples, features @ (weights + multipliers[:, None] * texts).T)

    steps = [tuple(map(torch.tensor, step)) for step in lp_plus_plus.descent(examples)]
    assert len(steps) == 300
    losses = torch.stack([loss(*step) for step in steps])
    assert (losses.diff() < 1e-12).all() and losses[-1] < losses[0]
    for block, (before, after) in ((0, steps[0:2]), (1, steps[8:10])):
        weights = after[0] if block else before[0]  # the last step of ten moves the weights first
        point = [one.clone().requires_grad_() for one in (weights, before[1])]
        loss(*point).backward()
        slope, moved = point[block].grad, after[block] - before[block]
        assert moved.abs().max() > 0
        size = (moved / slope)[slope.abs() > 1e-9]
        torch.testing.assert_close(size, size[0].expand_as(size), rtol=1e-4, atol=0)
        assert size[0] < 0


@pytest.mark.parametrize("scale", [10.0, 100.0])
@pytest.mark.parametrize("counts", [UNEVEN, ONE_EACH, TWO])
def test_clap_goes_downhill(counts, scale):
    examples = replace(task(counts, 12)[0], scale=scale)
    features, texts = torch.tensor(examples.features), torch.tensor(examples.texts)
    zero_shot = (scale * features @ texts.T).softmax(1)
    right = [zero_shot[examples.labels == label, label].mean() for label in range(len(counts))]
    np.testing.assert_allclose(clap.multipliers(examples), torch.stack(right))

    def loss(prototypes):
        cosines = features @ torch.nn.functional.normalize(prototypes).T
        away = ((prototypes - texts) ** 2).sum(1)
        return weighted_loss(examples, scale * cosines) + (torch.stack(right) * away).mean()

    steps = [torch.tensor(step) for step in clap.descent(examples)]
    losses = torch.stack([loss(step) for step in (texts, *steps)])
    assert (losses.diff() < 1e-12).all() and losses[-1] < losses[0]
    start = steps[0].clone().requires_grad_()
    loss(start).backward()
    size = (steps[1] - steps[0]) / start.grad
    torch.testing.assert_close(size, size[0, 0].expand_as(size), rtol=1e-6, atol=0)
