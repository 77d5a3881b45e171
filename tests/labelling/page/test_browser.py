"""The page in Chromium: keys, clicks, undo, reload, two tabs, and a process that is killed in the middle."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atha.documents.escaping import from_csv
from conftest import COLOURS, write_images

pytestmark = pytest.mark.browser

#: Screenshots are kept there, to be looked at.
SHOTS = os.environ.get("ATHA_SCREENSHOTS")
CLASSES = ["red thing", "green thing", "blue thing", "<script>alert(1)</script>"]
TRUE = {"red_thing": 0, "GreenThing": 1, "blue thing": 2, "<i>odd": 3}
_WIDER = """() => [...document.querySelectorAll('body *')]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.tagName + ' ' + one.textContent.slice(0, 40))"""
# The photo that keys are taken for; its picture is there.
_READY = "(before) => document.body.dataset.place !== before && document.getElementById('wait').hidden"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("pile"), COLOURS | {"<i>odd": (120, 120, 20)}, 30, seed=7)


@contextmanager
def labelling(photos: Path, table: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """``atha label`` in a process of its own, and the address that it prints."""
    command = [sys.executable, "-m", "atha", "label", str(photos), "--model", "nano", "--no-browser"]
    command += ["--classes", ",".join(CLASSES), "--out", str(table)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            lines = [process.stdout.readline()]
            if "Going on" in lines[0]:
                lines.append(process.stdout.readline())
            found = re.search(r"http://\S+#token=\S+", lines[-1])
            assert found, "".join(lines) + process.stderr.read()
            yield found[0], process
        finally:
            process.kill()


class Person:
    """Somebody who labels by the keyboard, and writes down what was pressed."""

    def __init__(self, page: Any) -> None:
        self.page, self.pressed = page, {}
        page.set_default_timeout(60_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.said.append("a name was run"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, address: str) -> None:
        self.page.goto("about:blank")  # another token alone is the same page
        self.page.goto(address)
        self.page.wait_for_function(_READY, arg="")

    @property
    def name(self) -> str:
        return str(self.page.get_attribute("#name", "title"))

    def key(self, key: str) -> None:
        before = self.page.evaluate("document.body.dataset.place")
        self.page.keyboard.press(key)
        self.page.wait_for_function(_READY, arg=before)

    def label(self, count: int, wrong: bool = False) -> None:
        for _ in range(count):
            name = self.name
            number = (TRUE[Path(name).parent.name] + wrong) % len(CLASSES)
            self.key(str(number + 1))
            self.pressed[name] = CLASSES[number]

    def undo(self) -> None:
        self.key("u")
        self.pressed.pop(self.name)


def rows(table: Path) -> dict[str, str]:
    with table.open(newline="", encoding="utf-8") as file:
        found = [(from_csv(row[0]), from_csv(row[1])) for row in list(csv.reader(file))[1:]]
    assert len(dict(found)) == len(found), "no photo is there twice"
    return dict(found)


def test_an_afternoon(photos: Path, browser: Any, tmp_path: Path):
    table = tmp_path / "labels.csv"
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    person = Person(page)
    with labelling(photos, table) as (address, process):
        person.open(address)
        person.label(12)
        person.undo()
        person.undo()
        person.label(6)
        assert rows(table) == person.pressed
        page.reload()
        page.wait_for_function(_READY, arg="")
        person.label(3)
        process.kill()  # as kill -9 does
    before = dict(person.pressed)
    page.keyboard.press("1")
    page.locator("#problem", has_text="does not answer").wait_for()
    assert rows(table) == before
    with labelling(photos, table) as (address, process):
        person.open(address)
        person.label(8)
        person.key("x")
        person.key("s")
        page.locator("#earlier button").nth(3).click()
        corrected = page.locator("#name").get_attribute("title")
        page.keyboard.press("4")
        page.locator("#said", has_text="Labelled '<script>").wait_for()
        person.pressed[corrected] = CLASSES[3]
        assert rows(table) == person.pressed and len(person.pressed) == 27

        page.keyboard.press("n")
        page.fill("#label", "<b>mole</b>")
        page.keyboard.press("Enter")
        page.locator("#classes button", has_text="<b>mole</b>").wait_for()
        page.wait_for_function(_READY, arg="")
        name = person.name
        person.key("5")
        person.pressed[name] = "<b>mole</b>"
        person.label(2)
        assert rows(table) == person.pressed and len(person.pressed) == 30
        page.locator("#estimate", has_text="95% interval").wait_for()
        page.locator("#curve polyline").wait_for()
        page.locator("#advice", has_text=".").wait_for()
        look(page)
        process.terminate()
        assert process.wait(60) == 0
    assert rows(table) == person.pressed
    assert [text for text in person.said if "ERR_" not in text] == []
    assert [url for url in person.asked if not url.startswith(("http://127.0.0.1", "blob:", "data:", "about:"))] == []


def look(page: Any) -> None:
    """Wide and narrow, light and dark; what is wider than the page, and touch."""
    for width in (400, 1400):
        for colours in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=colours)
            assert not page.evaluate(_WIDER)
            assert (page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)") == (
                colours == "dark"
            )
            if SHOTS:
                page.screenshot(path=Path(SHOTS) / f"label-{width}-{colours}.png", full_page=True)
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.locator("#classes button").first.bounding_box()["y"] < 800, "a class can be touched without scrolling"


def test_two_tabs_touch_and_a_narrow_page(photos: Path, browser: Any, tmp_path: Path):
    table = tmp_path / "labels.csv"
    with labelling(photos, table) as (address, _):
        touch = browser.new_context(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
        one, other = Person(touch.new_page()), Person(touch.new_page())
        one.open(address)
        other.open(address)
        assert one.name != other.name
        one.label(2)
        other.label(2)
        name = other.name
        before = other.page.evaluate("document.body.dataset.place")
        other.page.locator("#classes button").nth(2).tap()
        other.page.wait_for_function(_READY, arg=before)
        other.pressed[name] = CLASSES[2]
        assert rows(table) == one.pressed | other.pressed and len(rows(table)) == 5

        one.page.locator("#earlier button").first.tap()  # it lists what both have labelled
        stale = one.name
        other.page.locator(f'#earlier button[title^="{stale}"]').tap()
        other.page.locator("#classes button").nth(0).tap()
        other.page.locator("#said", has_text="Labelled").wait_for()
        one.page.locator("#classes button").nth(1).tap()
        one.page.locator("#problem", has_text="elsewhere since it was shown, so nothing was changed").wait_for()
        assert rows(table)[stale] == CLASSES[0] and len(rows(table)) == 5
        touch.close()


@pytest.mark.slow
def test_killed_twenty_times(photos: Path, browser: Any, tmp_path: Path):
    """Killed while a press is on its way, which is on the disk or is not, and never half of it or twice."""
    table = tmp_path / "labels.csv"
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    person = Person(page)
    last: tuple[str, str] = "", ""
    for turn in range(21):
        with labelling(photos, table) as (address, process):
            # A press that the journal has is in the table when the same command goes on.
            person.pressed |= dict([last]) if last[0] in rows(table) else {}
            assert rows(table) == person.pressed
            if turn == 20:
                break
            person.open(address)
            person.label(2, wrong=turn % 3 == 0)
            assert rows(table) == person.pressed
            number = TRUE[Path(person.name).parent.name]
            last = person.name, CLASSES[number]
            page.keyboard.press(str(number + 1))  # does not wait for the answer
            process.kill()
    assert len(person.pressed) >= 40
