"""Stores that were damaged, cut off from their log, or made to do harm: what is whole is reported, the rest named."""

import os
import shutil
import sqlite3
import time
import warnings

import numpy as np
import pytest
from test_store import QUERY, WAY, definition, dump, fill, result, sentence, whole

from atha.bench.results import definition_hash
from atha.bench.store import Store
from atha.bench.store_file import StoreError
from atha.errors import AthaWarning
from commands import run


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "results.db"
    with Store(made, create=True) as store:
        for method in ("zero-shot", "lora"):
            fill(store, definition(method), range(4))
    return made


def change(path, statement, *values):
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def read(path):
    """Episodes by method, and sentences on damage."""
    with warnings.catch_warnings(record=True) as said, Store(path) as store:
        warnings.simplefilter("always")
        found = {one.method: one.episodes.tolist() for one in store.experiments()}
    assert all(issubclass(one.category, AthaWarning) for one in said)
    assert not [one for one in said if "\n" in str(one.message)]
    return found, [str(one.message) for one in said]


ROWS = {
    "accuracy = 'x'": "texts or numbers of another kind",
    "accuracy = x'ff'": "texts or numbers of another kind",
    "accuracy = 0.123": "numbers that cannot be",
    "accuracy = 1e308 * 10": "numbers that cannot be",
    "brier = -1": "numbers that cannot be",
    "seconds = -1e308 * 10": "numbers that cannot be",
    "seconds = 1.7e308": "numbers that cannot be",
    "classes = x'ffff'": "values of another size",
    "classes = zeroblob(6)": "numbers that cannot be",
    "correct = x'ff7fff7fff7f'": "numbers that cannot be",
    "calibration = 'x'": "texts or numbers of another kind",
    "calibration = zeroblob(360)": "numbers that cannot be",
    "hash = x'ff'": "texts or numbers of another kind",
    "memory = 'much'": "texts or numbers of another kind",
    "memory = -1": "a memory that is none",
    "run = 99": "is of no run",
    "episode = 'x'": "texts or numbers of another kind",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_damaged_row_is_named_and_the_others_are_reported(path, row):
    change(path, f"UPDATE results SET {row} WHERE experiment = 1 AND episode = 2")
    found, said = read(path)
    assert found == {"zero-shot": [0, 1, 3], "lora": [0, 1, 2, 3]}
    assert len(said) == 1
    named = "x" if row.startswith("episode") else "2"
    assert f"episode {named} of the experiment zero-shot (" in said[0]
    assert ROWS[row] in said[0] or (row.startswith("episode") and "probabilities" in said[0])
    assert "atha bench run --repair" in said[0]


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ("definition = '{'", "has a definition that is not JSON"),
        ("definition = '" + "[" * 9000 + "'", "nested more than 64 deep"),
        ("definition = x'ff'", "no text"),
        ("definition = replace(definition, 'pets', 'cats')", "another definition than its hash is of"),
        ("hash = 'x'", "another definition than its hash is of"),
        ("definition = '{\"a\": NaN}'", "NaN, which is no number"),
    ],
)
def test_a_damaged_experiment_is_named_and_the_others_are_reported(path, column, problem):
    change(path, f"UPDATE experiments SET {column} WHERE id = 1")
    found, said = read(path)
    assert found == {"lora": [0, 1, 2, 3]}
    assert len(said) == 1
    assert "the experiment zero-shot (" in said[0]
    assert problem in said[0]


def test_texts_that_are_none_are_damage(path):
    change(path, "UPDATE experiments SET method = CAST(x'ff41' AS TEXT) WHERE id = 1")
    assert read(path)[0].keys() == {"\ufffdA", "lora"}
    change(path, "UPDATE runs SET environment = '{' WHERE id = 1")
    with Store(path) as store, pytest.raises(StoreError, match="of a run is damaged"):
        store.runs()


def test_probabilities_that_are_damaged(path):
    nan = np.full(WAY * WAY * QUERY, np.nan, "<f4").tobytes()
    change(path, "UPDATE probabilities SET probabilities = ? WHERE experiment = 1 AND episode = 2", nan)
    with Store(path) as store, pytest.raises(StoreError, match=r"episode 2 of .* do not add up to 1"):
        list(store.probabilities(store.experiments()[0].hash))
    change(path, "UPDATE probabilities SET probabilities = zeroblob(7) WHERE experiment = 1 AND episode = 3")
    assert read(path)[0]["zero-shot"] == [0, 1, 2]


def test_repair_takes_away_what_is_damaged_and_it_can_be_done_again(path):
    before = dump(path)
    nan = np.full(WAY * WAY * QUERY, np.nan, "<f4").tobytes()
    change(path, "UPDATE results SET accuracy = 'x' WHERE experiment = 1 AND episode = 0")
    change(path, "UPDATE results SET classes = x'' WHERE experiment = 2 AND episode = 1")
    change(path, "UPDATE probabilities SET probabilities = ? WHERE experiment = 1 AND episode = 2", nan)
    change(path, "UPDATE experiments SET definition = 'x' WHERE id = 1")
    change(path, "UPDATE experiments SET hash = 'x' WHERE id = 2")
    known = definition()
    key = next(row[0] for row in before["experiments"] if row[1] == "zero-shot")
    with Store(path, create=True) as store:
        assert store.repair({key: ("zero-shot", "nano", known)}) == 2
        other = definition_hash(definition("lora"))
        assert store.repair({other: ("lora", "nano", definition("lora"))}) == 1
        assert list(store.done(other)) == [0, 2, 3]
        assert list(store.done(key)) == [1, 3]
        store.add([result(key, episode) for episode in (0, 2)], store.start_run({}))
    assert [row for row in dump(path)["results"] if row[0] == key] == [r for r in before["results"] if r[0] == key]
    assert dump(path)["experiments"] == before["experiments"]
    assert read(path) == ({"zero-shot": [0, 1, 2, 3], "lora": [0, 2, 3]}, [])


def test_damage_is_not_merged(path, tmp_path):
    change(path, "UPDATE results SET accuracy = 'x' WHERE experiment = 1 AND episode = 0")
    with Store(tmp_path / "all.db", create=True) as store, Store(path) as other, pytest.warns(AthaWarning) as said:
        assert store.merge(other) == (7, 0)
    assert "episode 0 of the experiment zero-shot" in str(said[0].message)
    assert whole(tmp_path / "all.db")
    with (
        Store(path, create=True) as store,
        Store(tmp_path / "all.db") as other,
        pytest.raises(StoreError, match="is damaged, episode 0 of"),
    ):
        store.merge(other)


# What acts, or has no end


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW more AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE TRIGGER act AFTER INSERT ON runs BEGIN DELETE FROM results; END",
        "CREATE TRIGGER sqlitexact AFTER INSERT ON runs BEGIN DELETE FROM results; END",
        "CREATE TABLE other (a)",
        "CREATE INDEX slow ON results (hash)",
        "ALTER TABLE results ADD COLUMN more AS (zeroblob(1000000000))",
        "DROP TABLE probabilities",
    ],
)
def test_other_tables_views_and_triggers_are_refused(path, statement):
    change_schema(path, statement)
    for create in (False, True):
        with pytest.raises(StoreError) as caught:
            Store(path, create=create)
        assert "has other tables than a store" in sentence(caught)


def test_results_that_are_an_endless_view(path):
    change_schema(path, "DROP TABLE results")
    change_schema(path, "CREATE VIEW results AS WITH RECURSIVE n(experiment) AS (SELECT 1 UNION ALL SELECT 1 FROM n) "
                  "SELECT * FROM n")  # fmt: skip
    with pytest.raises(StoreError, match="has other tables than a store"):
        Store(path)


def change_schema(path, statement):
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def test_pages_that_lead_to_each_other_end(path, monkeypatch):
    monkeypatch.setattr("atha.bench.store_file._STEPS", 1000)
    with Store(path) as store:
        with pytest.raises(StoreError) as caught, store._file.errors():
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
            store._file.connection.execute(endless).fetchall()
        assert "its pages lead to each other" in sentence(caught)
        assert len(store.experiments()) == 2


# Places


def test_a_store_that_can_only_be_read_is_told_at_once(path, monkeypatch):
    real = sqlite3.connect

    def connect(place, **options):
        return real(f"{path.as_uri()}?mode=ro", **options | {"uri": True}) if place == path else real(place, **options)

    monkeypatch.setattr(sqlite3, "connect", connect)
    started = time.monotonic()
    with pytest.raises(StoreError, match="for writing"):
        Store(path, create=True)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("create", [True, False])
def test_places_that_are_no_file(tmp_path, create):
    os.mkfifo(tmp_path / "pipe.db")
    for name, said in (("pipe.db", "no plain file but a pipe"), ("n" * 300, "no store|unable to open|cannot open")):
        with pytest.raises(StoreError, match=said):
            Store(tmp_path / name, create=create)


# The log


def test_a_copy_without_its_log_is_told(path, tmp_path):
    with Store(path, create=True) as store:
        key = store.add_experiment("atha", "nano", definition("atha"))
        store.add([result(key, 0)], store.start_run({}))
        shutil.copy(path, tmp_path / "alone.db")
        for name in ("together.db", "together.db-wal"):
            shutil.copy(tmp_path / name.replace("together", "results"), tmp_path / name)
    found, said = read(tmp_path / "alone.db")
    assert "atha" not in found
    assert said == [
        f"{tmp_path / 'alone.db'} may lack results, it was copied while a run wrote to it and without alone.db-wal: "
        "copy it again with atha bench copy, or run what is missing"
    ]
    for name in ("together.db", "results.db"):
        found, said = read(tmp_path / name)
        assert (found["atha"], said) == ([0], [])
    shutil.copy(path, tmp_path / "later.db")
    assert read(tmp_path / "later.db")[1] == []


def test_bench_copy_makes_a_whole_copy_of_a_store_that_is_written_to(path, tmp_path):
    with Store(path, create=True) as store:
        key = store.add_experiment("atha", "nano", definition("atha"))
        store.add([result(key, 0)], store.start_run({}))
        run("bench", "copy", path, "--out", tmp_path / "copy.db", code=0)
        expected = dump(path)
    assert dump(tmp_path / "copy.db") == expected
    assert not list(tmp_path.glob("copy.db-*"))
    assert read(tmp_path / "copy.db")[1] == []
    again = run("bench", "copy", path, "--out", tmp_path / "copy.db", code=2)
    assert "copy.db exists already" in again.output


def test_a_store_of_the_first_version_is_read_and_written(path):
    change_schema(path, "PRAGMA user_version = 1")
    change_schema(path, "PRAGMA journal_mode = WAL")
    assert read(path) == ({"zero-shot": [0, 1, 2, 3], "lora": [0, 1, 2, 3]}, [])
    with Store(path, create=True) as store:
        fill(store, definition("atha"), range(2))
    assert read(path)[0]["atha"] == [0, 1]


def test_names_that_are_no_text_are_no_damage(path):
    with Store(path, create=True) as store:
        fill(store, definition("lora+", dataset="caf\udce9"), range(2))
    assert read(path)[0]["lora+"] == [0, 1]
