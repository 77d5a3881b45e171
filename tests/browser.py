"""A headless Chromium that is installed on the machine, looking at one HTML file.

With ``ATHA_AXE``, the path of ``axe.min.js`` (of npm's ``axe-core``), it also finds what is a barrier to people.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIDTHS = (400, 1400)
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def axe() -> Path | None:
    """The script that finds barriers, where somebody has installed it."""
    found = os.environ.get("ATHA_AXE")
    return Path(found) if found else None


def barriers(page: Any, impacts: Sequence[str] = ("moderate", "serious", "critical")) -> list[str]:
    """What axe finds on a page; none where it is not installed.

    Args:
        page: of playwright, whose rules about scripts are bypassed.
        impacts: of what is looked for.
    """
    if (script := axe()) is None:
        return []
    page.evaluate(script.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for one in found
        if one["impact"] in impacts
        for node in one["nodes"]
    ]


@contextmanager
def launched() -> Iterator[Any]:
    """A browser, of playwright, until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield made
        made.close()


@dataclass
class Seen:
    errors: list[str] = field(default_factory=list)
    barriers: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    wider_than_page: list[str] = field(default_factory=list)
    overflow: int = 0
    missing: list[str] = field(default_factory=list)
    without_alt: int = 0
    dialogs: int = 0
    text: str = ""
    elements: dict[str, int] = field(default_factory=dict)


_LOOK = """() => ({
  overflow: document.scrollingElement.scrollWidth - window.innerWidth,
  wider: [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.scroll, pre, svg') && e.getBoundingClientRect().right > window.innerWidth + 1)
    .map(e => e.tagName + ' ' + e.textContent.slice(0, 40)),
  missing: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(0, 60)),
  alt: [...document.images].filter(i => !i.alt).length
       + [...document.querySelectorAll('figure > svg')].filter(s => !s.getAttribute('aria-label')).length,
  text: document.body.innerText + [...document.querySelectorAll('svg text')].map(t => t.textContent).join('\\n'),
  elements: Object.fromEntries(['script', 'img[onerror]', 'figure > svg', 'img', 'section', 'table'].map(
    s => [s, document.querySelectorAll(s).length])),
})"""


def look(path: Path, width: int, dark: bool = False, screenshot: Path | None = None) -> Seen:
    """Open a file at a width, and say what a browser finds."""
    seen = Seen()
    with launched() as browser:
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", bypass_csp=True
        )
        page.on("console", lambda message: message.type in ("error", "warning") and seen.errors.append(message.text))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url))

        def dismiss(dialog):
            seen.dialogs += 1
            dialog.dismiss()

        page.on("dialog", dismiss)
        page.goto(path.resolve().as_uri(), wait_until="load")
        found = page.evaluate(_LOOK)
        if screenshot is not None:
            page.screenshot(path=screenshot, full_page=True)
        seen.barriers = barriers(page)
    seen.overflow, seen.wider_than_page, seen.missing = found["overflow"], found["wider"], found["missing"]
    seen.without_alt, seen.text, seen.elements = found["alt"], found["text"], found["elements"]
    seen.requests = [url for url in seen.requests if not url.startswith(("file:", "data:"))]
    return seen
