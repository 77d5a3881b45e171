"""Matplotlib as the reports use it: inline SVG that follows the page's light or dark colours, and files for print.

Text in figures is plain text everywhere: class and file names are never read as formulas or markup.
"""

import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from atha.documents.escaping import svg, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Each has a contrast of 3 or more with both pages, light and dark.
COLOURS = ("#2d7dd2", "#d1670b", "#0f9170", "#a558c8", "#d4475e", "#7d8288")
#: Told apart without colour too.
MARKERS = ("o", "s", "^", "D", "v", "P")
#: What matplotlib draws text and axes in; becomes the page's own colour in inline SVG.
_INK, _PRINT_INK = "#010203", "#1b1f24"
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
#: Natural width of a figure in inches: readable on a phone, where it is scaled down a little.
WIDTH = 4.8

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, with the reader's fonts for all scripts
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.18,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "savefig.facecolor": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_INKED = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")


def prepare() -> None:
    """Import matplotlib without leaving a file behind: it would keep a list of fonts in the user's home."""
    import sys

    if "matplotlib" in sys.modules:
        return
    before = os.environ.get("MPLCONFIGDIR")
    with tempfile.TemporaryDirectory(prefix="atha-", ignore_cleanup_errors=True) as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            import matplotlib.backends.backend_agg
            import matplotlib.backends.backend_svg
            import matplotlib.figure
            import matplotlib.font_manager  # noqa: F401 - looks for fonts when it is imported
        finally:
            if before is None:
                del os.environ["MPLCONFIGDIR"]
            else:
                os.environ["MPLCONFIGDIR"] = before


@contextmanager
def style() -> Iterator[None]:
    """Draw and save figures within it; the user's own settings of matplotlib come back afterwards."""
    prepare()
    import matplotlib as mpl
    from cycler import cycler

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        settings: Any = _STYLE | dict.fromkeys(_INKED, _INK)
        mpl.rcParams.update(settings)
        mpl.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # the reader's fonts may have it
        yield


def figure(
    rows: int = 1, columns: int = 1, height: float = 3.0, width: float = WIDTH, **options: Any
) -> "tuple[Figure, Any]":
    """A figure and its axes, as ``pyplot.subplots`` gives them, known to no window."""
    prepare()
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(rows, columns, **options)


def inline_svg(made: "Figure", alt: str, number: str) -> str:
    """SVG to be put into a page: its ink is the page's, its ids are its own, and it says what it shows.

    Args:
        made: drawn within `style`.
        alt: what a reader who does not see it is told.
        number: of the figure in its page; keeps its ids apart from those of other figures.
    """
    root = ElementTree.fromstring(_saved(made, "svg"))  # noqa: S314 - see above
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):  # a style would hold for the whole page
                parent.remove(child)
    used = {
        value.rpartition("#")[2].rstrip(")")
        for element in root.iter()
        for value in element.attrib.values()
        if value.startswith("#") or "url(#" in value
    }
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                if value in used:
                    element.set(name, f"{number}-{value}")
                else:
                    del element.attrib[name]
            elif value.startswith("#") and value[1:] in used:
                element.set(name, f"#{number}-{value[1:]}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{number}-"))
            elif _INK in value:
                element.set(name, value.replace(_INK, "currentColor"))
            elif name == "style" and element.tag == f"{{{_SVG}}}text" and "fill" not in value:
                element.set(name, f"{value}; fill: currentColor")
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.set("style", f"max-width: {width * 4 / 3:.0f}px; stroke-linejoin: round; stroke-linecap: butt")
    root.set("role", "img")
    root.set("aria-label", svg(alt))
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def png(made: "Figure", dpi: int = 110) -> bytes:
    """PNG with a transparent ground."""
    return _saved(made, "png", dpi=dpi)


def save(made: "Figure", path: Path, dpi: int = 150) -> bytes:
    """The bytes of a file for print, on white, in the format of the path's ending."""
    for text in _inked(made):
        text.set_color(_PRINT_INK)
    kind = path.suffix.lower().removeprefix(".")
    content = _saved(made, kind, dpi=dpi, facecolor="white")
    return content.replace(_INK.encode(), _PRINT_INK.encode()) if kind == "svg" else content


def _inked(made: "Figure") -> Iterator[Any]:
    from matplotlib.text import Text

    for artist in made.findobj(Text):
        if artist.get_color() == _INK:
            yield artist


def _saved(made: "Figure", kind: str, **options: Any) -> bytes:
    _make_visible(made)
    file = io.BytesIO()
    metadata = {"Date": None} if kind in ("svg",) else {"CreationDate": None} if kind == "pdf" else None
    made.savefig(file, format=kind, metadata=metadata, **options)
    return file.getvalue()


def _make_visible(made: "Figure") -> None:
    """No text of a figure may hold what ends a parser or the drawing of it."""
    from matplotlib.text import Text

    for text in made.findobj(Text):
        text.set_text(svg(text.get_text()))
    for axis in (axis for axes in made.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter: Any = axis.get_major_formatter()  # makes the texts of ticks anew whenever they are drawn
        formatter.format_ticks = _visible_ticks(formatter.format_ticks)


def _visible_ticks(format_ticks: Callable[[Any], Sequence[str]]) -> Callable[[Any], list[str]]:
    return lambda values: [svg(text) for text in format_ticks(values)]


def shorten(text: str, length: int = 24) -> str:
    """A name as it fits beside an axis."""
    plain = visible(" ".join(text.split()))
    return plain if len(plain) <= length else f"{plain[: length - 1]}…"


def interval_plot(
    axes: "Axes",
    labels: Sequence[str],
    means: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    colours: Sequence[str] | None = None,
) -> None:
    """Means with intervals, one line each, the first on top."""
    places = list(range(len(labels)))[::-1]
    for index, place in enumerate(places):
        colour = colours[index] if colours else COLOURS[0]
        axes.plot([lows[index], highs[index]], [place, place], color=colour, linewidth=2)
        axes.plot([means[index]], [place], "o", color=colour, markersize=6)
    axes.set_yticks(places, [shorten(label) for label in labels])
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.grid(axis="y", visible=False)


def log_axis(axes: "Axes") -> None:
    """A horizontal axis in factors of ten, with plain numbers on it."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    steps = (1, 2, 5) if high < 100 * low else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
