"""Everything about a benchmark, as a page: tables, paired differences with intervals, episodes one by one, time."""

from collections.abc import Sequence

import numpy as np

from atha.bench.compare import READ_ME as COMPARED
from atha.bench.compare import Comparison, compare, comparison_tables
from atha.bench.report import Arena, report_tables, rows
from atha.documents import figures
from atha.documents.page import Figure, Item, Page, Section, Text, Warn, to_html
from atha.documents.words import mean_percent, points
from atha.errors import DataError

#: Episodes below which a mean says little, and dots drawn in a scatter at most.
FEW, _DOTS = 30, 400
#: Scatter plots for each arena: the others are in the tables.
_SCATTERS = 6
#: Methods that others are compared with, if nobody says with which: the first of these that is there.
_BASELINES = ("lora", "linear-probe", "prototypes", "zero-shot")


def benchmark_report(found: Sequence[Arena], name: str, baseline: str | None = None) -> str:
    """One HTML file on the results of a store, self-contained.

    Args:
        found: see `atha.bench.report.arenas`.
        name: of the store, for the title.
        baseline: method that the others are compared with; by default the usual one of each arena.

    Raises:
        DataError: the baseline is nowhere to be compared with.
    """
    if baseline is not None:
        compare(found, baseline)  # says what there is, if it is not there
    with figures.style():
        compared = [_compared(arena, baseline) for arena in found]
        sections = [Section(arena.title, _arena(arena, made)) for arena, made in zip(found, compared, strict=True)]
        page = Page(
            f"Benchmark report: {name}",
            _lead(found, compared),
            [*sections, Section("How to read it", [Text(text) for text in (_EPISODES, COMPARED)])],
            "Made by atha bench report. Results are inductive: queries are classified one by one.",
        )
        return to_html(page)


_EPISODES = (
    "An episode is a small task drawn at random: some classes, a few support images of each to learn from, other "
    "images to classify. All methods get the same episodes, so methods are best compared episode by episode: some "
    "tasks are easy for all, and that cancels out in differences."
)


def _compared(arena: Arena, baseline: str | None) -> list[Comparison]:
    for name in [baseline] if baseline else [*_BASELINES, next(iter(arena.experiments))]:
        if name is None:
            continue
        try:
            return compare([arena], name)
        except DataError:
            continue  # the next one may be there
    return []


def _lead(found: Sequence[Arena], compared: Sequence[Sequence[Comparison]]) -> list[Text | Warn]:
    made: list[Text | Warn] = []
    for arena, pairs in zip(found, compared, strict=True):
        here = sorted(rows([arena]), key=lambda row: -row.accuracy.mean)
        best = here[0]
        text = (
            f"{arena.title}: the highest mean is that of {best.label}, {mean_percent(best.accuracy)}% over "
            f"{best.accuracy.n} episodes."
        )
        if pairs:
            counts = {verdict: sum(one.verdict == verdict for one in pairs) for verdict in ("better", "worse")}
            text += (
                f" Against {pairs[0].baseline}, paired: {counts['better']} of {len(pairs)} methods better, "
                f"{counts['worse']} worse, {len(pairs) - sum(counts.values())} not resolved."
            )
        made.append(Text(text))
        least = min(row.accuracy.n for row in here)
        if least < FEW:
            made.append(Warn(f"{arena.title}: only {least} episodes of some methods; their figures can change a lot."))
    return made


def _arena(arena: Arena, pairs: Sequence[Comparison]) -> list[Item]:
    items: list[Item] = [_accuracies(arena)]
    if pairs:
        items.append(_differences(pairs))
    items += [_scatter(arena, one) for one in _most_telling(pairs)]
    if len(pairs) > _SCATTERS:
        items.append(Text(f"Episodes are drawn for {_SCATTERS} of {len(pairs)} methods; the table has them all."))
    items.append(_time(arena))
    return [*items, *report_tables([arena], time=True), *comparison_tables(pairs)]


def _accuracies(arena: Arena) -> Figure:
    here = sorted(rows([arena]), key=lambda row: -row.accuracy.mean)
    made, axes = figures.figure(height=0.9 + 0.36 * len(here))
    means = [row.accuracy for row in here]
    figures.interval_plot(
        axes, [row.label for row in here], [100 * one.mean for one in means],
        [100 * one.low for one in means], [100 * one.high for one in means],
    )  # fmt: skip
    way = int(arena.definition["episodes"]["way"])
    axes.axvline(100 / way, color=figures.COLOURS[1], linestyle=":", linewidth=1.2)
    axes.set_xlabel("accuracy in %; dotted: chance")
    return Figure(
        made,
        "Accuracy",
        "Means over episodes with 95% intervals. They contain how much tasks differ from each other, so overlap of two "
        "lines says little about the difference of two methods: for that, see the paired differences.",
        "Mean accuracy: " + "; ".join(f"{row.label} {mean_percent(row.accuracy)}" for row in here) + ".",
        _few(min(one.n for one in means)),
    )


def _differences(pairs: Sequence[Comparison]) -> Figure:
    order = sorted(pairs, key=lambda one: -one.difference.mean)
    made, axes = figures.figure(height=0.9 + 0.36 * len(order))
    colours = {"better": figures.COLOURS[2], "worse": figures.COLOURS[4], "not resolved": figures.COLOURS[5]}
    ends = [(100 * one.difference.mean, 100 * one.difference.half) for one in order]
    figures.interval_plot(
        axes, [one.label for one in order], [mean for mean, _ in ends], [mean - half for mean, half in ends],
        [mean + half for mean, half in ends], [colours[one.verdict] for one in order],
    )  # fmt: skip
    axes.axvline(0, color=figures.COLOURS[5], linestyle="--", linewidth=1)
    base = order[0].baseline
    axes.set_xlabel(f"points against {figures.shorten(base)}")
    return Figure(
        made,
        f"Paired differences to {base}",
        f"Mean difference to {base} on the same episodes, with its 95% interval; right of the dashed line is better. "
        "Green and red are resolved after correction for the number of comparisons, grey is not: grey may still be a "
        "difference, but these episodes do not show it.",
        f"Points against {base}: "
        + "; ".join(f"{one.label} {points(one.difference.mean, one.difference.half)}, {one.verdict}" for one in order)
        + ".",
        _few(min(one.difference.n for one in order)),
    )  # fmt: skip


def _most_telling(pairs: Sequence[Comparison]) -> list[Comparison]:
    return sorted(pairs, key=lambda one: one.p_holm if np.isfinite(one.p_holm) else 2.0)[:_SCATTERS]


def _scatter(arena: Arena, pair: Comparison) -> Figure:
    one, other = arena.experiments[pair.label], arena.experiments[pair.baseline]
    keys = {key: index for index, key in enumerate(zip(other.episodes.tolist(), other.hashes, strict=True))}
    both = [
        (float(accuracy), float(other.accuracy[keys[key]]))
        for accuracy, key in zip(one.accuracy, zip(one.episodes.tolist(), one.hashes, strict=True), strict=True)
        if key in keys
    ]
    step = max(1, -(-len(both) // _DOTS))
    points = 100 * np.array(both[::step])
    made, axes = figures.figure(height=3.6, width=3.9)
    low, high = float(points.min()) - 4, float(points.max()) + 4
    axes.plot([low, high], [low, high], "--", color=figures.COLOURS[5], linewidth=1)
    # Accuracies are shares of few queries: without being spread a little, dots would hide each other.
    spread = np.random.default_rng(0).uniform(-0.35, 0.35, points.shape)
    axes.plot(
        points[:, 1] + spread[:, 1], points[:, 0] + spread[:, 0], "o", color=figures.COLOURS[0], alpha=0.45, mew=0
    )
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.set_xlabel(f"{figures.shorten(pair.baseline, 30)} (%)")
    axes.set_ylabel(f"{figures.shorten(pair.label, 30)} (%)")
    found = pair.difference
    shown = "" if step == 1 else f" One in {step} of {len(both)} episodes is drawn."
    return Figure(
        made,
        f"Episode by episode: {pair.label}",
        f"Each dot is an episode; above the dashed line {pair.label} is better than {pair.baseline} on it "
        f"({found.wins} episodes, {found.ties} ties, {found.losses} the other way).{shown} Dots are moved a little so "
        "that they do not hide each other.",
        f"{pair.label} against {pair.baseline} on {len(both)} episodes: {found.wins} wins, {found.ties} ties, "
        f"{found.losses} losses.",
        _few(len(both)),
    )


def _time(arena: Arena) -> Figure:
    here = sorted(rows([arena]), key=lambda row: float(np.median(row.experiment.seconds)))
    seconds = [np.maximum(row.experiment.seconds, 1e-6) for row in here]
    made, axes = figures.figure(height=0.9 + 0.36 * len(here))
    figures.interval_plot(
        axes, [row.label for row in here], [float(np.median(one)) for one in seconds],
        [float(np.quantile(one, 0.05)) for one in seconds], [float(np.quantile(one, 0.95)) for one in seconds],
    )  # fmt: skip
    figures.log_axis(axes)
    axes.set_xlabel("seconds per episode, fit and predict")
    return Figure(
        made,
        "Time",
        "Median seconds per episode, lines from the 5th to the 95th percentile; equal distances are equal factors. "
        "Times are those of the machine as it was: they compare only where it did nothing else.",
        "Median seconds per episode: "
        + "; ".join(f"{row.label} {np.median(one):.3g}" for row, one in zip(here, seconds, strict=True))
        + ".",
    )


def _few(count: int) -> str:
    return f"only {count} episodes: nothing should be concluded yet." if count < FEW else ""
