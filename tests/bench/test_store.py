"""The store: written once, whole at every moment, for several processes, and never at a foreign file's cost."""

import json
import math
import resource
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from atha.bench.results import definition_hash
from atha.bench.store import Store
from atha.bench.store_file import APPLICATION_ID, VERSION, StoreError
from atha.calibration import BINS
from atha.statistics import per_class
from stores import CLASSES, QUERY, WAY, definition, episode_set, fill, result

# Helpers, for the other tests of this folder too.


def dump(path):
    """All that a store holds, whatever the order in which it was written; without the runs."""
    with sqlite3.connect(path) as connection:
        found = {
            table: sorted(connection.execute(query).fetchall())
            for table, query in {
                "experiments": "SELECT hash, method, model, definition FROM experiments",
                "episodes": "SELECT sequence, episode, content FROM episodes",
                "results": "SELECT e.hash, r.episode, r.hash, accuracy, brier, calibration, classes, correct, seconds, "
                "memory FROM results r JOIN experiments e ON e.id = r.experiment",
                "probabilities": "SELECT e.hash, p.episode, p.probabilities FROM probabilities p "
                "JOIN experiments e ON e.id = p.experiment",
            }.items()
        }
    connection.close()
    return found


def whole(path):
    """The file is sound, and each result has its probabilities and its run."""
    connection = sqlite3.connect(path)
    checked = connection.execute("PRAGMA integrity_check").fetchall()
    pairs = [
        connection.execute(f"SELECT experiment, episode FROM {table} ORDER BY 1, 2").fetchall()
        for table in ("results", "probabilities")
    ]
    orphans = connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()
    return checked == [("ok",)] and pairs[0] == pairs[1] and not orphans


def files(folder):
    """The files below a folder and what is in them."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def sentence(caught):
    """An error's text, which must be one line."""
    text = str(caught.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.db"


# Written once


def test_a_result_stays_as_it_was_first_written(path):
    with Store(path, create=True) as store:
        key = fill(store, definition(), range(3))
        first = dump(path)
        changed = np.eye(WAY, dtype=np.float32).repeat(QUERY, axis=0)
        again = [result(key, 1, probabilities=changed, seconds=9.0), result(key, 3)]
        assert store.add(again, store.start_run({})) == 1
    after = dump(path)
    assert after["results"][:3] == first["results"]
    assert after["probabilities"][:3] == first["probabilities"]
    assert len(after["results"]) == 4


def test_a_result_twice_in_one_go_is_one(path):
    with Store(path, create=True) as store:
        key = store.add_experiment("zero-shot", "nano", definition())
        assert store.add([result(key, 0), result(key, 0, seconds=9.0)], store.start_run({})) == 1
    assert len(dump(path)["results"]) == 1
    assert dump(path)["results"][0][8] == result(key, 0).seconds


def test_the_key_is_in_the_file_and_not_in_the_code(path):
    with Store(path, create=True) as store:
        fill(store, definition(), range(1))
    connection = sqlite3.connect(path)
    for table in ("results", "probabilities", "experiments"):
        row = connection.execute(f"SELECT * FROM {table}").fetchone()
        row = row if table != "experiments" else (row[0] + 1, *row[1:])  # another id, the same hash
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    connection.close()


def test_results_of_one_call_are_written_all_or_none(path):
    with Store(path, create=True) as store:
        key = fill(store, definition(), range(2))
        run, before = store.start_run({}), dump(path)
        wrong = result(key, 3, seconds=math.nan)  # to SQLite it is nothing, where something must be
        with pytest.raises(StoreError):
            store.add([result(key, 2), wrong], run)
        assert dump(path) == before
        assert store.add([result(key, 2)], run) == 1, "and it goes on"


def test_an_experiment_is_known_once_whatever_the_order_of_keys(path):
    described = definition()
    turned = {key: described[key] for key in reversed(described)}
    with Store(path, create=True) as store:
        assert store.add_experiment("a", "nano", described) == store.add_experiment("a", "nano", turned)
        store.add_experiment("a", "nano", definition(seed=2))
    assert len(dump(path)["experiments"]) == 2


def test_definition_hash():
    one = definition_hash({"a": {"b": 1, "c": [1, 2]}, "d": "é\udcff"})
    assert one == definition_hash({"d": "é\udcff", "a": {"c": [1, 2], "b": 1}})
    assert len(one) == 64
    others = [
        {"a": {"b": 1, "c": [2, 1]}, "d": "é\udcff"},
        {"a": {"b": 2, "c": [1, 2]}, "d": "é\udcff"},
        {"a": {"b": 1, "c": [1, 2]}, "d": "e\udcff"},
        {"a": {"b": 1, "c": [1, 2]}, "d": "é\udcff", "e": None},
    ]
    assert len({one, *map(definition_hash, others)}) == 5
    with pytest.raises(ValueError, match="JSON"):
        definition_hash({"a": float("nan")})


def test_episodes_are_kept_once_and_cannot_be_others(path):
    with Store(path, create=True) as store:
        store.add_episodes(episode_set(2))
        store.add_episodes(episode_set(4))
        before = dump(path)
        assert [row[:2] for row in before["episodes"]] == [("key", index) for index in range(4)]
        assert json.loads(before["episodes"][0][2])["support"] == [[f"{label}/0_0.png"] for label in CLASSES[:WAY]]
        with pytest.raises(StoreError) as caught:
            store.add_episodes(episode_set(6, shift=1))
        assert str(path) in sentence(caught)
        assert dump(path) == before, "the new ones are not taken either"
        store.add_episodes(episode_set(2, key="other", shift=1))
    assert len(dump(path)["episodes"]) == 6


# What is stored is what was given


def test_probabilities_come_back_bit_for_bit(path):
    rng = np.random.default_rng(3)
    given = rng.dirichlet(np.full(WAY, 0.05), WAY * QUERY).astype(np.float32)
    given[0] = [1, 0, 1e-45]  # the smallest float32 there is
    given[1] = np.nextafter(np.float32(1 / 3), np.float32(1))
    with Store(path, create=True) as store:
        key = store.add_experiment("zero-shot", "nano", definition())
        rows = [result(key, 7, probabilities=np.asfortranarray(given)), result(key, 2)]
        store.add(rows, store.start_run({}))
    with Store(path) as store:
        found = dict(store.probabilities(key))
        assert dict(store.probabilities("unknown")) == {}
    assert list(found) == [2, 7], "in the order of episodes"
    for row in rows:
        assert found[row.episode].dtype == np.float32
        assert found[row.episode].tobytes() == np.ascontiguousarray(row.probabilities).tobytes()


@pytest.mark.parametrize(("way", "query"), [(3, 4), (2, 1), (4, 15)])
def test_what_is_stored_is_what_the_probabilities_say(path, way, query):
    with Store(path, create=True) as store:
        key = fill(store, definition(way=way, query=query), range(20))
    with Store(path) as store:
        (one,) = store.experiments()
        probabilities = [found for _, found in store.probabilities(key)]
    assert one.episodes.tolist() == list(range(20))
    calibration, counts = np.zeros((3, BINS)), {}
    for index, found in enumerate(probabilities):
        truth = [place // query for place in range(way * query)]
        right = [int(row.argmax()) == place for row, place in zip(found, truth, strict=True)]
        assert one.accuracy[index] == sum(right) / len(right)
        wanted = np.eye(way)[truth]
        assert one.brier[index] == pytest.approx(((found.astype(np.float64) - wanted) ** 2).sum(axis=1).mean())
        for row, hit in zip(found, right, strict=True):
            place = min(int(row.max() * BINS), BINS - 1)
            calibration[:, place] += (1, row.max(), hit)
        for position, label in enumerate(one.classes[index]):
            hits = sum(right[position * query : (position + 1) * query])
            assert one.correct[index, position] == hits
            seen, good = counts.get(label, (0, 0))
            counts[label] = (seen + 1, good + hits)
    assert one.calibration == pytest.approx(calibration)
    summed = per_class(one.classes, one.correct, query)
    assert {label: (each.episodes, each.share.successes) for label, each in summed.items()} == counts


def test_what_describes_a_result_comes_back(path):
    described = definition()
    with Store(path, create=True) as store:
        key = store.add_experiment("zero-shot", "nano", described)
        store.add([result(key, 5), result(key, 3, memory=None, content="abc")], store.start_run({"device": "cpu"}))
        store.add_experiment("lora", "nano", definition("lora"))
        (one,) = store.experiments()  # without results it is none
        assert store.done(key) == dict(zip(one.episodes.tolist(), one.accuracy.tolist(), strict=True))
        assert (store.has(key, 3), store.has(key, 4), store.has("unknown", 3)) == (True, False, False)
        assert [run["device"] for run in store.runs()] == ["cpu"]
    assert (one.hash, one.method, one.model, one.definition) == (key, "zero-shot", "nano", described)
    assert (one.episodes.tolist(), one.hashes) == ([3, 5], ("abc", f"{5:064x}"))
    assert one.seconds.tolist() == [result(key, 3).seconds, result(key, 5).seconds]
    assert np.isnan(one.memory[0])
    assert one.memory[1] == result(key, 5).memory
    assert one.classes.tolist() == [result(key, 3).classes.tolist(), result(key, 5).classes.tolist()]


# Several at once


def test_two_connections(path):
    with Store(path, create=True) as one, Store(path, create=True) as other:
        key = one.add_experiment("zero-shot", "nano", definition())
        assert other.add_experiment("zero-shot", "nano", definition()) == key
        assert one.add([result(key, index) for index in range(6)], one.start_run({})) == 6
        assert other.has(key, 5)
        assert other.add([result(key, index) for index in range(4, 9)], other.start_run({})) == 3
        assert list(one.done(key)) == list(range(9))
    assert whole(path)


def _write(path, method, episodes):
    """In a process of its own: one result after the other, as a run has it."""
    with Store(path, create=True) as store:
        key = store.add_experiment(method, "nano", definition(method))
        run = store.start_run({})
        return sum(store.add([result(key, episode)], run) for episode in episodes)


def test_two_processes_write_one_store(path, tmp_path):
    with get_context("spawn").Pool(2) as pool:  # neither finds the file there
        written = pool.starmap(
            _write, [(path, "zero-shot", range(60)), (path, "zero-shot", range(89, 29, -1))], chunksize=1
        )
    assert sum(written) == 90, "each result was new once"
    assert whole(path)
    with Store(tmp_path / "alone.db", create=True) as store:
        fill(store, definition(), range(90))
    assert dump(path) == dump(tmp_path / "alone.db")


def test_many_make_one_store_at_the_same_time(tmp_path):
    barrier = Barrier(4)

    def make(path):
        barrier.wait()
        with Store(path, create=True) as store:
            return store.add_experiment("zero-shot", "nano", definition())

    with ThreadPoolExecutor(4) as pool:
        for attempt in range(20):
            path = tmp_path / f"{attempt}.db"
            assert len(set(pool.map(make, [path] * 4))) == 1
            assert len(dump(path)["experiments"]) == 1


def test_reading_does_not_wait_for_a_writer(path):
    with Store(path, create=True) as store:
        fill(store, definition(), range(3))
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM results")
        with Store(path, timeout=0) as reader:
            assert len(reader.experiments()[0].episodes) == 3
        writer.close()


def test_locked_by_another_program(path):
    with Store(path, create=True, timeout=0.1) as store:
        key = fill(store, definition(), range(3))
        run, before = store.start_run({}), dump(path)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught:
            store.add([result(key, 3)], run)
        assert f"{path} is locked" in sentence(caught)
        assert "0.1 s" in sentence(caught), "as long as it waited"
        other.execute("ROLLBACK")
        other.close()
        assert dump(path) == before
        assert store.add([result(key, 3)], run) == 1
    assert whole(path)


def test_a_short_lock_is_waited_for(path):
    with Store(path, create=True) as store:
        key = fill(store, definition(), range(1))
        run = store.start_run({})
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(_write, path, "zero-shot", [1])
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            other.execute("ROLLBACK")
            assert waiting.result(10) == 1
        other.close()
        assert store.add([result(key, 1)], run) == 0


# What is no store


def foreign(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE experiments (id INTEGER PRIMARY KEY, hash TEXT)")
    connection.execute("INSERT INTO experiments VALUES (1, 'mine')")
    connection.commit()
    connection.close()


def marked(path):
    """Another program's mark on a database that is still empty."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 77")
    connection.close()


def newer(path):
    with Store(path, create=True) as store:
        fill(store, definition(), range(2))
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


def text(path):
    path.write_text("my notes\n" * 1000)


def short(path):
    path.write_text("my notes\n")


def folder(path):
    path.mkdir()
    (path / "mine.txt").write_text("mine")


@pytest.mark.parametrize(
    ("make", "naming"),
    [
        (foreign, ("another program", "another --store")),
        (text, ("no store", "another --store")),
        (short, ("no store", "another --store")),
        (folder, ("is a folder",)),
        (newer, (f"format {VERSION + 1}", f"reads {VERSION}", "update atha")),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_store_is_left_alone(tmp_path, path, make, naming, create):
    make(path)
    before = files(tmp_path)
    with pytest.raises(StoreError) as caught:
        Store(path, create=create)
    assert files(tmp_path) == before
    for part in (str(path), *naming):
        assert part in sentence(caught)


def test_a_store_is_marked_and_has_a_log_while_it_is_written(tmp_path, path):
    def marks():
        connection = sqlite3.connect(path)
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
        connection.close()
        return found, journal

    with Store(path, create=True):
        assert marks() == ([APPLICATION_ID, VERSION], "wal")
        with Store(path, create=True), Store(path):
            pass
        assert marks()[1] == "wal", "the first has it open"
    assert marks() == ([APPLICATION_ID, VERSION], "delete")
    assert list(files(tmp_path)) == [path.name]


@pytest.mark.parametrize("create", [True, False])
def test_the_mark_of_another_program_is_respected(tmp_path, path, create):
    marked(path)
    before = files(tmp_path)
    with pytest.raises(StoreError) as caught:
        Store(path, create=create)
    assert "another program" in sentence(caught)
    assert files(tmp_path) == before


def test_a_missing_store_is_not_made_by_reading(tmp_path, path):
    with pytest.raises(StoreError) as caught:
        Store(path)
    assert f"there is no store {path}" in sentence(caught)
    assert "atha bench run --store" in sentence(caught)
    assert files(tmp_path) == {}


def test_an_empty_file_is_not_said_to_be_another_programs(path):
    path.touch()
    with pytest.raises(StoreError) as caught:
        Store(path)
    assert "another program" not in sentence(caught)
    assert path.read_bytes() == b""
    with Store(path, create=True) as store:  # to write, it is as good as none
        fill(store, definition(), range(1))
    assert whole(path)


def test_no_folder_to_make_a_store_in(tmp_path):
    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "nowhere" / "results.db", create=True)
    assert str(tmp_path / "nowhere" / "results.db") in sentence(caught)
    assert "check the folder" in sentence(caught)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_store(path):
    with Store(path, create=True) as store:
        fill(store, definition(), range(40))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught, Store(path) as store:
        store.experiments()
    assert str(path) in sentence(caught)
    assert path.read_bytes() == content


# Full disk


def test_full_disk(path):
    with Store(path, create=True) as store:
        key = fill(store, definition(), range(5))
        run, before = store.start_run({}), dump(path)
        pages = store._file.connection.execute("PRAGMA page_count").fetchone()[0]
        store._file.connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreError) as caught:
            store.add([result(key, episode) for episode in range(5, 200)], run)
        assert f"cannot write {path}" in sentence(caught)
        assert "free space" in sentence(caught)
        assert dump(path) == before, "none of what did not fit as a whole"
        assert len(store.done(key)) == 5
        store._file.connection.execute(f"PRAGMA max_page_count = {pages + 10_000}")
        assert store.add([result(key, episode) for episode in range(5, 200)], run) == 195
    assert whole(path)


_FILL_UP = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from atha.bench.store import Store
from atha.bench.store_file import StoreError
from stores import definition, result

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
written = 0
try:
    with Store(Path(sys.argv[2]), create=True) as store:
        key = store.add_experiment("zero-shot", "nano", definition())
        run = store.start_run({})
        for episode in range(5, 3000):
            written += store.add([result(key, episode)], run)
except StoreError as error:
    print(written, error, sep="\\n")
"""


def filled_up(path, limit):
    """Results that fitted, and the sentence, where a file may not grow beyond so many bytes."""
    done = subprocess.run(
        [sys.executable, "-c", _FILL_UP, Path(__file__).parents[1], path, str(limit)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    written, said = done.stdout.splitlines()
    return int(written), said


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no limit for files")
def test_file_that_cannot_grow(path):
    with Store(path, create=True) as store:
        key = fill(store, definition(), range(5))
    first = dump(path)
    written, said = filled_up(path, 200_000)
    assert written > 5
    assert f"cannot write {path}" in said
    assert "free space" in said
    assert whole(path)
    with Store(path, create=True) as store:  # there is room again
        assert list(store.done(key)) == list(range(5 + written))
        assert dump(path)["results"][:5] == first["results"]
        assert store.add([result(key, 5 + written)], store.start_run({})) == 1
    assert whole(path)


def test_no_room_for_a_new_store(path):
    written, said = filled_up(path, 1000)
    assert written == 0
    assert f"cannot write {path}" in said
    assert "free space" in said
    with Store(path, create=True) as store:
        fill(store, definition(), range(2))
    assert whole(path)


# Merging


def shards(tmp_path, parts=2, count=9):
    paths = []
    for part in range(parts):
        paths.append(tmp_path / f"part{part}.db")
        with Store(paths[-1], create=True) as store:
            store.add_episodes(episode_set(count))
            for method in ("zero-shot", "lora"):
                fill(store, definition(method), range(part, count, parts))
    with Store(tmp_path / "whole.db", create=True) as store:
        store.add_episodes(episode_set(count))
        for method in ("zero-shot", "lora"):
            fill(store, definition(method), range(count))
    return paths


def merge(target, *sources):
    counts = []
    with Store(target, create=True) as store:
        for source in sources:
            with Store(source) as other:
                counts.append(store.merge(other))
    return counts


@pytest.mark.parametrize("turned", [False, True])
def test_merged_shards_are_the_whole(tmp_path, path, turned):
    parts = shards(tmp_path, parts=3)
    before = [part.read_bytes() for part in parts]
    counts = merge(path, *(reversed(parts) if turned else parts))
    assert counts == [(6, 0)] * 3
    assert dump(path) == dump(tmp_path / "whole.db")
    assert whole(path)
    assert [part.read_bytes() for part in parts] == before


def test_merging_keeps_what_was_there(tmp_path, path):
    parts = shards(tmp_path)
    with Store(path, create=True) as store:
        key = fill(store, definition(), range(4, 7))
        kept = dump(path)
    assert merge(path, parts[0]) == [(8, 2)]
    found = dump(path)
    assert set(kept["results"]) <= set(found["results"])
    with Store(path) as store:
        assert list(store.done(key)) == [0, 2, 4, 5, 6, 8]
    assert whole(path)


def test_merging_twice_changes_nothing(tmp_path, path):
    parts = shards(tmp_path)
    merge(path, *parts)
    before = dump(path)
    with Store(path) as store:
        runs = store.runs()
    assert merge(path, *parts) == [(0, 10), (0, 8)]
    assert dump(path) == before
    with Store(path) as store:
        assert store.runs() == runs, "no run is there twice"


def test_runs_come_along(tmp_path, path):
    for name in ("one", "other"):
        with Store(tmp_path / f"{name}.db", create=True) as store:
            described = definition(name)
            key = store.add_experiment(name, "nano", described)
            store.add([result(key, 0)], store.start_run({"machine": name}))
    merge(path, tmp_path / "one.db", tmp_path / "other.db")
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT e.method, r.environment FROM results JOIN experiments e ON e.id = experiment JOIN runs r ON r.id = run"
    ).fetchall()
    connection.close()
    assert sorted((method, json.loads(said)["machine"]) for method, said in rows) == [
        ("one", "one"),
        ("other", "other"),
    ]


def test_stores_that_disagree_are_kept_apart(tmp_path, path):
    with Store(path, create=True) as store:
        key = fill(store, definition(), range(3))
        fill(store, definition("lora"), range(3))
    other = tmp_path / "other.db"
    with Store(other, create=True) as store:
        fill(store, definition("prototypes"), range(3))  # new, and before the conflict
        store.add_experiment("zero-shot", "nano", definition())
        wrong = np.roll(np.eye(WAY, dtype=np.float32), 1, axis=0).repeat(QUERY, axis=0)
        store.add([result(key, 7), result(key, 2, probabilities=wrong)], store.start_run({}))
    before = dump(path), dump(other)
    with Store(path) as store:
        runs = store.runs()
    with pytest.raises(StoreError) as caught:
        merge(path, other)
    for part in (str(path), str(other), "episode 2", "0.0000", "keep them apart"):
        assert part in sentence(caught)
    assert (dump(path), dump(other)) == before
    with Store(path) as store:
        assert store.runs() == runs


def test_stores_with_other_episodes_of_one_key_are_kept_apart(tmp_path, path):
    other = tmp_path / "other.db"
    for place, shift in ((path, 0), (other, 1)):
        with Store(place, create=True) as store:
            store.add_episodes(episode_set(3, shift=shift))
            fill(store, definition(str(shift)), range(3))
    before = dump(path)
    with pytest.raises(StoreError) as caught:
        merge(path, other)
    assert "different episodes" in sentence(caught)
    assert dump(path) == before


def test_the_same_accuracy_on_another_episode_is_a_disagreement(tmp_path, path):
    other = tmp_path / "other.db"
    for place, content in ((path, "a" * 64), (other, "b" * 64)):
        with Store(place, create=True) as store:
            fill(store, definition(), range(1), content=content)
    before = dump(path)
    with pytest.raises(StoreError) as caught:
        merge(path, other)
    assert "episode 0" in sentence(caught)
    assert dump(path) == before


def test_merging_into_a_full_disk(tmp_path, path):
    parts = shards(tmp_path, count=200)
    with Store(path, create=True) as store:
        fill(store, definition(), range(2))
        before = dump(path)
        pages = store._file.connection.execute("PRAGMA page_count").fetchone()[0]
        store._file.connection.execute(f"PRAGMA max_page_count = {pages + 4}")
        with Store(parts[0]) as other, pytest.raises(StoreError) as caught:
            store.merge(other)
        assert "free space" in sentence(caught)
    assert dump(path) == before
    assert whole(path)
