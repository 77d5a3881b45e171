"""What learns behind the page: on photos and a model, and with whatever is pressed meanwhile."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from waiting import until

import atha
from atha.data import Selection, read_labelled
from atha.errors import BackboneError
from atha.labelling.page.desk import Desk
from atha.labelling.page.journal import Journal
from atha.labelling.page.learner import Learner
from conftest import COLOURS, write_images

CLASSES = ["red thing", "green thing", "blue thing"]
TRUE = {"red_thing": 0, "GreenThing": 1, "blue thing": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = write_images(tmp_path_factory.mktemp("pile"), COLOURS, 12, seed=3)
    files = sorted(folder.glob("*/*.png"))
    (folder / "red_thing" / "copy.png").write_bytes(files[-1].read_bytes())
    (folder / "red_thing" / "broken.png").write_bytes(b"nothing")
    return sorted(folder.glob("*/*.png"))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path_factory.getbasetemp() / "page-cache"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "labels.csv", CLASSES)
    yield made
    made.close()


@pytest.fixture
def model(tiny_clip: str) -> Callable[[], atha.Classifier]:
    return lambda: atha.Classifier.from_pretrained(tiny_clip, recipe="probes", device="cpu")


def label(desk: Desk, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        photo = until(lambda: desk.hand_out("tab-0001", 1))[0]
        name = desk.files[photo["place"]].parent.name
        desk.press(f"press-{number:05}", photo["place"], "label", TRUE[name], photo["seen"])


def test_it_learns_while_somebody_labels_and_goes_on(
    photos: list[Path], journal: Journal, model: Callable[[], atha.Classifier]
):
    desk = Desk(photos, journal)
    label(desk, 3)  # nothing is learned yet
    learner = Learner(desk, model, {}, 0.5)
    desk.told = learner.tell
    learner.start()
    until(lambda: desk.learned.looked == len(photos))
    assert (desk.learned.unreadable, desk.learned.copies) == (1, 1)
    label(desk, 12, start=3)
    marks = {mark.how for mark in journal.marks}
    assert "random" in marks and marks & {"typical", "unsure"}
    desk.add_class("press-class", "odd")
    label(desk, 2, start=15)
    until(lambda: desk.learned.curve and desk.learned.curve[-1][0] == 17)
    learned = desk.learned
    assert learned.accuracy is not None and learned.accuracy > 0.5
    assert learned.interval[0] <= learned.accuracy <= learned.interval[1] and learned.images > 3
    assert "label 20 more" in learned.advice and learned.weakest is not None
    desk.undo("press-undo-1", desk.status()["last"])
    until(lambda: desk.learned.curve[-1][0] == 16)
    learner.stop()
    assert not learner.is_alive
    read = read_labelled(journal.table, Selection("fit"))  # as a fit does
    said = {os.path.normpath(sample.image): sample.label for sample in read.samples}
    assert said == {os.path.normpath(journal.table.parent / mark.path): mark.label for mark in journal.marks}

    again = Desk(photos, journal)
    other = Learner(again, model, {}, 0.5)
    again.told = other.tell
    other.start()
    until(lambda: again.learned.accuracy is not None)
    assert again.learned.accuracy == pytest.approx(desk.learned.accuracy, abs=0.05)
    points = until(lambda: len(again.learned.curve) > 2 and again.learned.curve)
    assert points[0][0] == 5 and points[-1][0] == 16
    readable = [mark for mark in journal.marks if "broken" not in mark.path]
    left = len(photos) - 2 - len(readable)
    label(again, left, start=100)
    assert not again.hand_out("tab-0001", 1), "a copy and what cannot be read are not shown"
    other.stop()


def test_labels_are_taken_where_nothing_can_be_learned(photos: list[Path], journal: Journal):
    def broken() -> atha.Classifier:
        raise BackboneError("there is no such model: give another")

    failures: list[Exception] = []
    desk = Desk(photos, journal)
    learner = Learner(desk, broken, {}, 0.25, failures.append)
    learner.start()
    until(lambda: desk.learned.problem)
    assert "no such model" in desk.learned.problem and len(failures) == 1
    learner.stop()
    photo = desk.hand_out("tab-0001", 1)[0]
    desk.press("press-00001", photo["place"], "label", 0, 0)
    assert len(journal.marks) == 1


def test_memory_does_not_grow_with_the_labels(
    photos: list[Path], journal: Journal, model: Callable[[], atha.Classifier], monkeypatch: pytest.MonkeyPatch
):
    """Of estimates that are compared no more, the predictions of the whole pile are dropped."""
    from atha.labelling import estimate
    from atha.labelling.model import Texts
    from atha.labelling.session import Session

    back = 4
    monkeypatch.setattr(estimate, "BACK", back)
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(3, 8))
    session = Session(list(CLASSES), Texts(texts / np.linalg.norm(texts, axis=1, keepdims=True), 10.0), 40)
    session.add_features(range(40), rng.normal(size=(40, 8)))
    learner = Learner(Desk(photos, journal), model, {}, 0.25)
    for place in range(3 * back):
        session.label(place, place % 3, "random")
        if place > 1:
            learner._estimate(session)
    assert len(session.looks) == 2 * back and len(learner._curve) == 3 * back - 2
    for place in range(back, 3 * back):
        session.unlabel(place)
    learner._estimate(session)
    assert max(learner._curve) == back and session.looks[-1].labels == back


def test_grey_and_deep_photos_are_shown(tmp_path: Path):
    from atha.data.images import ImageReader
    from atha.labelling.page.thumbnails import Thumbnails

    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).save(tmp_path / "deep.png")
    assert Thumbnails([tmp_path / "deep.png"], ImageReader(quiet=True)).get(0, 32)[:2] == b"\xff\xd8"
