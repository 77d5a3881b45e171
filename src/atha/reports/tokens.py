"""Token maps as pictures: similarity over the photo, head and tail marked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from atha.documents import figures
from atha.explain import Block, Explanation, TokenMaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Show = Literal["both", "before", "after"]

HOW_TO_READ = (
    "Colour is the cosine similarity of each patch token to the text of the class, at the input of a block or summed "
    "over all blocks; the same colour is the same number in all maps of one photo. A ring marks head tokens "
    "(closest to any class), a cross tail tokens (farthest from all); summed, the larger the mark, the more blocks. "
    "Grey is what the model did not see."
)
_SIDE = 640  # pixels of a photo's long side, as drawn


def draw(explanation: Explanation, label: str, blocks: Sequence[Block], show: Show = "both") -> "Figure":
    """A row for each block, a column for each state, with one colour scale.

    Args:
        explanation: see `atha.Classifier.explain`.
        label: the class whose similarity is shown.
        blocks: numbers from 0, or ``sum``.
        show: which states.

    Raises:
        DataError: no such class or block.
    """
    states = {name: maps for name, maps in explanation.states.items() if show in ("both", name)}
    index = explanation.index(label)
    heats = [[maps.heat(index, block) for maps in states.values()] for block in blocks]
    low, high = float(np.min(heats)), float(np.max(heats))
    height = 0.9 + len(blocks) * 2.8 * _aspect(explanation)
    made, axes = figures.figure(len(blocks), len(states), height, 3.4 * len(states) + 0.6, squeeze=False)
    image: Any = None
    for row, block in enumerate(blocks):
        for column, (name, maps) in enumerate(states.items()):
            image = draw_panel(axes[row][column], explanation, maps, index, block, (low, high))
            axes[row][column].set_title(_title(name, maps, label, index, block), fontsize=9)
    words = "similarity, summed" if "sum" in blocks else "similarity"
    made.colorbar(image, ax=axes, shrink=0.8 / len(blocks), aspect=18, anchor=(0, 1), label=words)
    name = figures.shorten(Path(explanation.file).name, 50)
    made.suptitle(f"{name}: patches against '{figures.shorten(label, 40)}'", fontsize=10)
    moved = any(maps.moves for maps in states.values())
    note = "rings: head, crosses: tail" + ("" if moved else " (selected, not moved)")
    made.supxlabel(note, fontsize=9)
    return made


def draw_panel(
    axes: "Axes",
    explanation: Explanation,
    maps: TokenMaps,
    label: int,
    block: Block,
    limits: tuple[float, float],
    mark_size: float = 1.0,
) -> Any:
    """One map over its photo; returns the image that a colour bar belongs to."""
    photo = _grey(explanation.photo)
    height, width = explanation.photo.shape[:2]
    left, top, right, bottom = explanation.box
    axes.imshow(photo, extent=(0, width, height, 0), cmap="gray", vmin=-120, vmax=255, alpha=0.6)
    heat = axes.imshow(
        maps.heat(label, block),
        extent=(left, right, bottom, top),
        cmap="viridis",
        vmin=limits[0],
        vmax=limits[1],
        alpha=0.6,
        interpolation="nearest",
    )
    rows, columns = maps.head.shape[1:]
    xs = left + (np.arange(columns) + 0.5) * (right - left) / columns
    ys = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    most = maps.blocks if block == "sum" else 1
    full = mark_size * min(110.0, (110 / max(rows, columns)) ** 2)
    for counts, marker in zip(maps.marks(block), ("o", "x"), strict=True):
        there = np.nonzero(counts)
        sizes = full * counts[there] / most
        for colour, wide in (("black", 2.6), ("white", 1.2)):
            face: dict[str, Any] = {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"c": colour}
            axes.scatter(xs[there[1]], ys[there[0]], s=sizes, marker=marker, linewidths=wide, **face)
    axes.set_xlim(min(0, left), max(width, right))
    axes.set_ylim(max(height, bottom), min(0, top))
    axes.set_axis_off()
    return heat


def panel_png(
    explanation: Explanation, maps: TokenMaps, label: int, block: Block, limits: tuple[float, float]
) -> bytes:
    """One map as a picture without words, for a page that says them itself."""
    made, axes = figures.figure(height=1.8 * _aspect(explanation), width=1.8)
    made.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    draw_panel(axes, explanation, maps, label, block, limits, 0.7)
    return figures.png(made, dpi=105)


def _title(state: str, maps: TokenMaps, label: str, index: int, block: Block) -> str:
    where = f"all {maps.blocks} blocks" if block == "sum" else f"block {block}"
    words = f"{state}, {where}, p = {100 * maps.probabilities[index]:.0f}%"
    if block == "sum":
        return words
    return f"{words}\n{strength_words(maps, block)}"


def strength_words(maps: TokenMaps, block: int) -> str:
    """What a block does with the tokens it has selected, and how many of them are no patches."""
    pull, push = maps.pull[block], maps.push[block]
    words = f"pull {pull:+.3g}, push {push:+.3g}" if pull or push else "selected, not moved"
    prefix = [f"{count} CLS in {name}" for name, count in
              (("head", maps.prefix_head[block]), ("tail", maps.prefix_tail[block])) if count]  # fmt: skip
    return ", ".join([words, *prefix])


def _grey(photo: UInt8[np.ndarray, "H W 3"]) -> Float[np.ndarray, "h w"]:
    step = max(1, max(photo.shape[:2]) // _SIDE)
    return np.asarray(photo[::step, ::step].astype(float).mean(axis=2))


def _aspect(explanation: Explanation) -> float:
    """Height over width of what is drawn, kept within reason."""
    height, width = explanation.photo.shape[:2]
    left, top, right, bottom = explanation.box
    drawn = (max(height, bottom) - min(0, top)) / (max(width, right) - min(0, left))
    return float(np.clip(drawn, 0.3, 2.5))
