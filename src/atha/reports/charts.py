"""The figures of an adaptation's report; each is drawn within `atha.documents.figures.style`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from atha.calibration import BINS, calibration_parts
from atha.documents import figures
from atha.documents.page import Figure
from atha.evaluation import Evaluation
from atha.statistics import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Fewer test images than this say little of an accuracy, and fewer than this little of one class's.
FEW_IMAGES, FEW_OF_CLASS = 100, 10
#: Confusion matrices of more classes have no numbers in their cells.
_NUMBERED = 20


def accuracy(evaluations: Mapping[str, Evaluation], own: str) -> Figure:
    """Methods with their intervals; ``own`` is the one that the report is on."""
    shares = {name: result.share for name, result in evaluations.items()}
    made, axes = figures.figure(height=0.9 + 0.42 * len(shares))
    spans = np.array([share.interval for share in shares.values()])
    figures.interval_plot(
        axes,
        list(shares),
        [100 * share.value for share in shares.values()],
        list(100 * spans[:, 0]),
        list(100 * spans[:, 1]),
        [figures.COLOURS[0] if name == own else figures.COLOURS[5] for name in shares],
    )
    classes = len(next(iter(evaluations.values())).classes)
    axes.axvline(100 / classes, color=figures.COLOURS[1], linestyle=":", linewidth=1.2)
    axes.set_xlabel("accuracy in %; dotted: chance")
    total = next(iter(shares.values())).total
    return Figure(
        made,
        "Accuracy on the test images",
        "Each dot is the share of test images classified right, each line its 95% interval (Wilson): other test images "
        "of the same kind would mostly give a value on the line. Methods on the same images compare better by the "
        "paired sentences below than by overlap of lines.",
        "Accuracy with 95% intervals: " + "; ".join(f"{name} {share}" for name, share in shares.items()) + ".",
        f"only {total} test images: the lines are wide, and small differences cannot be told." if total < FEW_IMAGES
        else "",
    )  # fmt: skip


def per_class(result: Evaluation) -> Figure:
    """Each class's recall with its interval."""
    shares = {name: share for name, share in result.per_class.items() if share.total}
    order = sorted(shares, key=lambda name: shares[name].value)
    spans = np.array([shares[name].interval for name in order])
    made, axes = figures.figure(height=0.9 + 0.26 * len(order))
    figures.interval_plot(
        axes,
        order,
        [100 * shares[name].value for name in order],
        list(100 * spans[:, 0]),
        list(100 * spans[:, 1]),
    )
    axes.set_xlabel("of its test images classified right, in %")
    few = [name for name in order if shares[name].total < FEW_OF_CLASS]
    return Figure(
        made,
        "Accuracy by class",
        "Share of each class's test images that was classified right, with 95% intervals, the worst class on top.",
        "Accuracy by class, worst first: " + "; ".join(f"{name} {shares[name]}" for name in order[:12]) + ".",
        _few_sentence(few),
    )


def _few_sentence(few: Sequence[str]) -> str:
    if not few:
        return ""
    names = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
    return f"fewer than {FEW_OF_CLASS} test images of {names}: nothing can be concluded of single classes there."


def confusion(result: Evaluation) -> Figure:
    """Rows are true classes, columns predicted ones, in shares of a row."""
    matrix = result.confusion
    count = len(matrix)
    rows = matrix / matrix.sum(axis=1, keepdims=True).clip(1)
    width = float(np.clip(2.2 + 0.36 * count, figures.WIDTH, 9))
    made, axes = figures.figure(height=width * 0.86, width=width)
    image = axes.imshow(rows, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    names = [figures.shorten(name, 18) for name in result.classes]
    size = 8.5 if count <= _NUMBERED else max(3.0, 170 / count)
    axes.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(count), names, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if count <= _NUMBERED:
        for row, column in np.argwhere(matrix > 0):
            ink = "white" if rows[row, column] > 0.55 else "#1b1f24"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=ink, fontsize=size)
    made.colorbar(image, ax=axes, shrink=0.7, label="share of the row")
    worst = confusions(result)[:3]
    return Figure(
        made,
        "Confusion",
        "Rows are true classes, columns what the adapted model says; a dark diagonal is good, a dark cell beside it is "
        "a pair of classes that is mixed up. Numbers are images.",
        "Confusion matrix of the adapted model. Most frequent mistakes: "
        + ("; ".join(f"{true} taken for {said}, {times} images" for true, said, times, _ in worst) or "none")
        + ".",
        _few_sentence([name for name, share in result.per_class.items() if share.total < FEW_OF_CLASS]),
    )


def confusions(result: Evaluation) -> list[tuple[str, str, int, int]]:
    """(true class, predicted class, images, images of the true class), most frequent first."""
    matrix = result.confusion
    pairs = [(int(matrix[i, j]), i, j) for i, j in np.argwhere(matrix > 0) if i != j]
    return [
        (result.classes[i], result.classes[j], times, int(matrix[i].sum()))
        for times, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))
    ]


def reliability(result: Evaluation) -> Figure:
    """Confidence against accuracy."""
    count, confidence, correct = calibration_parts(result.probabilities, result.truth)
    there = count > 0
    shares = [Share(int(right), int(total)) for right, total in zip(correct[there], count[there], strict=True)]
    xs = confidence[there] / count[there]
    ys = np.array([share.value for share in shares])
    spans = np.array([share.interval for share in shares])
    made, (axes, below) = figures.figure(2, 1, height=4.0, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], "--", color=figures.COLOURS[5], linewidth=1)
    axes.vlines(xs, spans[:, 0], spans[:, 1], color=figures.COLOURS[0], linewidth=2)
    axes.plot(xs, ys, "o-", color=figures.COLOURS[0], linewidth=1)
    axes.set_ylabel("classified right")
    axes.set_ylim(-0.02, 1.02)
    below.bar((np.arange(BINS) + 0.5) / BINS, count, width=0.9 / BINS, color=figures.COLOURS[5])
    below.set_ylabel("images")
    below.set_xlabel("probability of the predicted class")
    below.set_xlim(0, 1)
    gap = float((confidence - correct).sum() / count.sum())
    tendency = "too sure of itself" if gap > 0.02 else "too modest" if gap < -0.02 else "right on the whole"
    return Figure(
        made,
        "Reliability",
        "Dots are groups of images with about the same probability of the predicted class, lines their 95% intervals. "
        "On the dashed line a probability means what it says; below it the model is too sure, above it too modest. The "
        f"bars show how many images a dot stands for. Here the model is {tendency} (mean probability minus accuracy "
        f"{100 * gap:+.1f} points); calibration error {result.calibration_error:.3f}, Brier score {result.brier:.3f}.",
        f"Reliability diagram in {there.sum()} groups; mean probability minus accuracy {100 * gap:+.1f} points, "
        f"calibration error {result.calibration_error:.3f}.",
        f"only {len(result.truth)} images in {there.sum()} groups: the dots are uncertain, and the calibration error "
        "is overestimated." if len(result.truth) < 200 else "",
    )  # fmt: skip


def losses(values: Sequence[float]) -> Figure:
    """The loss of each step."""
    made, axes = figures.figure(height=2.6)
    axes.plot(range(1, len(values) + 1), values, color=figures.COLOURS[0])
    axes.set_xlabel("step")
    axes.set_ylabel("loss on the support set")
    axes.set_ylim(bottom=min(0.0, *values))
    return Figure(
        made,
        "Training",
        "The loss on the support images at each step; the last step is the one that counts. A curve that still falls "
        "may want more steps; one near 0 says that the support set is learned by heart, and nothing of other images.",
        f"Loss over {len(values)} steps, from {values[0]:.3f} to {values[-1]:.3f}.",
    )


def strengths(start: tuple[Sequence[float], Sequence[float]], end: tuple[Sequence[float], Sequence[float]]) -> Figure:
    """Pull and push of each block, before and after training."""
    made, rows = figures.figure(2, 1, height=3.8, sharex=True)
    for axes, name, first, last in zip(rows, ("pull", "push"), start, end, strict=True):
        blocks = np.arange(len(first))
        axes.axhline(0, color=figures.COLOURS[5], linewidth=0.8)
        axes.plot(blocks - 0.08, first, "o", color=figures.COLOURS[5], label="at the start", markersize=6, mfc="none")
        axes.plot(blocks + 0.08, last, "s", color=figures.COLOURS[0], label="after training")
        axes.set_ylabel(name)
        _mark_blocks(axes, len(first))
    rows[0].legend()
    rows[1].set_xlabel("vision block")
    moved = max(abs(np.array(end) - np.array(start)).max(axis=1))
    return Figure(
        made,
        "Alignment strengths",
        "Pull moves head tokens towards the text of their nearest class, push moves tail tokens away from that of "
        "their farthest; a negative value does the opposite, 0 nothing. Circles are the recipe's values, squares what "
        f"training made of them; the largest change is {moved:.3g}.",
        "Pull per block after training: " + _numbers(end[0]) + "; push: " + _numbers(end[1]) + ".",
    )


def _mark_blocks(axes: "Axes", count: int) -> None:
    axes.set_xticks(range(0, count, max(1, count // 12)))


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+.3g}" for value in values)
