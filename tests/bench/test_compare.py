"""Comparison: the differences are scipy's and numpy's, and only episodes that both methods have are used."""

import json
import math

import numpy as np
import pytest
from scipy import stats
from test_store import QUERY, WAY, definition, fill, result

from atha.bench.compare import compare, comparison_tables
from atha.bench.report import arenas
from atha.bench.store import Store
from atha.errors import DataError
from atha.statistics import LEVEL, holm


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "results.db", create=True) as made:
        yield made


def right(count):
    """Probabilities of which so many queries are right."""
    truth = np.repeat(np.arange(WAY), QUERY)
    columns = np.where(np.arange(len(truth)) < count, truth, (truth + 1) % WAY)
    return np.eye(WAY, dtype=np.float32)[columns]


def put(store, described, counts, hashes=None):
    """An experiment with so many right answers in each episode: a list, or episode -> count."""
    key = store.add_experiment(described["method"]["name"], "nano", described)
    counts = dict(counts) if isinstance(counts, dict) else dict(enumerate(counts))
    made = [
        result(key, index, probabilities=right(count), content=(hashes or {}).get(index, ""))
        for index, count in counts.items()
    ]
    store.add(made, store.start_run({}))
    return np.array(list(counts.values())) / (WAY * QUERY)


def compared(store, baseline):
    return compare(arenas(store.experiments()), baseline)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_those_of_scipy_and_numpy(store, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 80))
    accuracy = {
        name: put(store, definition(name), np.clip(rng.integers(2, 11, n) + gain, 0, 12).tolist())
        for name, gain in (("lora", 0), ("zero-shot", -2), ("prototypes", 1), ("tip", 0))
    }
    made = compared(store, "lora")
    assert [one.label for one in made] == ["zero-shot", "prototypes", "tip"]
    expected = [stats.ttest_rel(accuracy[one.label], accuracy["lora"]) for one in made]
    for one, test in zip(made, expected, strict=True):
        difference = accuracy[one.label] - accuracy["lora"]
        found = one.difference
        assert (found.n, one.unpaired, one.baseline) == (n, 0, "lora")
        assert found.p_value == pytest.approx(test.pvalue, rel=1e-6)
        assert found.mean == pytest.approx(difference.mean())
        assert found.half == pytest.approx(1.96 * difference.std() / math.sqrt(n))
        interval = test.confidence_interval(0.95)
        assert (found.mean - found.t_half, found.mean + found.t_half) == pytest.approx((interval.low, interval.high))
        assert found.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1))
        signs = np.sign(np.round(difference, 9))
        assert [found.wins, found.ties, found.losses] == [int((signs == sign).sum()) for sign in (1, 0, -1)]
        assert one.accuracy.mean == pytest.approx(accuracy[one.label].mean())
        assert one.baseline_accuracy.mean == pytest.approx(accuracy["lora"].mean())
    # Holm, step by step: the smallest p times 3, the next times 2, the last as it is, none smaller than one before.
    order = np.argsort([test.pvalue for test in expected])
    least = 0.0
    for place, index in enumerate(order):
        least = max(least, min(1.0, (3 - place) * expected[index].pvalue))
        assert made[index].p_holm == pytest.approx(least, rel=1e-6)
        better = "better" if made[index].difference.mean > 0 else "worse"
        assert made[index].verdict == (better if least < LEVEL else "not resolved")


def test_holm_is_over_the_methods_of_one_arena(store):
    counts = {"lora": [5, 6, 7, 8, 5, 6], "prototypes": [7, 7, 8, 9, 6, 8], "tip": [6, 6, 8, 8, 6, 6]}
    for seed in (1, 2):
        for name in counts if seed == 1 else ("lora", "prototypes"):
            put(store, definition(name, seed=seed), counts[name])
    first, second, alone = compared(store, "lora")
    raw = [first.difference.p_value, second.difference.p_value]
    assert first.arena is second.arena is not alone.arena
    assert [first.p_holm, second.p_holm] == holm(raw)
    assert alone.p_holm == alone.difference.p_value == first.difference.p_value < first.p_holm


def test_only_common_episodes_are_used(store):
    put(store, definition("lora"), {0: 5, 1: 6, 2: 7, 3: 8, 9: 12})
    put(store, definition("tip"), {8: 0, 3: 9, 2: 9, 1: 9})
    (one,) = compared(store, "lora")
    assert (one.difference.n, one.unpaired) == (3, 3)
    assert one.accuracy.mean == pytest.approx(9 / 12)
    assert one.baseline_accuracy.mean == pytest.approx(7 / 12)
    assert one.difference.mean == pytest.approx(2 / 12)
    (table,) = comparison_tables([one])
    assert [note for note in table.notes if "3 episodes are not used" in note]


def test_episodes_of_one_number_and_other_content_are_not_paired(store):
    put(store, definition("lora"), {0: 5, 1: 6, 2: 7})
    put(store, definition("tip"), {0: 8, 1: 9, 2: 10}, hashes={1: "other"})
    (one,) = compared(store, "lora")
    assert (one.difference.n, one.unpaired) == (2, 2)
    assert one.difference.mean == pytest.approx(3 / 12)
    assert one.accuracy.mean == pytest.approx(9 / 12)


def test_nothing_in_common(store):
    put(store, definition("lora"), {0: 5, 1: 6})
    put(store, definition("tip"), {2: 5, 3: 6})
    with pytest.raises(DataError, match="no method shares episodes with 'lora'"):
        compared(store, "lora")


@pytest.mark.parametrize("baseline", ["lorra", "pets", ""])
def test_unknown_baseline(store, baseline):
    put(store, definition("lora"), [5, 6])
    put(store, definition("tip", seed=2), [5, 6])
    with pytest.raises(DataError) as caught:
        compared(store, baseline)
    assert f"'{baseline}'" in str(caught.value)
    assert "the store has lora, tip" in str(caught.value)


def test_a_baseline_alone(store):
    put(store, definition("lora"), [5, 6])
    with pytest.raises(DataError, match="the store has lora"):
        compared(store, "lora")
    with pytest.raises(DataError, match="no results"):
        compare([], "lora")


def test_arenas_without_the_baseline_are_left_out(store):
    for name, seed in (("lora", 1), ("tip", 1), ("tip", 2), ("prototypes", 2)):
        put(store, definition(name, seed=seed), [5, 6, 8])
    assert [(one.label, one.arena.definition["episodes"]["seed"]) for one in compared(store, "lora")] == [("tip", 1)]


def test_ambiguous_baseline(store):
    for rank in (2, 4):
        put(store, definition("lora", method={"name": "lora", "rank": rank}), [5 + rank, 6, 8])
    put(store, definition("tip"), [5, 6, 8])
    with pytest.raises(DataError) as caught:
        compared(store, "lora")
    for part in ("'lora'", "lora (rank=2)", "lora (rank=4)", "pets, 3-way 1-shot"):
        assert part in str(caught.value)
    made = compared(store, "lora (rank=4)")
    assert [one.label for one in made] == ["lora (rank=2)", "tip"]
    assert made[0].difference.mean == pytest.approx(-2 / 36)


def test_one_episode(store):
    for name, count in (("lora", 5), ("tip", 9), ("prototypes", 5)):
        put(store, definition(name), [count])
    made = compared(store, "lora")
    assert [one.difference.n for one in made] == [1, 1]
    assert all(math.isnan(one.p_holm) for one in made)
    assert [one.verdict for one in made] == ["not resolved"] * 2
    values = [one.to_dict() for one in made]
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert [values[0][key] for key in ("p", "p_holm", "effect_size", "half_width95_student")] == [None] * 4
    assert values[0]["difference"] == pytest.approx(4 / 12)
    (table,) = comparison_tables(made)
    cells = dict(zip(table.headers, table.rows[0], strict=True))
    assert (cells["p (Holm)"], cells["needed"]) == ("-", "- / -")
    assert not [cell for row in table.rows for cell in row if "nan" in cell]


def test_the_same_difference_everywhere(store):
    put(store, definition("lora"), [5, 6, 7])
    put(store, definition("tip"), [6, 7, 8])
    put(store, definition("prototypes"), [5, 6, 7])
    up, same = compared(store, "lora")
    assert (up.verdict, up.difference.p_value) == ("better", 0)
    assert (same.verdict, same.p_holm, same.difference.ties) == ("not resolved", 1, 3)
    json.dumps([up.to_dict(), same.to_dict()], allow_nan=False)


def test_table_has_the_numbers(store):
    put(store, definition("lora"), [5, 6, 7, 8, 6])
    put(store, definition("tip"), [7, 6, 9, 8, 7])
    made = compared(store, "lora")
    (table,) = comparison_tables(made)
    found = made[0].difference
    assert table.title == f"{made[0].arena.title}: against lora"
    assert len({len(table.headers), *map(len, table.rows)}) == 1
    cells = dict(zip(table.headers, table.rows[0], strict=True))
    assert cells["difference"] == f"{100 * found.mean:+.2f} ± {100 * found.half:.2f}"
    assert cells["wins/ties/losses"] == "3/2/0"
    assert cells["episodes"] == "5"
    assert cells["baseline"] == f"{100 * 6.4 / 12:.2f}"
    assert cells["p (Holm)"] == f"{found.p_value:.2g}"
    # Four would do for the interval, but the test at five says no: more than five.
    assert (found.episodes_to_resolve, cells["verdict"]) == (4, "not resolved")
    assert cells["needed"] == f"> 5 / {found.episodes_for_power}"


def test_one_table_for_each_arena(store):
    for seed in (1, 2):
        for name in ("lora", "tip", "prototypes"):
            fill(store, definition(name, seed=seed), range(4))
    tables = comparison_tables(compared(store, "tip"))
    assert [[row[0] for row in table.rows] for table in tables] == [["lora", "prototypes"]] * 2
    assert len({table.title for table in tables}) == 2


def test_one_table_for_each_arena_even_if_only_texts_differ(store):
    other = definition()
    other["dataset"]["classes"][3][1] = "a hound"
    for described in (definition(), other):
        for name in ("lora", "tip"):
            fill(store, described | {"method": {"name": name}}, range(4))
    assert [len(table.rows) for table in comparison_tables(compared(store, "tip"))] == [1, 1]
