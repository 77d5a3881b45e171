"""Episodes that are trained in one pass: the results of one at a time, whatever was there before."""

from itertools import islice

import numpy as np
import pytest
from small_episode import Small

from atha.bench.executors import run_here
from atha.bench.plan import make_plan
from atha.bench.runner import run_plan
from atha.bench.store import Store
from atha.bench.work import Job
from atha.episodes import draw_episodes
from atha.methods import Options

pytestmark = pytest.mark.numbers

METHODS = ["prototypes", "atha:released-fixed"]
QUICK = Options(overrides=("training.steps=2", "training.lora.lr=1e-3"))


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_clip):
    import atha

    made = Small(tmp_path_factory.mktemp("together"), atha.load_backbone(tiny_clip))
    made.drawn = draw_episodes(made.pool, 3, 2, 3, 5, seed=4)
    return made


def plan_of(small, together):
    sources = [(small.pool, small.drawn)]
    about = {"options": QUICK, "precision": "float32", "device": "cpu", "backbone": small.backbone}
    return make_plan(sources, METHODS, small.backbone.name, together=together, **about)[0]


def run(small, path, together, stop_after=None):
    """Results of a run by (method, episode); stopped after some, if asked."""
    plan = plan_of(small, together)

    def executor(plan, jobs):
        results = run_here(plan, jobs, small.backbone)
        yield from results if stop_after is None else islice(results, stop_after)
        results.close()

    with Store(path, create=True) as store:
        summary = run_plan(plan, store, executor)
        found = {
            (number, episode): probabilities
            for number, experiment in enumerate(plan.experiments[0])
            for episode, probabilities in store.probabilities(experiment)
        }
    return found, summary


@pytest.fixture(scope="module")
def together(small, tmp_path_factory):
    return run(small, tmp_path_factory.mktemp("whole") / "whole.db", 3)[0]


def test_results_are_those_of_one_at_a_time(small, together, tmp_path):
    alone, _ = run(small, tmp_path / "alone.db", 1)
    assert alone.keys() == together.keys()
    assert len(alone) == len(METHODS) * 5
    for key, value in alone.items():
        np.testing.assert_allclose(together[key], value, atol=1e-4)
        if key[0] == 0:  # a method that learns from each by itself
            assert np.array_equal(together[key], value)


@pytest.mark.parametrize("stop_after", [1, 5])
def test_a_run_that_was_stopped_within_a_batch_ends_in_the_same_numbers(small, together, tmp_path, stop_after):
    _, first = run(small, tmp_path / "parts.db", 3, stop_after)
    assert first.written == stop_after
    parts, rest = run(small, tmp_path / "parts.db", 3)
    assert rest.written == len(together) - stop_after
    assert parts.keys() == together.keys()
    assert all(np.array_equal(parts[key], value) for key, value in together.items())


def test_jobs_name_what_is_open():
    job = Job(0, (4, 5, 6), (0, 1), frozenset({(0, 5), (1, 4), (1, 5), (1, 6)}))
    assert job.open(0) == (4, 6)
    assert job.open(1) == ()
