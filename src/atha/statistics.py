"""What results say: shares and means with intervals, paired differences and verdicts, several comparisons, classes.

Everything works on whole arrays, so that a report on 100,000 episodes is a matter of milliseconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

#: Half width of the 95% interval in standard errors, as published tables have it.
Z = 1.96
#: The same quantile unrounded, for Wilson's interval.
_Z_EXACT = 1.959963984540054
#: 80% quantile of the standard normal distribution.
Z_POWER = 0.8416212335729143
#: Differences below are float noise: accuracies are multiples of 1/75 or the like.
TIE = 1e-9
#: Below it a p-value counts as resolved.
LEVEL = 0.05

#: Of a difference: whether a method is told apart from its baseline, and to which side.
Verdict = Literal["better", "worse", "not resolved"]


@dataclass(frozen=True)
class Share:
    """A count of successes with its 95% interval (Wilson's score interval)."""

    successes: int
    total: int

    @property
    def value(self) -> float:
        """Between 0 and 1; NaN of nothing."""
        return self.successes / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end; 0 to 1 of nothing."""
        if not self.total:
            return 0.0, 1.0
        # Written out: scipy.stats takes longer to import than a report of 100,000 episodes to make.
        share, spread = self.value, _Z_EXACT**2 / self.total
        middle = (share + spread / 2) / (1 + spread)
        half = _Z_EXACT * np.sqrt(share * (1 - share) / self.total + spread / (4 * self.total)) / (1 + spread)
        low = 0.0 if self.successes == 0 else float(middle - half)
        high = 1.0 if self.successes == self.total else float(middle + half)
        return low, high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f}% ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True)
class Mean:
    """A mean over episodes with its 95% interval.

    Attributes:
        n: number of episodes.
        mean: NaN of nothing.
        half: half width of the interval; NaN of nothing.
    """

    n: int
    mean: float
    half: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half


@dataclass(frozen=True)
class Paired:
    """Differences of two methods on the same episodes, value minus baseline.

    Attributes:
        n: number of episodes.
        mean: of the differences; NaN of nothing. Exactly 0 where it is float noise.
        half: half width of its 95% interval as published, 1.96 * std(ddof 0) / sqrt(n); NaN of nothing, 0 of one.
        t_half: half width of its 95% interval by Student's t, ddof 1; NaN below two episodes.
        effect_size: Cohen's d_z, mean / std(ddof 1); 0 if the mean is 0, infinite with the sign of the mean if all
            differences are one and the same other number, NaN below two episodes.
        wins: episodes where the value is above the baseline.
        ties: episodes where they differ by less than 1e-9.
        losses: episodes where it is below.
        p_value: of the two-sided paired t-test; 1 if all differences are 0, 0 if all are one and the same other
            number, NaN below two episodes.
        episodes_to_resolve: smallest number of episodes, at least 2, at which `half` is at most abs(mean), if mean
            and spread stay as they are; None if the mean is 0 or there are fewer than two episodes to know them from.
        episodes_for_power: episodes at which a difference of this size is found with a probability of 80%:
            (1.96 + 0.8416)**2 / effect_size**2, rounded up, at least 2; None as before.
    """

    n: int
    mean: float
    half: float
    t_half: float
    effect_size: float
    wins: int
    ties: int
    losses: int
    p_value: float
    episodes_to_resolve: int | None
    episodes_for_power: int | None


@dataclass(frozen=True)
class ClassAccuracy:
    """How one class fared over all episodes.

    Attributes:
        share: its queries that were classified right, of all its queries.
        episodes: number of episodes with this class.
    """

    share: Share
    episodes: int

    @property
    def accuracy(self) -> float:
        """Mean over all its queries, 0 to 1."""
        return self.share.value

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the accuracy (Wilson), of queries taken as independent."""
        return self.share.interval


def _finite(values: ArrayLike) -> Float[np.ndarray, "n"]:
    """As a vector of finite float64; ValueError if it is none."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values have the shape {array.shape}, give one value per episode")
    if not np.isfinite(array).all():
        where = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"value {where} is {array[where]}, give finite values only")
    return array


def mean_interval(values: ArrayLike) -> Mean:
    """Mean and 95% interval as published: half width 1.96 * std(ddof 0) / sqrt(n).

    Args:
        values: (n,), one per episode.

    Returns:
        Mean and half width in the unit of the values, both NaN if there are none.

    Raises:
        ValueError: not a vector of finite numbers.

    Source: IBM/cdfsl-benchmark, finetune.py, the lines after the loop over episodes.
    """
    array = _finite(values)
    n = len(array)
    if not n:
        return Mean(0, math.nan, math.nan)
    return Mean(n, float(array.mean()), float(Z * array.std() / math.sqrt(n)))


def t_interval(values: ArrayLike) -> Mean:
    """Mean and 95% interval by Student's t: where there are few episodes, `mean_interval` is too narrow.

    Args:
        values: (n,), one per episode.

    Returns:
        Mean and half width; the half width is NaN below two episodes.

    Raises:
        ValueError: not a vector of finite numbers.
    """
    from scipy.special import stdtrit

    array = _finite(values)
    n = len(array)
    if n < 2:
        return Mean(n, float(array.mean()) if n else math.nan, math.nan)
    return Mean(n, float(array.mean()), float(stdtrit(n - 1, 0.975)) * (float(array.std(ddof=1)) / math.sqrt(n)))


def paired(values: ArrayLike, baseline: ArrayLike) -> Paired:
    """Compares two methods episode by episode.

    Args:
        values: (n,), float64, one per episode.
        baseline: (n,), float64, of the same episodes in the same order.

    Returns:
        The differences' mean, intervals, effect size, test and counts. Differences below 1e-9 count as 0.

    Raises:
        ValueError: not vectors of finite numbers, or of different lengths.

    Source: Student's paired t-test as in scipy.stats.ttest_rel; d_z from Cohen, Statistical Power Analysis for the
    Behavioral Sciences, 2nd edition, section 2.3.5.
    """
    first, second = _finite(values), _finite(baseline)
    if len(first) != len(second):
        raise ValueError(f"there are {len(first)} values and {len(second)} of the baseline, give both for each episode")
    n = len(first)
    difference = first - second
    difference[abs(difference) < TIE] = 0
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())

    mean = float(difference.mean()) if n else math.nan
    if abs(mean) < TIE:
        mean = 0.0
    constant = n > 0 and float(np.ptp(difference)) < TIE
    spread0 = 0.0 if constant else float(difference.std()) if n else math.nan
    effect_size = p_value = t_half = math.nan
    to_resolve = for_power = None
    if n > 1:
        from scipy.special import stdtr

        spread1 = 0.0 if constant else float(difference.std(ddof=1))
        error = spread1 / math.sqrt(n)
        t_half = 0.0 if constant else t_interval(difference).half
        if mean == 0:
            effect_size, p_value = 0.0, 1.0
        elif constant:
            effect_size, p_value = math.copysign(math.inf, mean), 0.0
        else:
            effect_size, p_value = mean / spread1, float(2 * stdtr(n - 1, -abs(mean) / error))
        to_resolve = _episodes(Z, spread0, mean)
        for_power = _episodes(Z + Z_POWER, spread1, mean)
    return Paired(
        n=n,
        mean=mean,
        half=Z * spread0 / math.sqrt(n) if n else math.nan,
        t_half=t_half,
        effect_size=effect_size,
        wins=wins,
        ties=n - wins - losses,
        losses=losses,
        p_value=p_value,
        episodes_to_resolve=to_resolve,
        episodes_for_power=for_power,
    )


def _episodes(errors: float, spread: float, mean: float) -> int | None:
    """Smallest n of at least 2 with errors * spread / sqrt(n) <= abs(mean), in exact arithmetic; None if mean is 0."""
    if mean == 0:
        return None
    return max(2, math.ceil((Fraction(errors) * Fraction(spread) / Fraction(mean)) ** 2))


def by_interval(mean: float, half: float) -> Verdict:
    """What a mean difference, value minus baseline, says by its interval: resolved if that leaves out 0; NaN is not."""
    return _verdict(mean, abs(mean) > half)


def by_test(mean: float, p_value: float) -> Verdict:
    """What a mean difference, value minus baseline, says by its test: resolved if p is below `LEVEL`; NaN is not."""
    return _verdict(mean, p_value < LEVEL)


def _verdict(mean: float, resolved: bool) -> Verdict:
    if not resolved:
        return "not resolved"
    return "better" if mean > 0 else "worse"


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Adjusts the p-values of several comparisons by Holm's step-down method.

    Args:
        p_values: m of them, in any order; NaN for a test that could not be done.

    Returns:
        m adjusted p-values in the given order, at most 1; NaN stays NaN and does not count as a comparison.

    Raises:
        ValueError: not a vector of numbers from 0 to 1 or NaN.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if raw.ndim != 1:
        raise ValueError(f"p-values have the shape {raw.shape}, give one per comparison")
    wrong = (raw < 0) | (raw > 1)
    if wrong.any():
        raise ValueError(f"{raw[wrong][0]} is no p-value, give numbers from 0 to 1")
    order = np.argsort(raw, kind="stable")  # NaN last
    order = order[: int((~np.isnan(raw)).sum())]
    adjusted = np.full(len(raw), np.nan)
    steps = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]


def per_class(classes: Int[np.ndarray, "E N"], correct: Int[np.ndarray, "E N"], query: int) -> dict[int, ClassAccuracy]:
    """Accuracy of each class over all the episodes it occurs in.

    Args:
        classes: (E, N), index in the data set of each episode's classes.
        correct: (E, N), how many of that class's queries were classified right.
        query: queries per class in each episode.

    Returns:
        For each class index that occurs, in ascending order, its accuracy and number of episodes. The interval takes
        queries as independent, so it is too narrow where images come up in many episodes.

    Raises:
        ValueError: the shapes differ, an index is negative, a class is twice in one episode, or a count is not within
            0 to query.
    """
    classes, correct = np.asarray(classes), np.asarray(correct)
    if classes.ndim != 2 or classes.shape != correct.shape:
        raise ValueError(
            f"classes of shape {classes.shape} and correct of shape {correct.shape} do not belong together, "
            "give both as (episodes, ways)"
        )
    if not ((correct >= 0) & (correct <= query)).all():
        raise ValueError(f"a count of correct queries is not within 0 to {query}, give counts per class")
    if not classes.size:
        return {}
    if classes.min() < 0:
        raise ValueError(f"class index {classes.min()} is negative, give indices from 0")
    if (np.diff(np.sort(classes, axis=1), axis=1) == 0).any():
        raise ValueError("an episode has one class twice, give each once")
    episodes = np.bincount(classes.ravel())
    successes = np.bincount(classes.ravel(), weights=correct.ravel())
    return {
        int(index): ClassAccuracy(Share(int(successes[index]), int(episodes[index]) * query), int(episodes[index]))
        for index in np.flatnonzero(episodes)
    }
