"""The site as it was built, in Chromium: no errors, nothing from elsewhere, no barriers, and a search that finds."""

import contextlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from browser import WIDTHS, axe, barriers, chromium

pytestmark = [pytest.mark.site, pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")]

SITE = Path(__file__).parents[2] / ".cache" / "site" / "html"
PAGES = (
    "index.html",
    "tutorials/first-classifier.html",
    "reference/python.html",
    "reference/commands.html",
    "results.html",
)
#: The theme, which is not ours, has landmarks of one name beside its blocks of code, a moderate barrier.
WORST = ("serious", "critical")
#: Screenshots are kept there, to be looked at.
SHOTS = os.environ.get("ATHA_SCREENSHOTS")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    assert (SITE / "index.html").is_file(), "there is no site: uv run mkdocs build"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextlib.contextmanager
def opened(browser: Any, width: int = 1400, dark: bool = False) -> Iterator[tuple[Any, list[str], list[str]]]:
    """A page, what it says and what it asks for."""
    scheme = "dark" if dark else "light"
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(request.url))
    page.on("request", lambda request: asked.append(request.url))
    yield page, said, asked
    page.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_are_whole(address: str, browser: Any, width: int, dark: bool) -> None:
    with opened(browser, width, dark) as (page, said, asked):
        for name in PAGES:
            page.goto(address + name, wait_until="load")
            if SHOTS:
                shown = f"{name.replace('/', '-')}-{width}-{'dark' if dark else 'light'}.png"
                page.screenshot(path=Path(SHOTS) / shown)
            assert barriers(page, WORST) == [], name
            assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0, name
            assert page.evaluate("[...document.images].filter(one => !one.naturalWidth || !one.alt).length") == 0, name
    assert said == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_what_is_copied_of_a_session_can_be_pasted(address: str, browser: Any) -> None:
    with opened(browser) as (page, _, _):
        page.goto(f"{address}tutorials/first-classifier.html", wait_until="load")
        # The theme's button marks the block so, and takes the text that is then shown.
        said = page.evaluate(
            """[...document.querySelectorAll('code:has(> .gp)')].map(
              one => (one.setAttribute('data-md-copying', ''), one.innerText.trim()))"""
        )
    lines = [line for block in said for line in block.splitlines() if line.strip()]
    assert lines[0] == "atha demo --images 20"
    assert len(lines) > 5
    assert {line.split()[0] for line in lines} <= {"atha", "mv", "python"}


@pytest.mark.parametrize("from_folder", [False, True], ids=["server", "folder"])
def test_search_finds(address: str, browser: Any, from_folder: bool) -> None:
    with opened(browser) as (page, said, asked):
        page.goto(f"{SITE.as_uri()}/index.html" if from_folder else address, wait_until="load")
        page.locator("[data-md-component=search-query]").press_sequentially(
            "quarter turns"
        )  # as keys: a search starts when one goes up
        page.locator(".md-search-result__link").first.wait_for(timeout=60_000)
        found = page.locator(".md-search-result__link").evaluate_all("all => all.map(one => one.href)")
    assert any("how-to" in link or "concepts" in link for link in found)
    assert said == []
    assert [url for url in asked if not url.startswith((address, "file:", "data:", "blob:"))] == []


@pytest.mark.skipif(axe() is None, reason="ATHA_AXE does not name axe.min.js")
def test_a_barrier_is_seen(browser: Any) -> None:
    with opened(browser) as (page, _, _):
        page.set_content("<html lang=en><title>t</title><main><p style='color: #999'>grey <img src=''></main>")
        assert {one.partition(":")[0] for one in barriers(page, WORST)} == {"color-contrast", "image-alt"}
