"""Links of documents that the site's own build does not look at: those outside docs, to files and to headings."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", OUTSIDE, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for link in _LINK.findall(document.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def test_a_link_to_nowhere_is_seen():
    assert _LINK.findall("[a](b.md#c) ![d](e.png)") == ["b.md#c", "e.png"]
    assert anchors("# A b\n## What `x` is, then\n") == {"a-b", "what-x-is-then"}
