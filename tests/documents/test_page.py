"""Pages: whatever a name holds is shown as text, and a file needs nothing but itself."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from atha.documents import figures
from atha.documents.page import (
    Bullets,
    Code,
    Figure,
    Gallery,
    Page,
    Picture,
    Section,
    Text,
    Warn,
    to_html,
    to_markdown,
)
from atha.documents.tables import Table
from parsed_page import Parsed

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img onerror=alert(1) src=x>',
    "$\\frac{",
    "' onload='x {{ 7*7 }} &amp;",
]


def relative_luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    high, low = sorted((relative_luminance(one), relative_luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def drawing(words: str):
    made, axes = figures.figure()
    axes.plot([0, 1], [0, 1], label=words)
    axes.set_title(words)
    axes.set_xticks([0, 1], [words, "b"])
    axes.legend()
    return made


def page_of(words: str) -> Page:
    picture = Picture(b"\xff\xd8", words, words)
    return Page(
        words,
        [Text(words), Warn(words)],
        [
            Section(
                words,
                [
                    Text(words), Warn(words), Code(words, words), Bullets([words]),
                    Table(words, [words, "b", "c"], [[words, words, "1"]], [words]),
                    Figure(drawing(words), words, words, words, words),
                    Figure(drawing(words), words, words, words),
                    Gallery(words, [picture], words),
                ],
            )
        ],
        words,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages():
    with figures.style():
        return {words: to_html(page_of(words)) for words in HOSTILE}


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_names_are_text(words, pages):
    parsed = Parsed(pages[words])
    tags = [tag for tag, _ in parsed.tags]
    assert "script" not in tags
    assert tags.count("img") == 1
    names = {name for _, attributes in parsed.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")}
    shown = "".join(parsed.words)
    # Title, heading, paragraph, list, table, figure and its drawing: 20 places and more, all as they are.
    assert shown.count(words) >= 20
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert images[0]["alt"] == words
    drawings = [attributes for tag, attributes in parsed.tags if tag == "svg"]
    assert [one["aria-label"] for one in drawings] == [words, words]


def test_needs_nothing_but_itself(pages):
    text = pages[HOSTILE[0]]
    parsed = Parsed(text)
    links = [value for _, attributes in parsed.tags for name, value in attributes.items()
             if name in ("src", "href", "xlink:href") and value]  # fmt: skip
    assert links
    assert all(value.startswith(("data:image/", "#")) for value in links)
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_ids_are_of_one_element_each_and_point_somewhere(pages):
    text = pages[HOSTILE[2]]
    ids = [attributes["id"] for _, attributes in Parsed(text).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert used
    assert used <= set(ids)


def test_tables_have_headers_with_scope(pages):
    scopes = [attributes.get("scope") for tag, attributes in Parsed(pages[HOSTILE[0]]).tags if tag == "th"]
    assert scopes == ["col", "col", "col", "row"]


def test_ink_is_the_pages_and_colours_can_be_seen_on_both_grounds(pages):
    assert figures._INK not in pages[HOSTILE[0]]
    assert "currentColor" in pages[HOSTILE[0]]
    for ground in ("#ffffff", "#f5f6f8", "#14171a", "#1e2227"):
        assert f"{ground};" in pages[HOSTILE[0]]
        assert min(contrast(colour, ground) for colour in figures.COLOURS) >= 3
    for ink, ground in (
        ("#1b1f24", "#ffffff"),
        ("#545c66", "#f5f6f8"),
        ("#e8eaed", "#14171a"),
        ("#aab2bc", "#1e2227"),
        ("#5c4300", "#fff4d6"),
        ("#ffe3a0", "#362b0c"),
        ("#1458a8", "#ffffff"),
        ("#8ab8f5", "#14171a"),
    ):
        assert ink in pages[HOSTILE[0]]
        assert contrast(ink, ground) >= 4.5  # fmt: skip


@pytest.mark.parametrize("words", HOSTILE[:3])
def test_markdown_shows_names_as_text_too(words):
    with figures.style():
        page = page_of(words)
        page.sections[0].items.pop()  # pictures have no form there
        text = to_markdown(page, lambda figure: "figures/1.svg")
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))  # the rest is code
    assert not re.search(r"<(?!figures/1.svg>)", prose)
    assert "![" in text


def test_svg_for_print_has_its_own_ink(tmp_path):
    with figures.style():
        content = figures.save(drawing("a & b <c>"), tmp_path / "x.svg").decode()
    root = ElementTree.fromstring(content)
    assert figures._INK not in content
    assert "a & b <c>" in [element.text for element in root.iter() if element.tag.endswith("text")]


def test_the_users_own_settings_come_back():
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 21.0, "text.parse_math": True}):
        with figures.style():
            assert mpl.rcParams["font.size"] != 21
        assert mpl.rcParams["font.size"] == 21
        assert mpl.rcParams["text.parse_math"]
