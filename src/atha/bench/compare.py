"""Paired comparison: methods against a baseline, episode by episode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atha.bench.report import Arena
from atha.bench.results import Experiment
from atha.documents.tables import Table
from atha.documents.words import mean_percent, p_value, points
from atha.errors import DataError
from atha.statistics import LEVEL, Mean, Paired, Verdict, by_test, holm, mean_interval, paired

READ_ME = (
    "Differences are paired by episode, in points of accuracy, ± 1.96 std / sqrt(n) (95%). p is of the paired t test, "
    f"corrected by Holm for the comparisons of a table; better and worse mean p < {LEVEL}. d is the mean difference "
    "over its standard deviation. Needed: episodes at which the interval of the difference seen leaves out 0, and "
    "those at which a difference of that size would be found four times in five."
)


@dataclass(frozen=True)
class Comparison:
    """One method against the baseline, on the episodes that both have.

    Attributes:
        arena: where.
        label: the method.
        baseline: what it is compared with.
        accuracy: of the method, on the common episodes.
        baseline_accuracy: of the baseline, on the same.
        difference: method minus baseline.
        p_holm: the p value, corrected for the comparisons in the arena.
        unpaired: episodes that only one of the two has.
    """

    arena: Arena
    label: str
    baseline: str
    accuracy: Mean
    baseline_accuracy: Mean
    difference: Paired
    p_holm: float
    unpaired: int

    @property
    def verdict(self) -> Verdict:
        """Whether the method differs from the baseline, after correction."""
        return by_test(self.difference.mean, self.p_holm)

    def to_dict(self) -> dict[str, Any]:
        """All figures in plain types; NaN becomes None."""
        found, episodes = self.difference, self.arena.definition["episodes"]
        values = {
            "dataset": self.arena.dataset,
            **{key: episodes[key] for key in ("way", "shot", "query", "seed")},
            "setting": self.arena.title,
            "method": self.label,
            "baseline": self.baseline,
            "episodes": found.n,
            "unpaired_episodes": self.unpaired,
            "accuracy": self.accuracy.mean,
            "baseline_accuracy": self.baseline_accuracy.mean,
            "difference": found.mean,
            "half_width95": found.half,
            "half_width95_student": found.t_half,
            "effect_size": found.effect_size,
            "wins": found.wins,
            "ties": found.ties,
            "losses": found.losses,
            "p": found.p_value,
            "p_holm": self.p_holm,
            "episodes_to_resolve": found.episodes_to_resolve,
            "episodes_for_80_percent_power": found.episodes_for_power,
            "verdict": self.verdict,
        }
        return {
            key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in values.items()
        }


def compare(found: Sequence[Arena], baseline: str) -> list[Comparison]:
    """Compare every method with a baseline, in each arena that has both.

    Args:
        found: see `atha.bench.report.arenas`.
        baseline: a method's name or label.

    Raises:
        DataError: no arena has the baseline and another method on the same episodes.
    """
    made: list[Comparison] = []
    for arena in found:
        base = _baseline(arena, baseline)
        if base is not None:
            made += _compare_in(arena, base)
    if not made:
        there = sorted({label for arena in found for label in arena.experiments})
        raise DataError(
            f"no method shares episodes with '{baseline}', the store has {', '.join(there) or 'no results'}: "
            "name one of these, or run both on the same data set, way, shot, query and seed"
        )
    return made


def comparison_tables(made: Sequence[Comparison]) -> list[Table]:
    """A table for each arena."""
    tables: dict[str, tuple[list[list[str]], list[str]]] = {}
    for one in made:
        found = one.difference
        body, notes = tables.setdefault(f"{one.arena.title}: against {one.baseline}", ([], []))
        numbers = (found.episodes_to_resolve, found.episodes_for_power)
        # The test is stricter than the interval, at few episodes and many comparisons.
        open_still = one.verdict == "not resolved"
        needed = [
            "-" if number is None else f"> {found.n}" if open_still and number <= found.n else str(number)
            for number in numbers
        ]
        body.append(
            [
                one.label,
                str(found.n),
                mean_percent(one.accuracy),
                f"{100 * one.baseline_accuracy.mean:.2f}",
                points(found.mean, found.half),
                "-" if np.isnan(found.effect_size) else f"{found.effect_size:+.2f}",
                f"{found.wins}/{found.ties}/{found.losses}",
                p_value(one.p_holm),
                " / ".join(needed),
                one.verdict,
            ]
        )
        if one.unpaired:
            notes.append(f"{one.label}: {one.unpaired} episodes are not used, only one of the two has them.")
    headers = [
        "method", "episodes", "accuracy", "baseline", "difference", "d", "wins/ties/losses", "p (Holm)", "needed",
        "verdict",
    ]  # fmt: skip
    return [Table(title, headers, body, notes) for title, (body, notes) in tables.items()]


def _baseline(arena: Arena, name: str) -> str | None:
    if name in arena.experiments:
        return name
    labels = [label for label, one in arena.experiments.items() if one.method == name]
    # With --set, lora is called lora+: where there is no other, it is meant.
    labels = labels or [label for label, one in arena.experiments.items() if one.method == f"{name}+"]
    if len(labels) > 1:
        raise DataError(f"'{name}' is several baselines in {arena.title}: name one of {'; '.join(labels)}")
    return labels[0] if labels else None


def _compare_in(arena: Arena, base: str) -> list[Comparison]:
    baseline = arena.experiments[base]
    pairs = {label: _paired(one, baseline) for label, one in arena.experiments.items() if label != base}
    pairs = {label: pair for label, pair in pairs.items() if len(pair[0])}
    differences = {label: paired(*pair) for label, pair in pairs.items()}
    corrected = holm([one.p_value for one in differences.values()])
    return [
        Comparison(
            arena,
            label,
            base,
            mean_interval(values),
            mean_interval(others),
            differences[label],
            p_holm,
            len(arena.experiments[label].episodes) + len(baseline.episodes) - 2 * len(values),
        )
        for (label, (values, others)), p_holm in zip(pairs.items(), corrected, strict=True)
    ]


def _paired(one: Experiment, other: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies on the episodes that both have: the same index, and the same content."""
    keys = [list(zip(each.episodes.tolist(), each.hashes, strict=True)) for each in (one, other)]
    places = {key: index for index, key in enumerate(keys[1])}
    mine = [index for index, key in enumerate(keys[0]) if key in places]
    theirs = [places[keys[0][index]] for index in mine]
    return one.accuracy[mine], other.accuracy[theirs]
