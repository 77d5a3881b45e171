"""Labels on disk: whatever is pressed in whatever order, and wherever a process is killed."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from atha.data import Selection, read_labelled
from atha.documents.escaping import from_csv
from atha.errors import AthaError, DataError
from atha.labelling.page import journal as journal_module
from atha.labelling.page.journal import Journal
from atha.labelling.page.marks import ConflictError, Event, Marks
from atha.labelling.suggesting import _marks as read_marks
from commands import run
from conftest import write_images
from power import Disk, put

CLASSES = ["nevus", "melanoma", "<script>"]


def rows(table: Path) -> list[tuple[str, str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return [(from_csv(a), from_csv(b), c) for a, b, c in list(csv.reader(file))[1:]]


def labels(marks: Marks) -> list[tuple[str, str, str]]:
    return [(mark.path, mark.label, mark.how) for mark in marks if mark.kind == "label"]


class Hand:
    """Presses, each with a name of its own."""

    def __init__(self, journal: Journal, start: int = 0) -> None:
        self.journal, self.count = journal, start

    def _name(self) -> str:
        self.count += 1
        return f"press-{self.count:06}"

    def label(self, path: str, label: str, how: Any = "random", kind: Any = "label") -> None:
        mark = self.journal.marks.of(path)
        seen = mark.number if mark else 0
        self.journal.write(self.journal.marks.press(self._name(), path, kind, label, how, seen))

    def undo(self) -> None:
        self.journal.write(self.journal.marks.undo(self._name(), self.journal.marks.undoable))

    def add(self, label: str) -> None:
        self.journal.write(self.journal.marks.new_class(self._name(), label))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "labels.csv", CLASSES, seed=3)
    yield made
    made.close()


def script(hand: Hand) -> Iterator[None]:
    """An afternoon in short, a step at a time."""
    hand.label("a.png", "nevus")
    yield
    hand.label("=b.png", "<script>", "typical")
    yield
    hand.label("c.png", "", "unsure", kind="none")
    yield
    hand.label("a.png", "melanoma", "unsure")
    yield
    hand.undo()
    yield
    hand.add("mole")
    yield
    hand.label("d.png", "mole", "unsure")
    yield
    hand.undo()
    yield
    hand.label("c.png", "nevus")
    yield


def test_the_table_follows_each_press(opened: Journal):
    hand = Hand(opened)
    said = []
    for _ in script(hand):
        assert rows(opened.table) == labels(opened.marks)
        said.append(labels(opened.marks))
    assert said[3] == [("a.png", "melanoma", "random"), ("=b.png", "<script>", "typical")], "the first choice stays"
    assert said[4] == said[1] == said[5]
    assert said[-1] == [("a.png", "nevus", "random"), ("=b.png", "<script>", "typical"), ("c.png", "nevus", "unsure")]


def test_it_goes_on_where_it_stopped(opened: Journal):
    for _ in script(Hand(opened)):
        pass
    opened.close()
    again = Journal(opened.table, ["nevus", "wart"])
    assert again.seed == 3
    assert again.marks.classes == [*CLASSES, "mole", "wart"]
    assert labels(again.marks) == labels(opened.marks) == rows(opened.table)
    assert again.marks.undoable == opened.marks.undoable
    again.close()
    with pytest.raises(DataError, match="--seed 3: leave --seed out"):
        Journal(opened.table, seed=4)


def test_what_a_kill_or_a_loss_of_power_leaves_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "disk"
    root.mkdir()
    table = root / "labels.csv"
    journal = Journal(table, CLASSES)
    with monkeypatch.context() as patch:
        disk = Disk(root, patch)
        seen = len(disk.states)
        cases: list[tuple[Any, list[Any], list[Any]]] = []
        before = labels(journal.marks)
        for _ in script(Hand(journal)):
            after = labels(journal.marks)
            cases += [(state, before, after) for state in disk.states[seen:]]
            cases += [(state, after, after) for state in disk.now()]  # somebody was told: it may not be lost
            seen, before = len(disk.states), after
        disk.close()
    journal.close()
    assert len(cases) > 60
    for number, (state, before, after) in enumerate(cases):
        folder = put(state, tmp_path / f"state-{number}")
        again = Journal(folder / "labels.csv")
        assert labels(again.marks) in (before, after)
        assert rows(folder / "labels.csv") == labels(again.marks)
        Hand(again, start=1000).label("z.png", "nevus")
        assert rows(folder / "labels.csv")[-1] == ("z.png", "nevus", "random")
        again.close()
        shutil.rmtree(folder)


def test_a_line_cut_anywhere_is_as_if_it_was_not_pressed(opened: Journal, tmp_path: Path):
    hand = Hand(opened)
    hand.label("a.png", "nevus")
    kept, table = opened._file.read_bytes(), opened.table.read_bytes()
    hand.label("b.png", "melanoma")
    whole = opened._file.read_bytes()
    row = opened.table.read_bytes()[len(table) :]
    opened.close()
    for cut in range(len(kept), len(whole)):
        opened._file.write_bytes(whole[:cut])
        opened.table.write_bytes(table)
        again = Journal(opened.table)
        assert [path for path, *_ in rows(opened.table)] == ["a.png"] == [mark.path for mark in again.marks]
        again.close()
    for cut in range(len(row)):  # of the table, whose journal is whole
        opened._file.write_bytes(whole)
        opened.table.write_bytes(table + row[:cut])
        again = Journal(opened.table)
        assert [path for path, *_ in rows(opened.table)] == ["a.png", "b.png"]
        again.close()


def test_tables_of_others_are_not_touched(opened: Journal, tmp_path: Path):
    foreign = tmp_path / "mine.csv"
    foreign.write_text("path,label\na.png,nevus\n")
    with pytest.raises(DataError, match=r"was not made by atha label.*another --out"):
        Journal(foreign)
    assert foreign.read_text() == "path,label\na.png,nevus\n" and not (tmp_path / "mine.csv.journal").exists()

    Hand(opened).label("a.png", "nevus")
    opened.close()
    changed = opened.table.read_text() + "b.png,melanoma,\n"
    opened.table.write_text(changed)
    with pytest.raises(DataError, match="changed by another program"):
        Journal(opened.table)
    assert opened.table.read_text() == changed
    opened.table.unlink()
    again = Journal(opened.table)
    assert rows(opened.table) == [("a.png", "nevus", "random")]

    opened.table.write_text(changed)  # while it is open
    Hand(again, 50).label("c.png", "nevus")
    assert "changed by another program" in again.trouble and opened.table.read_text() == changed
    opened.table.unlink()
    again.close()
    last = Journal(opened.table)
    assert [path for path, *_ in rows(opened.table)] == ["a.png", "c.png"]
    last.close()


def test_one_process_at_a_time(opened: Journal):
    with pytest.raises(DataError, match="labelled by another process"):
        Journal(opened.table)
    opened.close()
    opened.close()
    assert sorted(path.name for path in opened.table.parent.iterdir()) == ["labels.csv", "labels.csv.journal"]
    with FileLock(opened.table.with_name(".labels.csv.lock"), timeout=0):
        pass


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no journal of atha label"),
        (b"path,label\n", "damaged in line 1"),
        (b'{"atha labels": 2, "seed": 0}\n', "damaged in line 1"),
        (b'{"atha labels": 1, "seed": 0}\n{"number": 1}\n{"number": 2}\n', "damaged in line 2"),
        (b'{"atha labels": 1, "seed": 0}\n[[[\n[]\n', "damaged in line 2"),
    ],
)
def test_damaged_journals(tmp_path: Path, content: bytes, why: str):
    (tmp_path / "labels.csv.journal").write_bytes(content)
    with pytest.raises(DataError, match=why):
        Journal(tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv.journal").read_bytes() == content and not (tmp_path / "labels.csv").exists()


def test_a_full_disk(opened: Journal, monkeypatch: pytest.MonkeyPatch):
    hand = Hand(opened)
    hand.label("a.png", "nevus")
    before = opened._file.read_bytes()
    real = journal_module.os.write
    with monkeypatch.context() as patch:

        def full(file: int, content: bytes) -> int:
            real(file, content[:20])
            raise OSError(28, "No space left on device")

        patch.setattr(journal_module.os, "write", full)
        with pytest.raises(AthaError, match=r"not saved \(No space left on device\): make room"):
            hand.label("b.png", "nevus")
        assert opened._file.read_bytes() == before and opened.marks.of("b.png") is None

        patch.setattr(journal_module.os, "write", lambda file, content: real(file, content) if b"{" in content else 0)
        patch.setattr(journal_module, "write_bytes", lambda *_, **__: full(0, b""))
        hand.label("b.png", "nevus")  # the journal has it, the table cannot
        assert "could not be written" in opened.trouble
    hand.label("c.png", "nevus")
    assert [path for path, *_ in rows(opened.table)] == ["a.png", "b.png", "c.png"] and not opened.trouble


def test_a_full_disk_and_then_a_kill(opened: Journal, monkeypatch: pytest.MonkeyPatch):
    """The table is as an earlier press left it, and half a row: nobody else has changed it."""
    hand = Hand(opened)
    hand.label("a.png", "nevus")
    hand.label("b.png", "nevus")
    real = journal_module.os.write

    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "write", lambda file, some: real(file, some if b"{" in some else some[:4]))
        patch.setattr(journal_module, "write_bytes", full)
        hand.label("c.png", "nevus")
        hand.label("d.png", "melanoma")
        hand.label("a.png", "melanoma")
        hand.undo()
        hand.label("e.png", "melanoma")
    assert len(opened.table.read_text().splitlines()[-1]) == 4, "half of c's row"
    opened.close()
    again = Journal(opened.table)
    assert [path for path, *_ in rows(opened.table)] == [f"{name}.png" for name in "abcde"] and not again.trouble
    again.close()
    odd = opened.table.read_text().replace("b.png", "z.png")
    opened.table.write_text(odd)
    with pytest.raises(DataError, match="changed by another program"):
        Journal(opened.table)


def test_names_that_a_spreadsheet_would_compute(opened: Journal):
    """What reads a table for a fit and for a choice has the photos' and the classes' own names."""
    names = ["=a.png", "-b.png", 'say "c".png', "@d.png"]
    hand = Hand(opened)
    hand.add("+plus")
    for name in names:
        (opened.table.parent / name).touch()
        hand.label(name, "+plus" if name == "=a.png" else "nevus")
    read = read_labelled(opened.table, Selection("fit"))
    assert {Path(str(one.image)).name: one.label for one in read.samples} == dict.fromkeys(names, "nevus") | {
        "=a.png": "+plus"
    }
    assert {Path(path).name: how for path, how in read_marks(opened.table).items()} == dict.fromkeys(names, "random")


@pytest.mark.parametrize("name", ["", " ", "a" * 101, "a,b", "a;b", "a|b", "a\nb", "NEVUS", "__", "\u202eab"])
def test_names_that_are_no_class(opened: Journal, name: str):
    with pytest.raises(DataError):
        Hand(opened).add(name)
    assert opened.marks.classes == CLASSES


PATHS = ["a.png", "b.png", "c.png"]
PRESS = st.tuples(
    st.integers(0, 1), st.sampled_from(["label", "none", "skip", "undo", "look", "again"]), st.sampled_from(PATHS),
    st.sampled_from(CLASSES),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(presses=st.lists(PRESS, max_size=25))
def test_two_tabs_that_press_anything(tmp_path_factory: pytest.TempPathFactory, presses: list[Any]):
    """A tab overwrites nothing that it has not shown, undo takes back the last, and the disk says the same."""
    folder = tmp_path_factory.mktemp("tabs")
    journal = Journal(folder / "labels.csv", CLASSES)
    seen: list[dict[str, int]] = [{}, {}]
    last = [0, 0]
    model: list[dict[str, tuple[str, str]]] = [{}]
    sent: Event | None = None
    for number, (tab, kind, path, label) in enumerate(presses):
        marks, said = journal.marks, model[-1]
        mark = marks.of(path)
        if kind == "look":
            seen[tab] = {one.path: one.number for one in marks}
            last[tab] = marks.undoable
        elif kind == "again":
            assert sent is None or marks.knows(sent.press)
        elif kind == "undo":
            try:
                sent = marks.undo(f"press-{number:05}", last[tab])
            except DataError:
                assert len(model) == 1 or last[tab] != marks.undoable
                continue
            journal.write(sent)
            model.pop()
            last[tab] = journal.marks.undoable
        else:
            try:
                sent = marks.press(f"press-{number:05}", path, kind, label, "typical", seen[tab].get(path, 0))
            except ConflictError:
                assert (mark.number if mark else 0) != seen[tab].get(path, 0)
                continue
            journal.write(sent)
            model.append(said | {path: (kind, label if kind == "label" else "")})
            seen[tab][path] = last[tab] = sent.number
        assert {one.path: (one.kind, one.label) for one in journal.marks} == model[-1]
        assert rows(journal.table) == labels(journal.marks)
    journal.close()
    again = Journal(journal.table)
    assert list(again.marks) == list(journal.marks) and again.marks.undoable == journal.marks.undoable
    assert len({path for path, *_ in rows(journal.table)}) == len(rows(journal.table))
    again.close()
    for line in journal._file.read_text().splitlines()[1:]:
        Event.of(json.loads(line))
    shutil.rmtree(folder)


def test_what_is_not_in_the_table_is_not_said_to_be(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "photos", {"red": (200, 60, 60), "blue": (60, 60, 200)}, 1)
    table = tmp_path / "labels.csv"

    def label_on_page(files, journal, *_, **__):
        hand = Hand(journal)
        hand.label(str(files[0]), "red")
        if others:
            table.write_text(table.read_text() + f"{files[1]},blue,own\n")
        hand.label(str(files[1]), "blue")

    monkeypatch.setattr("atha.labelling.page.running.label_on_page", label_on_page)
    command = ["label", folder, "--out", table, "--model", "nano", "--classes", "red,blue", "--no-browser"]
    others = False
    done = run(*command)
    assert done.exit_code == 0 and "2 labels are in" in done.stderr
    table.unlink()
    table.with_name("labels.csv.journal").unlink()
    others = True
    done = run(*command)
    assert done.exit_code == 2 and "are in" not in done.stderr
    assert "was changed by another program" in " ".join(done.stderr.split())
