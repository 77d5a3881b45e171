"""Fits beside the labelling, in a process of their own: what is asked of it, what it answers, and how it ends."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from waiting import until

import atha
from atha.data.processes import Asking, BrokenOffError
from atha.errors import DataError
from atha.labelling.fitting import Round, fit_and_ask
from atha.labelling.model import Texts
from atha.labelling.page.adapting import Adapting
from atha.labelling.page.desk import Desk
from atha.labelling.page.journal import Journal
from atha.labelling.page.learner import Learner
from atha.labelling.session import Session
from conftest import COLOURS, write_images

CLASSES = ["red thing", "green thing", "blue thing"]

#: Answers in no time what the tests below take for the truth, which no feature tells.
FITS = """
import numpy as np
from atha.data.processes import answer, asked
def main():
    given = asked()
    files = [given["files"][place] for out in given["held"] for place in out] + given["asked"]
    rows = np.full((len(files), len(given["classes"])), 0.05, dtype="<f4")
    for row, file in zip(rows, files):
        row[sum(file.rpartition("/")[2].encode()) % 3] = 0.9
    rows[-1] = np.nan
    answer({"images": len(rows)}, rows.tobytes())
"""
WAITS = """
import time
from atha.data.processes import asked, end_with_input
def main():
    asked()
    end_with_input()
    time.sleep(600)
"""
REFUSES = """
from atha.data.processes import answer
def main():
    answer({"problem": "the loss is not finite: take fewer steps"})
"""
DIES = "import os\ndef main():\n    os._exit(9)\n"


def truth(file: Path) -> int:
    return sum(file.name.encode()) % 3


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"fits": FITS, "waits": WAITS, "refuses": REFUSES, "dies": DIES}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_images(tmp_path_factory.mktemp("pile"), COLOURS, 20, seed=5).glob("*/*.png"))


@pytest.fixture
def desk(photos: list[Path], tmp_path: Path) -> Iterator[Desk]:
    journal = Journal(tmp_path / "labels.csv", CLASSES)
    yield Desk(photos, journal)
    journal.close()


def labelled(photos: list[Path], count: int) -> Session:
    """A session with labels of photos that were all drawn at random."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(3, 8))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    session = Session(list(CLASSES), Texts(texts, 10.0), len(photos), share=1.0)
    session.add_features(range(len(photos)), rng.normal(size=(len(photos), 8)))
    give(session, photos, count)
    return session


def give(session: Session, photos: list[Path], count: int) -> None:
    for pick in session.next(count - len(session.labelled)):
        session.label(pick.place, truth(photos[pick.place]), pick.how)


def test_rounds(desk: Desk, tiny_clip: str, photos: list[Path]):
    said: list[str] = []
    one = Adapting(desk, tiny_clip, "auto", {}, told=said.append, module="fits")
    session = labelled(photos, 19)
    assert not one.step(session) and "from 20 labels on" in one.say(session)
    give(session, photos, 20)
    assert not one.step(session) and "being adapted to 20 labels (auto)" in one.say(session)
    until(lambda: one.step(session))
    assert session.adapted is not None and session.adapted.labels == 20
    assert len(session.adapted.places) == len(photos) - 1, "what cannot be read is left out"
    session.estimate()
    assert session.is_led and said == [] and "leads: it is right on 20 of 20" in one.say(session)
    assert len(said) == 1 and one.say(session).startswith(said[0])
    give(session, photos, 39)
    assert not one.step(session) and one._asking is None
    session.estimate()
    assert "of 39 photos" in one.say(session) and len(said) == 1, "printed where something was decided, and no more"
    give(session, photos, 40)
    until(lambda: one.step(session))
    session.estimate()
    assert "fitted to 40 labels" in one.say(session) and len(said) == 2


@pytest.mark.parametrize(
    ("module", "why"), [("refuses", "the loss is not finite: take fewer steps"), ("dies", "is there enough memory?")]
)
def test_fits_that_cannot_be_made(desk: Desk, tiny_clip: str, photos: list[Path], module: str, why: str):
    said: list[str] = []
    one = Adapting(desk, tiny_clip, "auto", {}, told=said.append, module=module)
    session = labelled(photos, 24)
    until(lambda: one.step(session) or said)
    assert session.adapted is None and why in said[0] and why in one.say(session) and "24 labels" in said[0]
    assert not one.step(session) and one._asking is None, "not again with the same labels"


def test_no_round_without_enough_to_compare_on(desk: Desk, tiny_clip: str, photos: list[Path]):
    one = Adapting(desk, tiny_clip, "auto", {}, module="dies")
    session = labelled(photos, 0)
    for place in range(40):
        session.label(place, place % 3, "typical")
    assert not one.step(session) and one._asking is None
    session = labelled(photos, 30)
    for place in session.labelled:
        session.label(place, 0)
    assert not one.step(session) and one._asking is None


def test_the_process_ends_with_whoever_asked(tmp_path: Path):
    ended, closed = Asking("waits", {}), Asking("waits", {})
    assert ended.answer() is None
    ended.end()
    assert ended._process.returncode not in (None, 0)
    assert closed._process.stdin is not None
    closed._process.stdin.close()  # as the system does for a process that is killed
    until(lambda: closed._process.poll() is not None)
    with pytest.raises(BrokenOffError):
        closed.answer()
    closed.end()


def test_it_takes_over_while_somebody_labels(
    desk: Desk, tiny_clip: str, photos: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ATHA_CACHE", str(desk.journal.table.parent / "cache"))
    said: list[str] = []
    adapting = Adapting(desk, tiny_clip, "auto", {}, told=said.append, module="fits")

    def model() -> atha.Classifier:
        return atha.Classifier.from_pretrained(tiny_clip, recipe="probes", device="cpu")

    learner = Learner(desk, model, {}, 0.5, adapting=adapting)
    desk.told = learner.tell
    learner.start()
    for number in range(30):
        photo = until(lambda: desk.hand_out("tab-0001", 1))[0]
        desk.press(f"press-{number:05}", photo["place"], "label", truth(desk.files[photo["place"]]), photo["seen"])
    until(lambda: desk.learned.led is not None)
    learned = desk.learned
    assert learned.accuracy is not None and learned.accuracy > 0.8 and 20 <= (learned.led or 0) <= 30
    assert "leads" in learned.adapted and "leads" in said[0]
    assert learned.curve[-1][:2] == (30, learned.accuracy) and desk.status()["led"] == learned.led
    learner.stop()
    assert adapting._asking is None and len(desk.journal.marks) == 30


def test_what_the_process_fits(photos: list[Path], tmp_path: Path):
    """Held-out images are asked of the fit that did not learn from them, others of all; classes keep their columns."""
    index = {"red_thing": 0, "GreenThing": 1, "blue thing": 2}
    labels = [index[file.parent.name] for file in photos]
    used = [place for place in range(len(photos)) if place % 5 == 0]
    asked = [place for place in range(len(photos)) if place % 5 == 1]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    blue = [turn for turn, place in enumerate(used) if labels[place] == 2]
    given = Round(
        "nano", "probes", "cpu", 1, 10**8, 0, [*CLASSES, "no label yet"], {"red thing": "a red thing"},
        [str(photos[place]) for place in used], [labels[place] for place in used], [[0, 5], blue],
        [*(str(photos[place]) for place in asked), str(broken)],
    )  # fmt: skip
    found = fit_and_ask(Round(**given.to_dict()))
    assert found.shape == (2 + len(blue) + len(asked) + 1, 4) and np.isnan(found[-1]).all()
    assert (found[:-1, 3] == 0).all() and np.allclose(found[:-1].sum(1), 1)
    assert found[:2].argmax(1).tolist() == [labels[used[0]], labels[used[5]]]
    assert (found[2 : 2 + len(blue), 2] == 0).all(), "of a fit without a blue one"
    rest = found[2 + len(blue) : -1]
    told = [labels[place] for place in asked]
    assert (rest.argmax(1) == told).mean() > 0.7 and (rest[:, 2] < 0.51).all(), "the mean of both fits"
    with pytest.raises(DataError):
        fit_and_ask(Round(**given.to_dict() | {"labels": [0] * len(used)}))
