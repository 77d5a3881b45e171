"""Saving survives a kill and a loss of power at any moment: what is there is the old or the new, whole."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from adapter.test_record import FIGURES, RECORD
from atha import durable
from atha.adapter.files import Saved, read_adapter, update_record, write_adapter
from atha.adapter.record import EvaluationRecord, parse_record
from atha.classes import Classes
from atha.durable import exchange, tidy
from atha.errors import AdapterError
from atha.files import check_free, whole_file, whole_folder, write_whole
from atha.recipe import Recipe
from power import Disk, Tree, content, put


def made(folder: Path, seed: int) -> Saved:
    """An adapter that differs with the seed, in each of its files but the record's frame."""
    record = parse_record(RECORD, folder).noting(None)
    tensors = {"x": torch.full((2, 3), float(seed))}
    classes = Classes(("a", "b"), (f"text {seed}", "b"))
    return Saved(folder, classes, Recipe.load("paper", {"training.steps": seed + 1}), tensors, record)


def save(folder: Path, seed: int = 1) -> None:
    write_adapter(made(folder, seed), f"card {seed}", overwrite=True)


def evaluate(folder: Path) -> None:
    noted = EvaluationRecord.model_validate(FIGURES | {"accuracy": 0.25})
    record = read_adapter(folder).record
    update_record(folder, record.model_copy(update={"evaluation": noted}), "card with figures")


def report(folder: Path) -> None:
    write_whole(folder / "report.html", "new " * 20_000, overwrite=True)


CHANGES: dict[str, tuple[Callable[[Path], None] | None, Callable[[Path], None]]] = {
    "new": (None, save),
    "over": (lambda folder: save(folder, 0), save),
    "record": (save, evaluate),
    "report": (save, report),
}


def check(folder: Path) -> Tree | None:
    """What the next command finds of an adapter; None of none. Nothing else may be there when it has looked."""
    try:
        read_adapter(folder)
        check_free(folder / "report.html", overwrite=True)
    except AdapterError:
        assert not folder.exists()
        assert not list(folder.parent.iterdir())
        return None
    assert [one.name for one in folder.parent.iterdir()] == [folder.name]
    assert not [one for one in folder.iterdir() if one.name.startswith(".")]
    return content(folder)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Disk]]:
    disks: list[Disk] = []

    def watch(root: Path) -> Disk:
        disks.append(Disk(root, monkeypatch))
        return disks[0]

    yield watch
    for one in disks:
        one.close()


@pytest.mark.parametrize("can_exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("change", CHANGES)
def test_loss_of_power(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    disk: Callable[[Path], Disk],
    change: str,
    can_exchange: bool,
) -> None:
    if not can_exchange:
        monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    before, act = CHANGES[change]
    (tmp_path / "place").mkdir()
    folder = tmp_path / "place" / "adapter"
    if before is not None:
        before(folder)
    old = content(folder) if before is not None else None
    watched = disk(folder.parent)
    act(folder)
    monkeypatch.undo()
    new = content(folder)
    assert new != old
    found = []
    for number, state in enumerate([*watched.states, *watched.now()]):
        found.append(check(put(state, tmp_path / str(number)) / "adapter"))
        assert found[-1] in (old, new), f"after step {number} it is neither the old nor the new one"
    assert old in found and new in found
    assert found[-3:] == [new] * 3, "what was said to be saved, is"


def test_new_folders_survive_a_loss_of_power(tmp_path: Path, disk: Callable[[Path], Disk]) -> None:
    watched = disk(tmp_path)
    write_whole(tmp_path / "a" / "b" / "text", "words")
    for number, state in enumerate(watched.now()):
        place = put(state, tmp_path / str(number)) / "a" / "b"
        tidy(place)
        assert content(place) == {"text": b"words"}


def test_a_folder_of_many_files_survives_a_loss_of_power(tmp_path: Path, disk: Callable[[Path], Disk]) -> None:
    watched = disk(tmp_path)
    with whole_folder(tmp_path / "many") as new:
        for number in range(150):
            (new / str(number)).write_text("words")
    assert [one["many"] for one in watched.now()] == [{str(number): b"words" for number in range(150)}] * 3


# A real kill. The process that is killed is a fork, so that its imports are not waited for.


@contextmanager
def forked(act: Callable[[], None]) -> Iterator[int]:
    """A process that does something and ends; its number."""
    number = os.fork()
    if not number:
        with suppress(BaseException):
            act()
            os._exit(0)
        os._exit(1)
    try:
        yield number
    finally:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)


def survive(place: Path, change: str, kills: int, chance: random.Random) -> dict[str, int]:
    """Kill a change at random moments; how often the old and the new were found, and how often something was left."""
    before, act = CHANGES[change]
    folder = place / "adapter"

    def prepare() -> Tree | None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if before is not None:
            before(folder)
        return content(folder) if before is not None else None

    prepare()
    began = time.perf_counter()
    act(folder)
    seconds, new = time.perf_counter() - began, content(folder)
    counts = {"old": 0, "new": 0, "left": 0}
    for _ in range(kills):
        old = prepare()
        with forked(lambda: act(folder)):
            time.sleep(chance.uniform(0, 2 * seconds))
        counts["left"] += any(place.rglob(".atha-saving-*"))
        found = check(folder)
        assert found in (old, new)
        counts["new" if found == new else "old"] += 1
    return counts


@pytest.mark.parametrize("change", CHANGES)
def test_kills(tmp_path: Path, change: str) -> None:
    counts = survive(tmp_path / "place", change, 4, random.Random(0))
    assert counts["old"] + counts["new"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("can_exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("change", CHANGES)
def test_many_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, can_exchange: bool) -> None:
    if not can_exchange:
        monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    counts = survive(tmp_path / "place", change, 250, random.Random(1))
    print(change, counts)
    assert min(counts.values()) > 0, "kills came before, while and after"


def test_who_reads_while_it_is_saved_over_has_one_of_the_two(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save(folder, 0)

    def again_and_again() -> None:
        for number in range(10_000):
            save(folder, number % 2)

    found: list[str] = []
    with forked(again_and_again):
        while len(found) < 40 or len(set(found)) < 2:
            saved = read_adapter(folder)
            found.append(saved.classes.texts[0])
            assert saved.tensors["x"][0, 0] == int(found[-1][-1]) == saved.recipe.training.steps - 1


def test_who_still_writes_is_left_alone(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "adapter") as new:
        tidy(tmp_path)
        (new / "file").write_text("words")
        with whole_file(tmp_path / "other") as file:
            file.write_text("more")
    assert content(tmp_path) == {"adapter": {"file": b"words"}, "other": b"more"}


@pytest.mark.parametrize("link", ["", "old", "new"])
def test_what_leads_elsewhere_is_not_followed(tmp_path: Path, link: str) -> None:
    """Somebody may have made what looks like a leftover, such as in an archive."""
    put({"home": {"old": {"letters": b"1"}, "new": {"letters": b"2"}}, "place": {}}, tmp_path / "disk")
    work = tmp_path / "disk" / "place" / ".atha-saving-0123456789ab"
    before = content(tmp_path / "disk" / "home")
    if link:
        put({"old": {}, "new": {}}, work)
        (work / link).rmdir()
        (work / link).symlink_to(tmp_path / "disk" / "home" / "old")
        (work / ({"old", "new"} - {link}).pop() / "letters").write_bytes(b"3")
    else:
        work.symlink_to(tmp_path / "disk" / "home")
    tidy(work.parent)
    assert content(tmp_path / "disk" / "home") == before
    assert not [path for path in work.parent.iterdir() if not path.is_symlink()]


def test_exchange(tmp_path: Path) -> None:
    put({"one": {"a": b"1"}, "other": {"b": b"2"}}, tmp_path / "place")
    if exchange(tmp_path / "place" / "one", tmp_path / "place" / "other"):
        assert content(tmp_path / "place") == {"one": {"b": b"2"}, "other": {"a": b"1"}}
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "place" / "one", tmp_path / "nothing")


def test_what_is_there_besides_stays_when_figures_are_noted(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save(folder)
    put({"mine": {"notes.txt": b"words"}}, folder / "sub")
    evaluate(folder)
    assert content(folder / "sub") == {"mine": {"notes.txt": b"words"}}
    assert read_adapter(folder).record.evaluation is not None


def test_figures_are_not_noted_in_an_adapter_that_took_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save(folder)
    record = read_adapter(folder).record
    mine = record.model_copy(update={"run": record.run.model_copy(update={"seed": 5})})
    with pytest.raises(AdapterError, match="adapter holds another adapter by now"):
        update_record(folder, mine, "card")
    assert read_adapter(folder).record == record
