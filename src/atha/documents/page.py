"""A report as a value, and as one HTML file that needs nothing else: no network, no script.

All text is escaped by the template; only figures, which `atha.documents.figures` made, are put in as they are.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from atha.documents import tables
from atha.documents.escaping import html, markdown, visible
from atha.documents.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Warn:
    """A sentence that a reader must not miss."""

    kind: ClassVar[str] = "warn"
    text: str


@dataclass(frozen=True)
class Code:
    """Text as it stands in a file."""

    kind: ClassVar[str] = "code"
    text: str
    title: str


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """A drawing, with a sentence that says what it shows and how to read it.

    Attributes:
        drawing: made within `atha.documents.figures.style`.
        title: above it.
        caption: what it shows and how to read it.
        alt: what it shows, for those who do not see it.
        warning: why not to conclude from it; empty where there is no reason.
    """

    kind: ClassVar[str] = "figure"
    drawing: "Drawing"
    title: str
    caption: str
    alt: str
    warning: str = ""


@dataclass(frozen=True)
class Picture:
    """A photo or a map over one."""

    content: bytes
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        """As a data URI."""
        kind = "png" if self.content.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side under a heading, such as those of one class."""

    kind: ClassVar[str] = "gallery"
    title: str
    pictures: Sequence[Picture]
    caption: str = ""


Item = Text | Warn | Code | Bullets | Table | Figure | Gallery


@dataclass
class Section:
    """A heading and what is under it."""

    title: str
    items: list[Item] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: of the page.
        lead: the result in a few sentences, before everything else.
        sections: in order.
        foot: how it was made.
    """

    title: str
    lead: Sequence[Text | Warn]
    sections: Sequence[Section]
    foot: str


def to_html(page: Page) -> str:
    """The page as one HTML file."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from atha.documents.figures import inline_svg

    environment = Environment(
        loader=PackageLoader("atha.documents"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: html(value) if type(value) is str else value,
    )  # fmt: skip
    drawn = iter(range(1, 10_000))

    def svg(figure: Figure) -> Markup:
        return Markup(inline_svg(figure.drawing, figure.alt, f"f{next(drawn)}"))  # noqa: S704 - made by matplotlib

    return environment.get_template("page.html.j2").render(page=page, svg=svg)


def to_markdown(page: Page, figure: Callable[[Figure], str]) -> str:
    """The page as Markdown; ``figure`` saves a drawing and gives the path to it."""

    def item(one: Item) -> str:
        if isinstance(one, Text):
            return markdown(one.text)
        if isinstance(one, Warn):
            return f"> **Warning:** {markdown(one.text)}"
        if isinstance(one, Bullets):
            return "\n".join(f"- {markdown(text)}" for text in one.items)
        if isinstance(one, Code):
            return "\n".join(
                [f"{markdown(one.title)}:", "", *(f"    {visible(line)}" for line in one.text.splitlines())]
            )
        if isinstance(one, Table):
            return tables.to_markdown(one).rstrip()
        if isinstance(one, Figure):
            words = f"![{markdown(one.alt)}](<{figure(one)}>)\n\n{markdown(one.caption)}"
            return words + (f"\n\n> **Warning:** {markdown(one.warning)}" if one.warning else "")
        raise TypeError(f"{type(one).__name__} has no form in Markdown")

    blocks = [f"# {markdown(page.title)}", *map(item, page.lead)]
    for section in page.sections:
        blocks += [f"## {markdown(section.title)}", *map(item, section.items)]
    return "\n\n".join([*blocks, markdown(page.foot)]) + "\n"
