"""The page to drop pictures on, in Chromium: pictures, results, errors, the token, light and dark, wide and narrow."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_process import Running, served

import atha
from atha.documents.escaping import UNSEEN, visible
from cast import CLASSES, obeyed
from conftest import COLOURS, write_images

pytestmark = pytest.mark.browser

TOKEN = "a-token-of-a-test-01"
#: Screenshots are kept there, to be looked at.
SHOTS = os.environ.get("ATHA_SCREENSHOTS")

_DROP = """([files]) => {
  const data = new DataTransfer();
  for (const [name, content] of files)
    data.items.add(new File([Uint8Array.from(atob(content), (one) => one.charCodeAt(0))], name, {type: 'image/png'}));
  document.getElementById('drop').dispatchEvent(
    new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: data}));
}"""
_WIDER = """() => [...document.querySelectorAll('body *')]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && getComputedStyle(one).opacity !== '0')
  .map((one) => one.tagName + ' ' + one.textContent.slice(0, 40))"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    folder = write_images(tmp_path_factory.mktemp("pictures"), COLOURS, 1, seed=7)
    files = [(f"{path.parent.name} <i>{place}</i>.png", path.read_bytes()) for place, path in
             enumerate(sorted(folder.glob("*/*.png")))]  # fmt: skip
    return [*files, ("<img src=x onerror=alert(1)>\u202egnp\u200b.png", b"broken")]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, support: Path) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    atha.Classifier.from_pretrained("nano", recipe="probes", device="cpu").fit(support).save_pretrained(folder / "a")
    (folder / "token").write_text(TOKEN)
    with served(folder / "a", "--maps", "--images", "2", "--token-file", str(folder / "token")) as running:
        yield running


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_dropped_pictures(
    service: Running, browser: Any, pictures: list[tuple[str, bytes]], width: int, dark: bool
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    page.set_default_timeout(60_000)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (said.append("a name was run"), dialog.dismiss()))
    if dark:  # with the token typed in
        page.goto(service.address)
        page.fill("#token", "another one that is wrong")
        page.click("#token-form button")
        page.locator("#problem", has_text="not the token").wait_for()
        page.fill("#token", TOKEN)
        page.click("#token-form button")
        said = [text for text in said if "401" not in text]
    else:
        page.goto(f"{service.address}#token={TOKEN}")
    page.locator("#about", has_text="3 classes").wait_for()
    assert page.url == service.address and page.is_hidden("#token-form")
    page.check("#votes")
    page.evaluate(_DROP, [[(name, base64.b64encode(content).decode()) for name, content in pictures]])
    page.locator("#status", has_text="4 of 4 done").wait_for()
    page.locator(".card button", has_text="Where it looks").last.click()
    page.locator(".map").wait_for()
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"page-{width}-{'dark' if dark else 'light'}.png", full_page=True)
    cards = [card.inner_text() for card in page.locator(".card").all()]
    assert len(cards) == 4
    for (name, content), text in zip(reversed(pictures), cards, strict=True):
        assert visible(name) in text and not obeyed(text)
        assert ("cannot" in text or "not an image" in text) if content == b"broken" else "%" in text
    assert page.locator(".card table caption").count() == 3, "each picture that was read has its members' votes"
    assert not page.evaluate(_WIDER)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground != "rgb(255, 255, 255)") == dark
    assert [url for url in asked if not url.startswith((service.address, "blob:", "data:"))] == []
    assert [text for text in said if "401" not in text] == []
    page.click("#clear")
    assert page.locator(".card").count() == 0
    page.close()


def test_letters_that_nobody_sees_are_those_of_other_media(service: Running, browser: Any) -> None:
    page = browser.new_page()
    page.goto(service.address)
    names = [*CLASSES, *(chr(code) for first, last in UNSEEN for code in (first, last)), "a\u200db \U0001f9ea é"]
    assert page.evaluate("(names) => names.map(visible)", names) == list(map(visible, names))
    page.close()


def test_documentation_needs_nothing_from_elsewhere(service: Running, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{service.address}docs")
    assert "POST /predict" in page.inner_text("main") and not page.evaluate(_WIDER)
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / "docs-400.png", full_page=True)
    assert [url for url in asked if not url.startswith((service.address, "data:"))] == []
    page.close()
