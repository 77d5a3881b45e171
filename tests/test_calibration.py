"""Calibration error and Brier score, against naive loops, hand-calculated values and their own laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atha.calibration import BINS, brier, calibration_error, calibration_parts
from atha.evaluation import Evaluation


def queries(n, ways=5, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(ways, 0.5), n).astype(dtype), rng.integers(0, ways, n)


def naive_calibration_error(probabilities, truth):
    total = 0.0
    for index in range(BINS):
        rows = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, truth, strict=True)
            if min(int(row.max() * BINS), BINS - 1) == index
        ]
        if rows:
            total += len(rows) * abs(np.mean([c for c, _ in rows]) - np.mean([r for _, r in rows]))
    return total / len(truth)


def test_calibration_parts_by_hand():
    parts = calibration_parts(np.array([[0.5, 0.5], [0.3, 0.7], [1, 0], [0.0, 1]]), np.array([0, 0, 0, 0]))
    assert (parts.shape, parts.dtype) == ((3, 15), np.float64)
    count, confidence, correct = parts
    assert np.flatnonzero(count).tolist() == [7, 10, 14]
    assert count[[7, 10, 14]].tolist() == [1, 1, 2]
    assert confidence[[7, 10, 14]].tolist() == [0.5, 0.7, 2]
    assert correct[[7, 10, 14]].tolist() == [1, 0, 1]
    assert calibration_error(parts) == pytest.approx((0.5 + 0.7 + 1) / 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ways", [2, 5, 38])
def test_calibration_is_that_of_an_evaluation(ways, dtype):
    probabilities, truth = queries(300, ways, dtype=dtype)
    evaluation = Evaluation([str(i) for i in range(ways)], truth, probabilities, [str(i) for i in range(300)])
    error = calibration_error(calibration_parts(probabilities, truth))
    assert error == evaluation.calibration_error
    assert error == pytest.approx(naive_calibration_error(probabilities, truth), rel=1e-5)
    assert brier(probabilities, truth) == evaluation.brier
    expected = np.mean(
        [sum((p - (i == t)) ** 2 for i, p in enumerate(row)) for row, t in zip(probabilities, truth, strict=True)]
    )
    assert evaluation.brier == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 80), st.integers(0, 80), st.integers(2, 7), st.integers(0, 1000))
def test_calibration_parts_are_additive(first, second, ways, seed):
    probabilities, truth = queries(first + second, ways, seed)
    whole = calibration_parts(probabilities, truth)
    parts = calibration_parts(probabilities[:first], truth[:first])
    parts = parts + calibration_parts(probabilities[first:], truth[first:])
    assert (whole[[0, 2]] == parts[[0, 2]]).all()
    np.testing.assert_allclose(whole, parts, atol=1e-12)
    assert whole[0].sum() == first + second
    if first + second:
        assert calibration_error(whole) == pytest.approx(calibration_error(parts))
        assert 0 <= calibration_error(whole) <= 1
        assert 0 <= brier(probabilities, truth) <= 2


def test_every_confidence_has_its_bin():
    # The ends of the bins, and rows that sum to a little more than 1.
    top = np.append(np.arange(BINS + 1) / BINS, 1 + 1e-7)
    count = calibration_parts(top[:, None], np.zeros(len(top), dtype=int))[0]
    assert count.sum() == len(top)
    assert count[-1] >= 3


def test_brier_ends():
    assert brier(np.eye(3), np.arange(3)) == 0
    assert brier(np.eye(3), np.array([1, 2, 0])) == 2


def test_calibration_of_nothing():
    nothing = np.zeros((0, 5)), np.zeros(0, dtype=int)
    assert (calibration_parts(*nothing) == np.zeros((3, BINS))).all()
    assert math.isnan(calibration_error(np.zeros((3, BINS))))
    assert math.isnan(brier(*nothing))


@pytest.mark.parametrize("function", [calibration_parts, brier])
@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [
        (np.eye(2), np.array([0])),
        (np.ones(3), np.array([0, 0, 0])),
        (np.eye(2), np.array([0, 2])),
        (np.eye(2), np.array([0, -1])),
        (np.full((2, 2), np.nan), np.array([0, 1])),
        (np.array([[-0.5, 1.5]]), np.array([0])),
    ],
)
def test_calibration_refuses(function, probabilities, truth):
    with pytest.raises(ValueError, match="give "):
        function(probabilities, truth)


def test_calibration_error_wants_summed_parts():
    with pytest.raises(ValueError, match="sum them"):
        calibration_error(np.zeros((7, 3, BINS)))
