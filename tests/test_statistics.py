"""Statistics of per-episode results, against scipy, hand-calculated values and their own laws."""

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from atha import statistics
from atha.statistics import (
    Share,
    by_interval,
    by_test,
    holm,
    mean_interval,
    paired,
    per_class,
    t_interval,
)

RIGHT = st.integers(0, 75)
PAIRS = st.lists(st.tuples(RIGHT, RIGHT), min_size=2, max_size=60)
P_VALUES = st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12)


def accuracies(pairs):
    first, second = np.array(pairs).T
    return first / 75, second / 75


def verdicts(result):
    return by_interval(result.mean, result.half), by_test(result.mean, result.p_value)


def random_accuracies(n, gain, seed=0):
    rng = np.random.default_rng(seed)
    baseline = rng.binomial(75, 0.6, n)
    return np.clip(baseline + rng.integers(-6, 7, n) + gain, 0, 75) / 75, baseline / 75


# Means


def test_mean_interval_is_the_published_one():
    values = random_accuracies(400, 0)[0]
    result = mean_interval(values)
    assert (result.n, result.mean) == (400, pytest.approx(np.mean(values)))
    assert result.half == pytest.approx(1.96 * np.std(values) / np.sqrt(400))
    assert (result.low, result.high) == (result.mean - result.half, result.mean + result.half)


def test_mean_interval_by_hand():
    # Standard deviation 0.1 (ddof 0), four values.
    result = mean_interval([0.5, 0.7, 0.5, 0.7])
    assert (result.mean, result.half) == (pytest.approx(0.6), pytest.approx(0.098))


def test_mean_interval_nears_the_normal_one_of_scipy():
    values = random_accuracies(2000, 0)[0]
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    result = mean_interval(values)
    assert (result.low, result.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


def test_mean_of_nothing_and_of_one():
    nothing = mean_interval([])
    assert nothing.n == 0
    assert all(math.isnan(value) for value in (nothing.mean, nothing.half, nothing.low, nothing.high))
    one = mean_interval([0.4])
    assert (one.n, one.mean, one.half) == (1, 0.4, 0)


@pytest.mark.parametrize("values", [[0.1, math.nan], [math.inf], [[0.1, 0.2]], 0.5])
def test_mean_interval_refuses(values):
    with pytest.raises(ValueError, match="give "):
        mean_interval(values)


# Paired differences


@pytest.mark.parametrize("n", [2, 3, 20, 400])
@pytest.mark.parametrize("gain", [-3, 0, 1])
def test_paired_against_scipy(n, gain):
    values, baseline = random_accuracies(n, gain, seed=n)
    result = paired(values, baseline)
    expected = stats.ttest_rel(values, baseline)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    interval = expected.confidence_interval(0.95)
    assert result.mean - result.t_half == pytest.approx(interval.low)
    assert result.mean + result.t_half == pytest.approx(interval.high)
    alone = stats.ttest_1samp(values - baseline, 0).confidence_interval(0.95)
    assert 2 * result.t_half == pytest.approx(alone.high - alone.low)
    difference = values - baseline
    assert result.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert result.effect_size * math.sqrt(n) == pytest.approx(expected.statistic)
    published = mean_interval(difference)
    assert (result.mean, result.half) == (pytest.approx(published.mean), pytest.approx(published.half))


def test_paired_by_hand():
    # Differences 1, 2, 3, 0: mean 1.5, variance 1.25 (ddof 0) and 5/3 (ddof 1).
    result = paired([2, 4, 6, 4], [1, 2, 3, 4])
    assert (result.n, result.wins, result.ties, result.losses) == (4, 3, 1, 0)
    assert result.mean == 1.5
    assert result.half == pytest.approx(0.98 * math.sqrt(1.25))
    assert result.effect_size == pytest.approx(1.5 / math.sqrt(5 / 3))
    assert result.episodes_to_resolve == 3  # 1.96**2 * 1.25 / 2.25 = 2.13
    assert result.episodes_for_power == 6  # 2.8016**2 * (5 / 3) / 2.25 = 5.81
    assert by_interval(result.mean, result.half) == "better"


def test_quantile_for_power():
    assert pytest.approx(stats.norm.ppf(0.8), abs=1e-15) == statistics.Z_POWER
    values, baseline = random_accuracies(400, 1)
    difference = values - baseline
    needed = (1.96 + stats.norm.ppf(0.8)) ** 2 * difference.var(ddof=1) / difference.mean() ** 2
    result = paired(values, baseline)
    assert result.episodes_for_power == math.ceil(needed)
    power = stats.norm.sf(1.96 - math.sqrt(result.episodes_for_power) * result.effect_size)
    assert power == pytest.approx(0.8, abs=0.01)
    assert power >= 0.8


def test_paired_of_nothing_and_of_one():
    nothing = paired([], [])
    assert (nothing.n, nothing.wins, nothing.ties, nothing.losses) == (0, 0, 0, 0)
    assert all(math.isnan(value) for value in (nothing.mean, nothing.half, nothing.t_half, nothing.p_value))
    one = paired([0.8], [0.2])
    assert (one.n, one.wins, one.mean, one.half) == (1, 1, pytest.approx(0.6), 0)
    for result in (nothing, one):
        assert all(math.isnan(value) for value in (result.t_half, result.p_value, result.effect_size))
        assert (result.episodes_to_resolve, result.episodes_for_power) == (None, None)
        assert by_test(result.mean, result.p_value) == "not resolved"


def test_no_difference():
    result = paired([0.2, 0.4, 0.9], [0.2, 0.4, 0.9])
    assert (result.mean, result.half, result.t_half, result.effect_size, result.p_value) == (0, 0, 0, 0, 1)
    assert (result.wins, result.ties, result.losses) == (0, 3, 0)
    assert (result.episodes_to_resolve, result.episodes_for_power) == (None, None)
    assert verdicts(result) == ("not resolved", "not resolved")


@pytest.mark.parametrize(("sign", "verdict"), [(1, "better"), (-1, "worse")])
def test_constant_difference_despite_float_noise(sign, verdict):
    baseline = np.arange(10, 60) / 75
    result = paired((np.arange(10, 60) + sign) / 75, baseline)
    assert result.mean == pytest.approx(sign / 75)
    assert (result.half, result.t_half, result.effect_size, result.p_value) == (0, 0, sign * math.inf, 0)
    assert (result.episodes_to_resolve, result.episodes_for_power) == (2, 2)
    assert verdicts(result) == (verdict, verdict)


def test_opposite_differences_cancel_despite_float_noise():
    result = paired(np.array([10, 8, 45, 31]) / 75, np.array([9, 9, 38, 38]) / 75)
    assert (result.mean, result.effect_size, result.p_value) == (0, 0, 1)
    assert (result.wins, result.losses) == (2, 2)
    assert (result.half > 0, result.t_half > 0) == (True, True)
    assert (result.episodes_to_resolve, result.episodes_for_power) == (None, None)
    assert verdicts(result) == ("not resolved", "not resolved")


def test_float_noise_is_a_tie():
    steps = np.arange(76)
    noisy = np.array([sum([1 / 75] * step) for step in steps])  # summed one by one
    assert (noisy != steps / 75).any()
    result = paired(noisy, steps / 75)
    assert (result.wins, result.ties, result.losses, result.p_value) == (0, 76, 0, 1)


def test_verdict_needs_the_interval_to_exclude_zero():
    assert by_interval(0.1, 0.1) == by_interval(math.nan, math.nan) == "not resolved"
    assert by_interval(0.1, 0.09) == "better"
    assert by_interval(-0.1, 0.09) == "worse"


@pytest.mark.parametrize(
    ("values", "baseline"),
    [([0.1], [0.1, 0.2]), ([math.nan, 0.1], [0.1, 0.1]), ([0.1, 0.1], [0.1, -math.inf]), ([[0.1]], [[0.1]])],
)
def test_paired_refuses(values, baseline):
    with pytest.raises(ValueError, match="give "):
        paired(values, baseline)


def test_inputs_are_not_changed():
    values, baseline = np.array([0.1 + 0.2, 0.5]), np.array([0.3, 0.4])
    paired(values, baseline)
    assert values.tolist() == [0.1 + 0.2, 0.5]


@given(PAIRS)
def test_paired_is_antisymmetric(pairs):
    values, baseline = accuracies(pairs)
    ahead, behind = paired(values, baseline), paired(baseline, values)
    assert ahead.mean == -behind.mean
    assert ahead.effect_size == -behind.effect_size
    assert (ahead.wins, ahead.ties, ahead.losses) == (behind.losses, behind.ties, behind.wins)
    for name in ("half", "t_half", "p_value", "episodes_to_resolve", "episodes_for_power"):
        assert getattr(ahead, name) == getattr(behind, name), name
    turned = {"better": "worse", "worse": "better", "not resolved": "not resolved"}
    assert verdicts(behind) == tuple(turned[one] for one in verdicts(ahead))


@given(PAIRS, st.floats(-1, 1))
def test_paired_does_not_depend_on_the_level(pairs, shift):
    values, baseline = accuracies(pairs)
    here, there = paired(values, baseline), paired(values + shift, baseline + shift)
    assert (here.wins, here.ties, here.losses) == (there.wins, there.ties, there.losses)
    assert here.effect_size == pytest.approx(there.effect_size, rel=1e-6, abs=1e-9)
    for name in ("mean", "half", "t_half"):
        assert getattr(here, name) == pytest.approx(getattr(there, name), abs=1e-12), name
    assert here.p_value == pytest.approx(there.p_value, rel=1e-6, abs=1e-9)


@given(PAIRS)
def test_counts_are_exact(pairs):
    result = paired(*accuracies(pairs))
    assert result.wins + result.ties + result.losses == result.n == len(pairs)
    assert result.wins == sum(a > b for a, b in pairs)
    assert result.losses == sum(a < b for a, b in pairs)


@given(PAIRS)
def test_paired_agrees_with_scipy(pairs):
    assume(len({a - b for a, b in pairs}) > 1)
    values, baseline = accuracies(pairs)
    assert paired(values, baseline).p_value == pytest.approx(stats.ttest_rel(values, baseline).pvalue, rel=1e-6)


@given(PAIRS)
def test_episodes_to_resolve_is_the_smallest(pairs):
    values, baseline = accuracies(pairs)
    result = paired(values, baseline)
    n = result.episodes_to_resolve
    assert (n is None) == (sum(a - b for a, b in pairs) == 0)
    assume(n is not None)

    def half(episodes):
        return result.half * math.sqrt(result.n / episodes)

    assert isinstance(n, int)
    assert n >= 2
    assert half(n) <= abs(result.mean) * (1 + 1e-12)
    assert n == 2 or half(n - 1) > abs(result.mean) * (1 - 1e-12)
    assert result.episodes_for_power >= n


# Several comparisons


@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        # 4 * 0.005; 3 * 0.01; 2 * 0.03; then 0.04 is raised to the one before.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.04], [0.04]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([], []),
    ],
)
def test_holm_by_hand(raw, adjusted):
    assert holm(raw) == pytest.approx(adjusted)


def test_holm_leaves_out_tests_that_were_not_done():
    result = holm([math.nan, 0.01, math.nan, 0.04])
    assert [math.isnan(value) for value in result] == [True, False, True, False]
    assert (result[1], result[3]) == (pytest.approx(0.02), pytest.approx(0.04))
    assert all(type(value) is float for value in result)


@pytest.mark.parametrize("raw", [[-0.1], [0.2, 1.1], [[0.1]], [math.inf]])
def test_holm_refuses(raw):
    with pytest.raises(ValueError, match="give "):
        holm(raw)


@given(P_VALUES)
def test_holm_laws(raw):
    adjusted = holm(raw)
    done = sorted((p, q) for p, q in zip(raw, adjusted, strict=True) if not math.isnan(p))
    assert [math.isnan(q) for q in adjusted] == [math.isnan(p) for p in raw]
    assert all(p <= q <= 1 for p, q in done)
    assert [q for _, q in done] == sorted(q for _, q in done)
    assert all(q <= min(1, len(done) * p) for p, q in done[:1])
    # By definition: the largest of the steps up to it.
    for rank, (_, q) in enumerate(done):
        assert q == pytest.approx(min(1, max((len(done) - i) * done[i][0] for i in range(rank + 1))))


@given(P_VALUES, st.randoms())
def test_holm_follows_the_order(raw, random):
    order = list(range(len(raw)))
    random.shuffle(order)
    adjusted = holm(raw)
    assert holm([raw[i] for i in order]) == pytest.approx([adjusted[i] for i in order], nan_ok=True)


# Classes


def test_per_class_by_hand():
    result = per_class(np.array([[0, 2], [2, 5], [5, 2]]), np.array([[3, 1], [0, 4], [2, 4]]), query=4)
    assert list(result) == [0, 2, 5]
    assert [result[i].episodes for i in result] == [1, 3, 2]
    assert [result[i].share for i in result] == [Share(3, 4), Share(5, 12), Share(6, 8)]
    assert [result[i].accuracy for i in result] == [3 / 4, 5 / 12, 6 / 8]
    interval = stats.binomtest(5, 12).proportion_ci(0.95, method="wilson")
    assert result[2].interval == pytest.approx((interval.low, interval.high), abs=1e-12)


@given(arrays(int, (20, 4), elements=st.integers(0, 15)), st.integers(0, 100))
def test_per_class_counts_every_query(correct, seed):
    rng = np.random.default_rng(seed)
    classes = np.stack([rng.permutation(9)[:4] for _ in range(20)])
    result = per_class(classes, correct, 15)
    assert sum(one.episodes for one in result.values()) == 80
    assert sum(one.share.successes for one in result.values()) == correct.sum()
    for index, one in result.items():
        assert one.accuracy == pytest.approx(correct[classes == index].mean() / 15)


def test_per_class_of_nothing():
    assert per_class(np.zeros((0, 5), dtype=int), np.zeros((0, 5), dtype=int), 15) == {}


@pytest.mark.parametrize(
    ("classes", "correct"),
    [
        ([[0, 1]], [[1]]),
        ([0, 1], [1, 1]),
        ([[0, -1]], [[1, 1]]),
        ([[1, 1]], [[1, 1]]),
        ([[0, 1]], [[1, 16]]),
        ([[0, 1]], [[-1, 0]]),
    ],
)
def test_per_class_refuses(classes, correct):
    with pytest.raises(ValueError, match="give "):
        per_class(np.array(classes), np.array(correct), 15)


# Speed


def test_a_hundred_thousand_episodes_are_quick():
    values, baseline = random_accuracies(100_000, 1)
    rng = np.random.default_rng(0)
    classes = rng.permuted(np.tile(np.arange(7), (100_000, 1)), axis=1)[:, :5]
    correct = rng.integers(0, 16, (100_000, 5))
    start = time.perf_counter()
    mean_interval(values)
    paired(values, baseline)
    for one in per_class(classes, correct, 15).values():
        assert one.interval[0] < one.accuracy < one.interval[1]
    assert time.perf_counter() - start < 1


def test_import_needs_no_scipy():
    code = "import sys, atha.statistics; print([m for m in ('scipy', 'torch') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_t_interval_is_scipys():
    values = np.random.default_rng(0).normal(size=5)
    low, high = stats.t.interval(0.95, 4, values.mean(), values.std(ddof=1) / np.sqrt(5))
    found = t_interval(values)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.half > mean_interval(values).half
    assert np.isnan(t_interval([1.0]).half) and np.isnan(t_interval([]).mean)
