"""What the study saw inside the model, as figures and sentences: similarities, CKA, gaps, strengths."""

import numpy as np

from atha.documents import figures
from atha.documents.page import Bullets, Figure, Item, Warn
from atha.statistics import Paired, by_test, paired, t_interval
from atha.study.inside import PRETRAINED
from atha.study.tail import FEW_INSIDE, Found
from atha.study.variants import NONE, PUSH_ONLY

FINE_TUNED = "fine-tuned, no alignment"


def _names(found: Found) -> dict[str, str]:
    """State -> what the figures call it, in their order."""
    known = {PRETRAINED: PRETRAINED, NONE: FINE_TUNED, PUSH_ONLY: PUSH_ONLY}
    return {state: known.get(state, f"full, {state}") for state in found.inside}


def inside_items(found: Found) -> list[Item]:
    """Figures of the states, and the sentences; to be made within `atha.documents.figures.style`."""
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
        [one.low for one in means.values()], [one.high for one in means.values()],
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
        [one.low for one in means.values()], [one.high for one in means.values()],
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
    return {"better": up, "worse": down}.get(by_test(one.mean, one.p_value), "not resolved")
