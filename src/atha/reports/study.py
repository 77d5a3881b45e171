"""The study of the tail as a page: accuracy by push and ratio, and whether the paper's finding holds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from atha.documents import figures
from atha.documents.page import Figure, Item, Page, Section, Text, Warn, to_html, to_markdown
from atha.documents.tables import Table
from atha.documents.words import mean_percent, p_value, points
from atha.files import write_bytes, write_whole
from atha.reports.study_inside import inside_items
from atha.study.tail import FEW_EPISODES, Design, Found, Point
from atha.study.variants import Series

FOOT = (
    "Made by atha study tail. Intervals are 95%, over episodes: of accuracy as published (1.96 standard errors), "
    "inside the model, where episodes are few, by Student's t."
)


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
            sections += [Section(f"{one.dataset}: inside the model", inside_items(one))]
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
    corrected = "" if np.isnan(p) else f" (p = {p_value(p)} after correction for the number of variants)"
    return (
        f"{words}. The best push, {best.variant.name}, differs from no alignment by {_difference(best)} points"
        f"{corrected}."
    )


def _difference(point: Point) -> str:
    if point.difference is None:
        return "0"
    return points(point.difference.difference.mean, point.difference.difference.half)


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
                mean_percent(point.accuracy),
                "-" if one is None else _difference(point),
                "-" if one is None else p_value(one.p_holm),
                "-" if one is None else one.verdict,
            ]
        )
    headers = ["variant", "episodes", "accuracy", "against none", "p (Holm)", "verdict"]
    items.append(Table(found.title, headers, rows, ["Accuracy in %, differences in points, ± 95% over episodes."]))
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
