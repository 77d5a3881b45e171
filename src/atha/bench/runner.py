"""Running a plan: what the store does not have yet is run, and written as it comes."""

import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from typing import Any, Protocol

from atha.bench.plan import Plan
from atha.bench.results import Result, definition_hash
from atha.bench.store import Store
from atha.bench.store_file import StoreError
from atha.bench.work import Job
from atha.errors import DataError

#: Runs jobs of a plan and gives results as they come.
Executor = Callable[[Plan, Iterable[Job]], Generator[Result]]


_VERSIONS = ("atha", "torch", "torchvision", "transformers", "numpy", "scikit-learn", "pillow")


class Watcher(Protocol):
    """Told of the results of a run."""

    def begin(self, plan: Plan, known: list[list[dict[int, float]]], wanted: list[set[int]]) -> None:
        """At the start: for each setting and method, what the store has (episode -> accuracy); and, for each setting,
        the episodes that this run is to have done at its end."""

    def result(self, setting: int, method: int, episode: int, accuracy: float) -> None:
        """One more result is in the store."""


@dataclass
class Summary:
    """What a run did.

    Attributes:
        written: results written by this run.
        known: results that were there before.
        seconds: of wall clock.
    """

    written: int = 0
    known: int = 0
    seconds: float = 0.0


@dataclass
class _Pending:
    """What is left to do, looked up in the store again before each job: another process may be writing too."""

    plan: Plan
    store: Store
    shard: tuple[int, int]
    known: list[list[dict[int, float]]] = field(init=False)

    def __post_init__(self) -> None:
        self.known = [[self.store.done(one) for one in row] for row in self.plan.experiments]

    def wanted(self, setting: int) -> set[int]:
        """The episodes of this shard."""
        part, parts = self.shard
        episodes = self.plan.settings[setting].episodes.episodes
        return {episode.index for episode in episodes if episode.index % parts == part - 1}

    def jobs(self) -> Iterator[Job]:
        for setting, experiments in enumerate(self.plan.experiments):
            wanted = self.wanted(setting)
            episodes = self.plan.settings[setting].episodes.episodes
            positions = (place for place, episode in enumerate(episodes) if episode.index in wanted)
            # Always the same ones together, whatever is done already.
            for together in _batched(positions, self.plan.together):
                done = frozenset(
                    (number, position)
                    for number, experiment in enumerate(experiments)
                    for position in together
                    if (index := episodes[position].index) in self.known[setting][number]
                    or self.store.has(experiment, index)
                )
                methods = tuple(
                    number
                    for number in range(len(experiments))
                    if any((number, position) not in done for position in together)
                )
                if methods:
                    yield Job(setting, together, methods, done)


def _batched(positions: Iterator[int], size: int) -> Iterator[tuple[int, ...]]:
    while batch := tuple(islice(positions, size)):
        yield batch


def run_plan(
    plan: Plan,
    store: Store,
    executor: Executor,
    shard: tuple[int, int] = (1, 1),
    watcher: Watcher | None = None,
    repair: bool = False,
) -> Summary:
    """Run what the store does not have.

    Args:
        plan: see `atha.bench.plan.make_plan`.
        store: where results go, each as soon as it is there.
        executor: runs the jobs.
        shard: (i, n): only each n-th episode, beginning with the i-th.
        watcher: told of the results.
        repair: whether results that are damaged are done again.

    Returns:
        What was done.

    Raises:
        StoreError: the store cannot be written, or holds damaged results of the plan; what was written before is kept.
        AthaError: a method fails; the same.
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise DataError(f"shard {part}/{parts} does not exist, the shards are 1/{parts} to {parts}/{parts}")
    started = time.perf_counter()
    wanted_there = {
        definition_hash(definition): (label, plan.model, definition)
        for definitions in plan.definitions
        for label, definition in zip(plan.labels, definitions, strict=True)
    }
    if repair:
        store.repair(wanted_there)
    elif damaged := store.read(list(wanted_there))[1]:
        raise StoreError(f"{damaged[0]} in {store.path}: add --repair, and it is done again")
    for setting in plan.settings:
        store.add_episodes(setting.episodes)
    for described in wanted_there.values():
        store.add_experiment(*described)
    pending = _Pending(plan, store, shard)
    wanted = [pending.wanted(setting) for setting in range(len(plan.settings))]
    if watcher is not None:
        watcher.begin(plan, pending.known, wanted)
    summary = Summary(
        known=sum(len(wanted[setting] & there.keys()) for setting, row in enumerate(pending.known) for there in row)
    )
    places = {
        experiment: (setting, method)
        for setting, row in enumerate(plan.experiments)
        for method, experiment in enumerate(row)
    }
    run: int | None = None
    with closing(executor(plan, pending.jobs())) as results:  # whatever happens here, workers are ended
        for result in results:
            if run is None:
                run = store.start_run(_environment(plan))
            summary.written += store.add([result], run)
            if watcher is not None:
                watcher.result(*places[result.experiment], result.episode, result.accuracy)
    summary.seconds = time.perf_counter() - started
    return summary


def _environment(plan: Plan) -> dict[str, Any]:
    return {
        "versions": {name: version(name) for name in _VERSIONS},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": plan.device,
        "threads": plan.threads,
        "together": plan.together,
        "model": plan.model,
    }
