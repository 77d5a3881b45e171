"""The page's paths, asked in this process: who may ask, what two tabs do to each other, and what is refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from atha.data.images import ImageReader
from atha.labelling.drawing import draw
from atha.labelling.page.app import create_app
from atha.labelling.page.desk import HELD, PATIENCE, Desk, Learned
from atha.labelling.page.journal import Journal
from atha.labelling.page.thumbnails import Thumbnails
from atha.web.access import Access

TOKEN, CLASSES = "a-token-of-a-test", ["nevus", "<script>alert(1)</script>"]
COUNT = 20


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    made = []
    for number in range(COUNT):
        made.append(folder / f"<b>{number}.png")
        colour = tuple(int(one) for one in np.random.default_rng(number).integers(0, 255, 3))
        Image.new("RGB", (40, 30), colour).save(made[-1])
    made[3].write_bytes(b"broken")
    return made


class Tab:
    """A tab of a browser."""

    def __init__(self, client: TestClient, name: str) -> None:
        self.client, self.name, self.presses, self.held = client, name, 0, []
        self.status: dict[str, Any] = {}

    def post(self, path: str, **what: Any) -> Any:
        reply = self.client.post(path, json={"tab": self.name, "keep": [one["place"] for one in self.held], **what})
        found = reply.json()
        self.held, self.status = found.get("photos", self.held), found.get("status", self.status)
        return reply

    def name_press(self) -> str:
        self.presses += 1
        return f"{self.name}-{self.presses:06}"

    def press(self, photo: dict[str, Any], kind: str = "label", number: int | None = 0, **more: Any) -> Any:
        number = number if kind == "label" else None
        what = {"place": photo["place"], "seen": photo["seen"], "kind": kind, "number": number}
        return self.post("/press", **what | {"press": self.name_press()} | more)

    def undo(self, expected: int) -> Any:
        return self.post("/undo", press=self.name_press(), expected=expected)


@pytest.fixture
def desk(files: list[Path], tmp_path: Path) -> Iterator[Desk]:
    journal = Journal(tmp_path / "labels.csv", CLASSES)
    yield Desk(files, journal)
    journal.close()


def client(desk: Desk) -> TestClient:
    app = create_app(desk, Thumbnails(desk.files, ImageReader(quiet=True)), Access("127.0.0.1", TOKEN, frozenset("/")))
    headers = {"authorization": f"Bearer {TOKEN}"}
    return TestClient(app, base_url="http://127.0.0.1:8000", headers=headers, raise_server_exceptions=False)  # type: ignore[arg-type]


def rows(desk: Desk) -> list[str]:
    return desk.journal.table.read_text().splitlines()[1:]


def test_who_may_ask(desk: Desk):
    asked = client(desk)
    page = asked.get("/", headers={"authorization": ""})
    assert page.status_code == 200 and "script-src 'sha256-" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http:" not in page.text.replace("http://www.w3.org/2000/svg", "") and "https:" not in page.text
    for path in ("/status", "/earlier", "/photo/0/small", "/docs", "/openapi.json"):
        assert asked.get(path, headers={"authorization": ""}).status_code == 401
    assert asked.get("/status", headers={"authorization": "Bearer another-token"}).status_code == 401
    assert asked.get("/status", headers={"host": "evil.example:8000"}).status_code == 421
    assert asked.post("/next", json={"tab": "tab-0001"}, headers={"origin": "http://evil.example"}).status_code == 403
    assert asked.post("/next", json={"tab": "tab-0001"}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert asked.post("/next", json={"tab": "tab-0001"}).status_code == 200


@pytest.mark.parametrize(
    "what",
    [
        {}, {"place": -1}, {"place": 10**6}, {"kind": "all"}, {"number": 7}, {"number": None}, {"number": True},
        {"press": "x"}, {"press": "../../etc"}, {"seen": "0"}, {"more": 1}, {"keep": [0] * 50}, {"press": "a" * 20_000},
    ],
)  # fmt: skip
def test_presses_that_are_none(desk: Desk, what: dict[str, Any]):
    reply = client(desk).post("/press", json=what and {
        "tab": "tab-0001", "press": "press-001", "place": 0, "kind": "label", "number": 0, "seen": 0, **what
    })  # fmt: skip
    assert 400 <= reply.status_code < 500 and reply.json()["error"]
    assert not len(desk.journal.marks)


def test_a_tab(desk: Desk):
    tab = Tab(client(desk), "tab-0001")
    tab.post("/next")
    order = [int(one) for one in draw(COUNT, 0)]
    assert [one["place"] for one in tab.held] == order[:3], "drawn at random while nothing is learned"
    first = tab.held[0]
    assert tab.press(first, number=1).status_code == 200
    assert rows(desk) == [
        f"{os.path.relpath(desk.files[first['place']], desk.journal.table.parent)},{CLASSES[1]},random"
    ]
    assert [one["place"] for one in tab.held] == order[1:4]
    assert tab.press(tab.held[0], "skip").status_code == tab.press(tab.held[0], "none").status_code == 200
    assert (tab.status["labelled"], tab.status["skipped"], tab.status["none"]) == (1, 1, 1)

    taken = tab.undo(tab.status["last"]).json()["shown"]
    assert taken["place"] == order[2] and taken["place"] in [one["place"] for one in tab.held]
    listed = tab.client.get("/earlier").json()["earlier"]
    assert [(one["place"], one["kind"]) for one in listed] == [(order[1], "skip"), (order[0], "label")]
    assert tab.press(listed[1], number=0).status_code == 200, "a correction"
    assert len(rows(desk)) == 1 and ",nevus,random" in rows(desk)[0]

    assert tab.post("/class", press="press-class", label="mole").status_code == 200
    assert tab.post("/class", press="press-class-2", label="Mole").status_code == 422
    assert [one["label"] for one in tab.status["classes"]] == [*CLASSES, "mole"]
    for _ in range(COUNT):
        if tab.held:
            tab.press(tab.held[0], number=2)
    assert not tab.held and tab.status["labelled"] == COUNT - 1 and len(rows(desk)) == COUNT - 1


def test_two_tabs_and_what_is_sent_twice(desk: Desk):
    asked = client(desk)
    one, other = Tab(asked, "tab-0001"), Tab(asked, "tab-0002")
    one.post("/next")
    other.post("/next")
    assert not {photo["place"] for photo in one.held} & {photo["place"] for photo in other.held}
    photo = one.held[0]
    assert one.press(photo, number=0, press="the-same-press").status_code == 200
    assert one.press(photo, number=0, press="the-same-press").status_code == 200, "the answer was lost"
    stale = other.press(photo, number=1)
    assert stale.status_code == 409 and "labelled 'nevus' elsewhere" in stale.json()["error"]
    assert stale.json()["now"]["class"] == 0 and len(rows(desk)) == 1
    seen = one.status["last"]
    other.press(other.held[0])
    assert one.undo(seen).status_code == 409 and len(rows(desk)) == 2
    assert one.undo(one.status["last"]).status_code == 200 and len(rows(desk)) == 1

    left = {photo["place"] for photo in one.held}
    one.post("/leave")
    other.held = []
    other.post("/next")
    assert {photo["place"] for photo in other.held} <= left | {photo["place"] for photo in other.held}
    assert other.held[0]["place"] in left | {photo["place"] for photo in other.held}


def test_a_silent_tab_gives_back_what_it_held(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    asked = client(desk)
    one, other = Tab(asked, "tab-0001"), Tab(asked, "tab-0002")
    one.post("/next")
    now = desk._tabs["tab-0001"].seen
    monkeypatch.setattr("atha.labelling.page.desk.time.monotonic", lambda: now + PATIENCE + 1)
    other.post("/next")
    assert [photo["place"] for photo in other.held] == [photo["place"] for photo in one.held]


def test_chosen_ones_come_first_and_a_problem_stops_nothing(desk: Desk):
    tab = Tab(client(desk), "tab-0001")
    desk.choose([(4, "unsure"), (5, "typical")])
    desk.pass_over(5)
    tab.post("/next")
    assert [one["place"] for one in tab.held] == [4]
    tab.press(tab.held[0])
    assert rows(desk)[0].endswith(",unsure") and not tab.held
    desk.learned = Learned(problem="Nothing is learned: a test.")
    tab.post("/next")
    assert len(tab.held) == 3 and tab.status["problem"] == "Nothing is learned: a test."


def test_photos(desk: Desk):
    asked = client(desk)
    large, small = asked.get("/photo/0/large"), asked.get("/photo/0/small")
    assert large.headers["content-type"] == small.headers["content-type"] == "image/jpeg"
    assert large.content[:2] == b"\xff\xd8"
    broken = asked.get("/photo/3/large")
    assert broken.status_code == 422 and "not an image" in broken.json()["error"]
    assert asked.get("/photo/99/large").status_code == 404 and asked.get("/photo/0/huge").status_code == 422


def test_thumbnails_in_bounded_memory(files: list[Path]):
    made = Thumbnails(files, ImageReader(quiet=True), kept=3000)
    for place in (0, 1, 2, 4, 5, 0):
        made.get(place, 160)
    assert 0 < made.size <= 3000 and made.size == sum(map(len, made._made.values()))


def test_a_disk_that_is_full_loses_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    tab = Tab(client(desk), "tab-0001")
    tab.post("/next")
    photo = tab.held[0]
    with monkeypatch.context() as patch:
        patch.setattr("atha.labelling.page.journal.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space")))
        reply = tab.press(photo)
    assert reply.status_code == 422 and "not saved (No space)" in reply.json()["error"]
    assert tab.held[0] == photo and not rows(desk)
    assert tab.press(photo).status_code == 200 and len(rows(desk)) == 1


def test_what_is_taken_back_is_shown_first_and_no_tab_holds_ever_more(desk: Desk):
    tab = Tab(client(desk), "tab-0001")
    tab.post("/next")
    shown = []
    for _ in range(4):
        shown.append(tab.held[0]["place"])
        assert tab.press(tab.held[0]).status_code == 200
    gave_way = {one["place"] for one in tab.held}
    for place in reversed(shown):
        assert tab.undo(tab.status["last"]).status_code == 200
        assert tab.held[0]["place"] == place and len(tab.held) <= HELD
    while tab.held:
        assert tab.press(tab.held[0]).status_code == 200
    assert len(_labels(desk)) == COUNT and gave_way <= set(_labels(desk)), "those that gave way come again"


ACTION = st.tuples(
    st.integers(0, 1), st.sampled_from(["label", "label", "none", "skip", "undo", "fix", "leave", "reload"])
)


@settings(max_examples=15, deadline=None)
@given(actions=st.lists(ACTION, max_size=30))
@example(actions=[(0, "reload"), (0, "label"), (0, "label"), (0, "undo"), (0, "undo"), (0, "label")])
def test_two_tabs_in_any_order(tmp_path_factory: pytest.TempPathFactory, files: list[Path], actions: list[Any]):
    folder = tmp_path_factory.mktemp("tabs")
    journal = Journal(folder / "labels.csv", CLASSES)
    desk = Desk(files, journal)
    asked = client(desk)
    tabs = [Tab(asked, "tab-0001"), Tab(asked, "tab-0002")]
    expected: dict[int, int] = {}
    for turn, (which, action) in enumerate(actions):
        tab = tabs[which]
        if action == "undo":
            tab.undo(tab.status.get("last", 0))
            expected = _labels(desk)
        elif action == "leave":
            tab.post("/leave")
        elif action == "reload":
            tab.held = []
            tab.post("/next")
        elif action == "fix" and (listed := asked.get("/earlier").json()["earlier"]):
            assert tab.press(listed[-1], number=turn % 2).status_code == 200
            expected[listed[-1]["place"]] = turn % 2
        elif tab.held and action in ("label", "none", "skip"):
            photo = tab.held[0]
            free = desk.describe(photo["place"])["seen"] == photo["seen"]
            assert tab.press(photo, action, turn % 2).status_code == (200 if free else 409)
            if free and action == "label":
                expected[photo["place"]] = turn % 2
        held = [one for tab in desk._tabs.values() for one in tab.places]
        assert len(held) == len(set(held)), "no photo is shown twice"
    assert _labels(desk) == expected
    assert len(rows(desk)) == len(expected)
    journal.close()
    for line in (folder / "labels.csv.journal").read_text().splitlines():
        json.loads(line)


def _labels(desk: Desk) -> dict[int, int]:
    found = {place: desk.describe(place)["class"] for place in range(COUNT)}
    return {place: number for place, number in found.items() if number is not None}
