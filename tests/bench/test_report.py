"""The report: what may be compared stands together, what tells namesakes apart is said, the numbers are the store's."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from test_store import CLASSES, QUERY, definition, fill

from atha.bench.report import READ_ME, arenas, report_tables, rows, wide_table
from atha.bench.results import Result
from atha.bench.store import Store
from atha.documents.words import mean_percent
from atha.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.db"


def stored(path, *experiments):
    """What a store reads after (definition, episodes) or (definition, episodes, model) were written."""
    with Store(path, create=True) as store:
        for described, episodes, *model in experiments:
            fill(store, described, episodes, *model)
    with Store(path) as store:
        return store.experiments()


def with_method(name, **changes):
    return definition(name, method={"name": name, "precision": "float32", **changes})


# Arenas


@pytest.mark.parametrize(
    ("other", "model"),
    [
        ({"seed": 2}, "nano"),
        ({"shot": 5}, "nano"),
        ({"query": 3}, "nano"),
        ({"way": 2}, "nano"),
        ({"dataset": "wild"}, "nano"),
        ({"transform": "processor"}, "nano"),
        ({"classes": ("ant", "bee", "cow", "dog")}, "nano"),
        ({"backbone": {"family": "clip", "revision": None, "fingerprint": "3" * 64}}, "nano"),
        ({"backbone": {"family": "siglip", "revision": None, "fingerprint": "3" * 64}}, "large"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_what_differs_is_kept_apart(path, other, model):
    found = arenas(
        stored(path, (definition(), range(3)), (definition(**other), range(3), model), (definition("lora"), range(3)))
    )
    assert [list(arena.experiments) for arena in found] == [["zero-shot", "lora"], ["zero-shot"]]
    assert found[0].title != found[1].title
    assert found[0].definition["dataset"]["name"] == found[0].dataset == "pets"
    assert found[1].shot == other.get("shot", 1)


def test_title_of_an_arena(path):
    groups = definition()["episodes"] | {"groups": True}
    found = arenas(
        stored(path, (definition(), range(1)), (definition(dataset="wild", episodes=groups), range(1), "large"))
    )
    assert [arena.title for arena in found] == [
        "pets, 3-way 1-shot, 4 queries, nano",
        "wild, 3-way 1-shot, 4 queries, groups apart, large",
    ]


def test_namesake_arenas_say_what_differs_and_nothing_else(path):
    found = arenas(
        stored(
            path,
            (definition(), range(1)),
            (definition(transform="processor"), range(1)),
            (definition(seed=2), range(1)),
            (definition(dataset="wild"), range(1)),
        )
    )
    titles = [arena.title for arena in found]
    assert len(set(titles)) == 4
    assert "transform=cdfsl" in titles[0]
    assert "transform=processor" in titles[1]
    assert "seed=2" in titles[2]
    assert titles[3] == "wild, 3-way 1-shot, 4 queries, nano"
    assert not [title for title in titles if "fingerprint" in title or "labels_hash" in title]


def test_namesake_methods_say_what_differs_and_nothing_else(path):
    recipes = [
        {"training": {"steps": steps, "rate": 0.1}, "lora": {"rank": rank}} for steps, rank in ((10, 2), (20, 2))
    ]
    found = arenas(
        stored(
            path,
            (with_method("lora", recipe=recipes[0]), range(2)),
            (with_method("lora", recipe=recipes[1]), range(2)),
            (with_method("prototypes"), range(2)),
        )
    )
    assert [list(arena.experiments) for arena in found] == [
        ["lora (recipe.training.steps=10)", "lora (recipe.training.steps=20)", "prototypes"]
    ]
    assert found[0].experiments["lora (recipe.training.steps=20)"].definition["method"]["recipe"] == recipes[1]


@pytest.mark.parametrize("kept", [("missing", 1), ("long" * 10 + "a", "long" * 10 + "b")])
def test_namesakes_always_have_labels_of_their_own(path, kept):
    # Something that one of the two has not, or that differs only far behind.
    first = with_method("mine") if kept[0] == "missing" else with_method("mine", text=kept[0])
    found = arenas(stored(path, (first, range(2)), (with_method("mine", text=kept[1]), range(2))))
    assert sum(len(arena.experiments) for arena in found) == 2
    assert len(found[0].experiments) == 2


def test_arenas_always_have_titles_of_their_own(path):
    long = ("ant" * 20 + "a", *CLASSES[1:]), ("ant" * 20 + "b", *CLASSES[1:])
    found = arenas(stored(path, *((definition(classes=classes), range(1)) for classes in long)))
    assert len({arena.title for arena in found}) == 2


def test_arenas_with_other_texts_have_titles_of_their_own(path):
    other = definition()
    other["dataset"]["classes"][3][1] = "a hound"
    found = arenas(stored(path, (definition(), range(1)), (other, range(1))))
    assert len({arena.title for arena in found}) == 2


def test_choosing(path):
    described = [
        (with_method("lora", rank=2), range(2)),
        (with_method("lora", rank=4), range(2)),
        (definition("prototypes"), range(2)),
        (definition("prototypes", dataset="wild"), range(2)),
    ]
    kept = stored(path, *described)
    assert [list(arena.experiments) for arena in arenas(kept, methods=["lora"])] == [["lora (rank=2)", "lora (rank=4)"]]
    assert [list(arena.experiments) for arena in arenas(kept, methods=["lora (rank=4)"])] == [["lora (rank=4)"]]
    assert [arena.dataset for arena in arenas(kept, datasets=["wild"])] == ["wild"]
    assert arenas(kept, datasets=["wild"], methods=["lora"]) == []
    assert arenas([]) == []


@pytest.mark.parametrize(
    ("asked", "naming"),
    [
        ({"datasets": ["tame"]}, ("no data set 'tame'", "pets, wild")),
        ({"methods": ["tip"]}, ("no method 'tip'", "lora, zero-shot")),
    ],
)
def test_choosing_what_is_not_there(path, asked, naming):
    kept = stored(path, (definition(), range(1)), (definition("lora", dataset="wild"), range(1)))
    with pytest.raises(DataError) as caught:
        arenas(kept, **asked)
    assert not [part for part in naming if part not in str(caught.value)]


# Numbers


def test_numbers_are_those_of_numpy(path):
    experiments = stored(path, (definition(), range(37)), (definition("lora"), range(5, 25)))
    found = rows(arenas(experiments))
    assert [row.label for row in found] == ["zero-shot", "lora"]
    for row, one in zip(found, experiments, strict=True):
        with Store(path) as store:
            probabilities = np.stack([each for _, each in store.probabilities(one.hash)]).astype(np.float64)
        truth = np.repeat(np.arange(3), QUERY)
        hits = probabilities.argmax(axis=2) == truth
        accuracy = hits.mean(axis=1)
        assert row.accuracy.n == len(accuracy) == len(one.episodes)
        assert row.accuracy.mean == pytest.approx(np.mean(accuracy))
        assert row.accuracy.half == pytest.approx(1.96 * np.std(accuracy) / np.sqrt(len(accuracy)))
        assert row.brier == pytest.approx(((probabilities - np.eye(3)[truth]) ** 2).sum(axis=2).mean())
        confidence = probabilities.max(axis=2)
        bins = np.minimum((confidence * 15).astype(int), 14)
        error = sum(abs((confidence - hits)[bins == place].sum()) for place in range(15)) / hits.size
        assert row.calibration_error == pytest.approx(error)
        values = row.to_dict(time=True, classes=True)
        assert json.loads(json.dumps(values, allow_nan=False)) == values
        assert values["accuracy"] == row.accuracy.mean
        assert values["half_width95"] == row.accuracy.half
        assert values["seconds_median"] == np.median(one.seconds)
        assert values["seconds_total"] == pytest.approx(one.seconds.sum())
        assert values["peak_memory_bytes"] == one.memory.max()
        assert (values["experiment"], values["seed"], values["model"]) == (one.hash, 1, "nano")
        for place, each in enumerate(values["per_class"]):
            where = one.classes == place
            assert each["class"] == CLASSES[place]
            assert each["text"] == f"text of {CLASSES[place]}"
            assert each["episodes"] == where.sum()
            assert each["accuracy"] == pytest.approx(one.correct[where].sum() / (where.sum() * QUERY))
            assert each["interval95"][0] <= each["accuracy"] <= each["interval95"][1]


def test_table_has_the_numbers(path):
    found = arenas(stored(path, (definition(), range(8)), (definition("lora"), range(8))))
    (table,) = report_tables(found)
    assert table.title == found[0].title
    assert table.headers == ["method", "episodes", "accuracy", "ECE", "Brier"]
    for cells, row in zip(table.rows, rows(found), strict=True):
        accuracy = f"{100 * row.accuracy.mean:.2f} ± {100 * row.accuracy.half:.2f}"
        assert cells == [row.label, "8", accuracy, f"{row.calibration_error:.3f}", f"{row.brier:.3f}"]
        assert mean_percent(row.accuracy) == accuracy
    assert table.notes == [READ_ME]


@pytest.mark.parametrize(
    ("episodes", "noted"), [(range(8), False), (range(7), True), (range(1, 9), True)], ids=["same", "fewer", "others"]
)
def test_different_episodes_are_noted(path, episodes, noted):
    (table,) = report_tables(arenas(stored(path, (definition(), range(8)), (definition("lora"), episodes))))
    assert bool([note for note in table.notes if "different episodes" in note]) == noted


def test_time_and_memory(path):
    with Store(path, create=True) as store:
        fill(store, definition(), range(4), seconds=0.25, memory=3_000_000)
        fill(store, definition("lora"), range(4), seconds=1234.5, memory=None)
        found = arenas(store.experiments())
    (table,) = report_tables(found, time=True)
    assert table.headers[-2:] == ["s / episode", "peak MB"]
    assert table.rows[0][-2:] == ["0.25", "3"]
    assert table.rows[1][-1] == "-"
    assert float(table.rows[1][-2]) == pytest.approx(1234.5, rel=0.01)
    values = [row.to_dict(time=True) for row in rows(found)]
    assert [each["peak_memory_bytes"] for each in values] == [3_000_000, None]


def test_per_class_table(path):
    classes = ("ant", "bee", "cat", "dog", "never")
    described = definition(classes=classes)
    with Store(path, create=True) as store:
        fill(store, described, range(6), classes=np.array([0, 2, 1]))
        fill(store, described | {"method": {"name": "lora"}}, range(6), classes=np.array([3, 2, 1]))
        found = arenas(store.experiments())
    table = report_tables(found, classes=True)[1]
    assert table.headers == ["class", "zero-shot", "lora"]
    assert [row[0] for row in table.rows] == [f"{label} (text of {label})" for label in classes]
    assert [[cell == "-" for cell in row[1:]] for row in table.rows] == [
        [False, True],
        [False, False],
        [False, False],
        [True, False],
        [True, True],
    ]
    hits = found[0].experiments["zero-shot"].correct[:, 0].sum()
    assert table.rows[0][1] == f"{100 * hits / (6 * QUERY):.1f} (6)"


# Wide


def test_wide_table(path):
    described = [
        (definition(name, dataset=dataset, shot=shot), range(4))
        for name in ("zero-shot", "lora")
        for dataset in ("pets", "wild")
        for shot in (5, 1)
        if (name, dataset) != ("lora", "wild")
    ]
    found = arenas(stored(path, *described))
    table = wide_table(found)
    assert table.headers == ["method", "pets", "wild", "mean"]
    assert [row[0] for row in table.rows] == [
        "zero-shot, 1-shot",
        "lora, 1-shot",
        "zero-shot, 5-shot",
        "lora, 5-shot",
    ]
    cells = {(row.label, row.arena.dataset, row.arena.shot): row.accuracy for row in rows(found)}
    first = [cells["zero-shot", dataset, 1] for dataset in ("pets", "wild")]
    mean = f"{100 * np.mean([one.mean for one in first]):.2f}"
    assert table.rows[0][1:] == [*map(mean_percent, first), mean]
    assert table.rows[1][2:] == ["-", "-"], "no mean over some"


@pytest.mark.parametrize("other", [{"seed": 2}, {"transform": "processor"}, {"query": 3}])
def test_wide_table_with_two_results_in_a_cell(path, other):
    found = arenas(stored(path, (definition(), range(2)), (definition(**other), range(2))))
    with pytest.raises(DataError) as caught:
        wide_table(found)
    for part in ("zero-shot", "pets", "1 shots", "--wide"):
        assert part in str(caught.value)


# Speed


def build(path, experiments, episodes):
    """A store of 5-way episodes with 15 queries per class."""
    rng = np.random.default_rng(0)
    names = tuple(f"class {number}" for number in range(10))
    with Store(path, create=True) as store:
        run = store.start_run({})
        for number in range(experiments):
            described = definition(f"method {number}", classes=names, way=5, query=15)
            key = store.add_experiment(f"method {number}", "nano", described)
            drawn = rng.dirichlet(np.full(5, 0.5), (episodes, 75)).astype(np.float32)
            made = [
                Result(key, index, f"{index:064x}", rng.permutation(10)[:5], drawn[index], 0.1, 10**9)
                for index in range(episodes)
            ]
            assert store.add(made, run) == episodes


def seconds_of_a_report(path, *options):
    """Wall clock of the command as a process; the better of two, for other programs' sake."""
    times, code = [], "from atha.cli import main; main()"
    for _ in range(2):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, "bench", "report", path, *options],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        times.append(time.perf_counter() - started)
    return min(times), done.stdout


@pytest.mark.parametrize(
    "episodes", [pytest.param(1000, id="10000"), pytest.param(10_000, id="100000", marks=pytest.mark.slow)]
)
def test_report_is_quick(path, episodes):
    build(path, 10, episodes)
    for options in ([], ["--per-class", "--time"]):
        seconds, shown = seconds_of_a_report(path, *options)
        assert seconds < 2
        assert shown.count(str(episodes)) >= 10


def test_a_report_loads_nothing_heavy(path):
    stored(path, (definition(), range(2)))
    code = (
        "import sys; from typer.testing import CliRunner; from atha.cli import app; "
        f"print(CliRunner().invoke(app, ['bench', 'report', {str(path)!r}, '--per-class']).exit_code, "
        "*({'torch', 'transformers', 'sklearn', 'scipy.stats'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["0"]
