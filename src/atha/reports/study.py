"""The study of the tail as figures and sentences: what was found, and whether the paper's finding holds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from atha.documents import figures
from atha.documents.page import Bullets, Figure, Grid, Item, Page, Section, Text, Warn, to_html, to_markdown
from atha.files import write_bytes, write_whole
from atha.statistics import Paired, paired, t_interval
from atha.study.inside import PRETRAINED
from atha.study.tail import FEW_EPISODES, FEW_INSIDE, Design, Found, Point
from atha.study.variants import NONE, PUSH_ONLY, Series

FOOT = (
    "Made by atha study tail. Intervals are 95%, over episodes: of accuracy as published (1.96 standard errors), "
    "inside the model, where episodes are few, by Student's t."
)
FINE_TUNED = "fine-tuned, no alignment"


def write_study(design: Design, found: Sequence[Found], folder: Path) -> list[Path]:
    """Write study.html, study.md and the figures as SVG files.

    Args:
        design: what was tried.
        found: per data set.
        folder: where; files of an earlier writing are replaced.

    Returns:
        The files.
    """
    written: list[Path] = []

    def save(figure: Figure) -> str:
        name = f"figures/{len(written) + 1:02d}-{''.join(c if c.isalnum() else '-' for c in figure.title.lower())}.svg"
        write_bytes(folder / name, figures.save(figure.drawing, Path(name)), overwrite=True)
        written.append(folder / name)
        return name

    with figures.style():
        page = study_page(design, found)
        write_whole(folder / "study.html", to_html(page), overwrite=True)
        write_whole(folder / "study.md", to_markdown(page, save), overwrite=True)
    return [folder / "study.html", folder / "study.md", *written]


def study_page(design: Design, found: Sequence[Found]) -> Page:
    """The page; to be made and used within `atha.documents.figures.style`."""
    lead: list[Text | Warn] = [
        Text(
            f"Does pushing tail tokens away from the class texts help? Variants of the recipe {design.base.name} on "
            "the same episodes, and what they do inside the model."
        ),
        *(Text(f"{one.dataset}: {verdict(one)}") for one in found),
    ]
    sections = [
        Section(
            "What was done",
            [
                Text(
                    "Accuracy: every variant is trained on the support images of the same episodes and classifies the "
                    "same query images. In the variants the strengths are fixed, the same at every block and never "
                    "learned, and there is no pull but where every token is pulled; the recipe itself "
                    f"({design.base.name}) learns its strengths. Differences are paired by episode, against LoRA "
                    "without alignment; p is of the paired t test, corrected by Holm for the variants of a data set."
                ),
                Text(
                    "A positive push moves tail tokens (lowest similarity to any class text) away from the text they "
                    "are farthest from; a negative one moves them towards it."
                ),
            ],
        )
    ]
    for one in found:
        sections += [Section(f"{one.dataset}: accuracy", _accuracy(one))]
        if one.inside:
            sections += [Section(f"{one.dataset}: inside the model", _inside(one))]
    return Page("Study of the tail", lead, sections, FOOT)


def verdict(found: Found) -> str:
    """Whether the finding, that pushing the tail helps and pulling it does not, is seen."""
    pushed = [point for x, point in found.series("push") if x > 0 and point.difference]
    pulled = [point for x, point in found.series("push") if x < 0 and point.difference]
    if not pushed:
        return "no push was compared with doing nothing."
    best = max(pushed, key=lambda point: point.difference.difference.mean if point.difference else 0)
    better = [point for point in pushed if point.difference and point.difference.verdict == "better"]
    worse = [point for point in pushed if point.difference and point.difference.verdict == "worse"]
    pulled_better = [point for point in pulled if point.difference and point.difference.verdict == "better"]
    if better and not pulled_better and not worse:
        words = "the finding holds: a push of the tail raises accuracy, and no pull of it does"
    elif better:
        words = "the finding holds in part: a push raises accuracy, but so does a pull, or another push lowers it"
    elif worse:
        words = "the finding does not hold: no push raises accuracy, and one lowers it"
    else:
        words = "the finding is not seen: no push of the tail can be told from doing nothing"
    p = best.difference.p_holm if best.difference else np.nan
    corrected = "" if np.isnan(p) else f" (p = {p:.2g} after correction for the number of variants)"
    return (
        f"{words}. The best push, {best.variant.name}, differs from no alignment by {_difference(best)} points"
        f"{corrected}."
    )


def _difference(point: Point) -> str:
    if point.difference is None:
        return "0"
    one = point.difference.difference
    return f"{100 * one.mean:+.2f} ± {100 * one.half:.2f}"


def _accuracy(found: Found) -> list[Item]:
    least = min(point.accuracy.n for point in found.points)
    warning = (
        f"only {least} episodes: differences below about {_visible(found):.1f} points cannot be told from nothing."
        if least < FEW_EPISODES
        else ""
    )
    items: list[Item] = [
        _axis(
            found, "push", "Sign and size of the tail push", "push of the tail (negative: pull)",
            lambda x, point: f"{x:+g}" if x else "0", warning,
        ),
        _axis(
            found, "ratio", "Share of tokens that are pushed", "from pulling every token to pushing every token",
            _ratio_label, warning,
        ),
    ]  # fmt: skip
    rows = []
    for point in found.points:
        one = point.difference
        rows.append(
            [
                point.variant.name,
                str(point.accuracy.n),
                f"{100 * point.accuracy.mean:.2f} ± {100 * point.accuracy.half:.2f}",
                "-" if one is None else _difference(point),
                "-" if one is None or np.isnan(one.p_holm) else f"{one.p_holm:.2g}",
                "-" if one is None else one.verdict,
            ]
        )
    headers = ["variant", "episodes", "accuracy", "against none", "p (Holm)", "verdict"]
    items.append(Grid(found.title, headers, rows, ["Accuracy in %, differences in points, ± 95% over episodes."]))
    items.append(Text(f"{found.dataset}: {verdict(found)}"))
    return items


def _ratio_label(x: float, point: Point) -> str:
    if x < 0:
        return "pull\nall"
    return f"push\n{100 * x:g}%" if x else "none"


def _visible(found: Found) -> float:
    halves = [100 * point.difference.difference.half for point in found.points if point.difference]
    return float(np.median(halves)) if halves else float("nan")


def _axis(
    found: Found, series: Series, title: str, label: str, name: Callable[[float, Point], str], warning: str
) -> Figure:
    rows = found.series(series)
    made, axes = figures.figure(height=2.9)
    axes.axhline(0, color=figures.COLOURS[5], linewidth=1, linestyle="--")
    words = []
    for place, (x, point) in enumerate(rows):
        colour = figures.COLOURS[5] if x == 0 else figures.COLOURS[0] if x > 0 else figures.COLOURS[1]
        if point.difference is None:
            axes.plot([place], [0], "o", color=colour)
            continue
        one = point.difference.difference
        axes.errorbar([place], [100 * one.mean], [100 * one.half], fmt="o" if x > 0 else "s", color=colour, capsize=3)
        words.append(f"{point.variant.name} {_difference(point)}")
    axes.set_xticks(range(len(rows)), [name(x, point) for x, point in rows])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set_xlabel(label)
    axes.set_ylabel("points against none")
    return Figure(
        made,
        title,
        "Each mark is the mean difference of accuracy to LoRA without alignment on the same episodes, each line its "
        "95% interval. A line that crosses 0 says that the two cannot be told apart. Squares pull, circles push.",
        f"{title}, points against no alignment: {'; '.join(words) or 'nothing compared'}.",
        warning,
    )


def _names(found: Found) -> dict[str, str]:
    """State -> what the figures call it, in their order."""
    known = {PRETRAINED: PRETRAINED, NONE: FINE_TUNED, PUSH_ONLY: PUSH_ONLY}
    return {state: known.get(state, f"full, {state}") for state in found.inside}


def _inside(found: Found) -> list[Item]:
    count = min(len(rows) for rows in found.inside.values())
    warning = (
        f"only {count} episodes: differences between states are hardly more than a hint." if count < FEW_INSIDE else ""
    )
    items: list[Item] = [_curves(found, warning), _train_query(found, warning)]
    if found.with_source:
        items.append(_cka(found, warning))
    else:
        items.append(Warn("No source images were given (--source), so there is no CKA between domains here."))
    items += [_gap(found, warning), *_strengths(found, warning), Bullets(_sentences(found))]
    return items


def _curves(found: Found, warning: str) -> Figure:
    blocks = len(next(iter(found.inside.values()))[0]["curves"]["target"])
    shown = (blocks // 2, blocks - 1)
    made, both = figures.figure(2, 1, height=5.4, sharex=True, sharey=True)
    lines = [(f"{PRETRAINED}, source", PRETRAINED, "source")] if found.with_source else []
    lines += [
        (f"{words}, target" if state == PRETRAINED else words, state, "target")
        for state, words in _names(found).items()
    ]
    ends = []
    for axes, block in zip(both, shown, strict=True):
        for index, (words, state, side) in enumerate(lines):
            rows = np.array([row["curves"][side][block] for row in found.inside[state]])
            bands = [t_interval(column) for column in rows.T]
            mean = np.array([one.mean for one in bands])
            half = np.nan_to_num([one.half for one in bands])
            xs = np.linspace(0, 100, rows.shape[1])
            colour = figures.COLOURS[index % len(figures.COLOURS)]
            axes.plot(xs, mean, ("-", "--", "-.", ":", "-")[index % 5], color=colour, label=words)
            axes.fill_between(xs, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
            if block == shown[1]:
                ends.append(f"{words} {mean[0]:+.2f} to {mean[-1]:+.2f}")
        axes.set_title(f"input of block {block}")
        axes.set_ylabel("similarity")
    both[1].set_xlabel("patches, tail to head (%)")
    both[0].legend(fontsize=7.5)
    return Figure(
        made,
        "Similarity of patches to class texts, sorted",
        "For each image the patches are sorted from the least similar (tail, left) to the most (head, right); lines "
        "are means over images and episodes, bands 95% over episodes. A line that is higher everywhere says that all "
        "patches were drawn to the texts; one that is lower on the left alone says that only the tail was kept away.",
        f"Sorted similarities at the last block, tail to head: {'; '.join(ends)}.",
        warning,
    )


def _train_query(found: Found, warning: str) -> Figure:
    names = _names(found)
    made, both = figures.figure(2, 1, height=1.6 + 0.7 * len(names))
    words = []
    for axes, what, scale in zip(both, ("accuracy", "loss"), (100, 1), strict=True):
        for row, (state, name) in enumerate(reversed(list(names.items()))):
            means = {side: found.mean(state, what, side) for side in ("support", "query")}
            xs = [scale * means[side].mean for side in ("support", "query")]
            axes.plot(xs, [row, row], color=figures.COLOURS[5], linewidth=1)
            for side, marker, colour, x in zip(means, "so", (figures.COLOURS[1], figures.COLOURS[0]), xs, strict=True):
                axes.errorbar([x], [row], xerr=[scale * means[side].half], fmt=marker, color=colour, capsize=2,
                              label=side if row == 0 else None)  # fmt: skip
            if what == "accuracy":
                words.append(f"{name} {xs[0]:.1f}% on support and {xs[1]:.1f}% on query")
        axes.set_yticks(range(len(names)), [figures.shorten(name, 26) for name in reversed(names.values())])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("accuracy in %" if what == "accuracy" else "loss")
    both[1].legend(fontsize=8)
    return Figure(
        made,
        "Learned and unseen images",
        "Squares are the images that were learned from, circles those that were not; the distance between the two is "
        "how far what was learned does not carry over. Lines at the marks are 95% over episodes.",
        f"Accuracy: {'; '.join(words)}.",
        warning,
    )


def _cka(found: Found, warning: str) -> Figure:
    names = _names(found)
    key = "source and target"
    made, axes = figures.figure(height=0.9 + 0.42 * len(names))
    means = {state: found.mean(state, "cka", key) for state in names}
    figures.interval_plot(
        axes, list(names.values()), [one.mean for one in means.values()],
        [one.mean - one.half for one in means.values()], [one.mean + one.half for one in means.values()],
    )  # fmt: skip
    ceilings = {side: found.mean(PRETRAINED, "cka", f"two halves of the {side}").mean for side in ("source", "target")}
    for side, style in (("source", ":"), ("target", "--")):
        axes.axvline(ceilings[side], color=figures.COLOURS[1], linestyle=style, linewidth=1.2)
    axes.set_xlabel("CKA of source and target features")
    return Figure(
        made,
        "CKA between source and target",
        "How alike the model's features go together on source images and on target images (linear, debiased CKA over "
        "the features; 1: the same, 0: nothing in common). Fine-tuning that overfits is said to lower it. Vertical "
        "lines show what two halves of the same images give in the pre-trained model: dotted the source, dashed the "
        "target; more cannot be expected.",
        "CKA between source and target: "
        + "; ".join(f"{names[state]} {one.mean:.3f} ± {one.half:.3f}" for state, one in means.items())
        + f"; halves of the source {ceilings['source']:.3f}, of the target {ceilings['target']:.3f}.",
        warning,
    )


def _gap(found: Found, warning: str) -> Figure:
    names = _names(found)
    means = {state: found.mean(state, "gap") for state in names}
    made, axes = figures.figure(height=0.9 + 0.42 * len(names))
    figures.interval_plot(
        axes, list(names.values()), [one.mean for one in means.values()],
        [one.mean - one.half for one in means.values()], [one.mean + one.half for one in means.values()],
    )  # fmt: skip
    axes.set_xlabel("distance of the means, images and texts")
    return Figure(
        made,
        "Modality gap",
        "How far query images lie from class texts as wholes, all at length 1 (0: same place, 2: opposite). Less is "
        "not better by itself: classes are told apart by what differs between texts.",
        "Modality gap: " + "; ".join(f"{names[s]} {one.mean:.3f} ± {one.half:.3f}" for s, one in means.items()) + ".",
        warning,
    )


def _strengths(found: Found, warning: str) -> list[Item]:
    items: list[Item] = []
    for state, rows in found.inside.items():
        if not rows[0]["strengths"]["step"]:
            continue
        steps = rows[0]["strengths"]["step"]
        shown = ("push",) if state == PUSH_ONLY else ("pull", "push")  # a pull of no tokens is none
        made, both = figures.figure(len(shown), 1, height=0.6 + 2.2 * len(shown), sharex=True, squeeze=False)
        ends = []
        for axes, name in zip(both[:, 0], shown, strict=True):
            values = np.array([row["strengths"][name] for row in rows])
            mean = values.mean(axis=0)
            if name == "pull":  # one block starts far from the others, so change is what can be seen of all
                mean = mean - mean[0]
            for block in range(mean.shape[1]):
                axes.plot(steps, mean[:, block], color=_block_colour(block, mean.shape[1]), linewidth=1.2,
                          label=f"block {block}" if block in (0, mean.shape[1] - 1) else None)  # fmt: skip
            axes.set_ylabel("change of the pull" if name == "pull" else "push")
            ends.append(f"{name} at the end {', '.join(f'{value:+.3g}' for value in values.mean(axis=0)[-1])}")
        both[0, 0].legend(fontsize=8)
        both[-1, 0].set_xlabel("step")
        words = _names(found)[state]
        items.append(
            Figure(
                made,
                f"Strengths over training: {words}",
                "Each line is one vision block, from the first (dark) to the last (bright), mean over episodes: how "
                "the pull changed since the first step, and the push itself; below 0 the push pulls the tail.",
                f"{words}: {'; '.join(ends)}.",
                warning,
            )
        )
    return items


def _block_colour(block: int, blocks: int) -> tuple[float, float, float, float]:
    from matplotlib import colormaps

    return colormaps["viridis"](0.15 + 0.65 * block / max(1, blocks - 1))


def _sentences(found: Found) -> list[str]:
    """The paper's claims about the inside, each with what was measured, paired by episode."""
    full = list(found.inside)[-1]
    made = []
    for end, where in ((0, "tail"), (-1, "head")):
        change = _paired(found, NONE, PRETRAINED, end)
        made.append(
            f"Fine-tuning changes the similarity of the {where}-most patch at the last block by {_plus(change)} "
            f"({_told(change, 'raised', 'lowered')})."
        )
    lower = _paired(found, PUSH_ONLY, NONE, 0)
    made.append(
        f"Against fine-tuning, the push alone changes that of the tail-most patch by {_plus(lower)} "
        f"({_told(lower, 'raised', 'lowered')})."
    )
    if found.with_source:
        for one, other in ((NONE, PRETRAINED), (PUSH_ONLY, NONE), (full, NONE)):
            values = [found.values(state, "cka", "source and target") for state in (one, other)]
            change = paired(*values)
            names = _names(found)
            made.append(
                f"CKA between source and target, {names[one]} minus {names[other]}: {_plus(change)} "
                f"({_told(change, 'higher', 'lower')})."
            )
    for state in list(found.inside)[1:]:
        gaps = found.values(state, "accuracy", "support") - found.values(state, "accuracy", "query")
        mean = t_interval(gaps)
        made.append(
            f"{_names(found)[state]}: {100 * mean.mean:.1f} ± {100 * mean.half:.1f} points more on support than on "
            "query images."
        )
    return made


def _paired(found: Found, one: str, other: str, end: int) -> Paired:
    values = [[row["curves"]["target"][-1][end] for row in found.inside[state]] for state in (one, other)]
    return paired(values[0], values[1])


def _plus(one: Paired) -> str:
    return f"{one.mean:+.3f} ± {one.t_half:.3f}"


def _told(one: Paired, up: str, down: str) -> str:
    if not one.p_value < 0.05:
        return "not resolved"
    return up if one.mean > 0 else down
