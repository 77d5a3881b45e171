"""Progress of a benchmark while it runs: each method's running mean, and how long it will take."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich import live
from rich.console import Group
from rich.text import Text

from atha.bench.plan import Plan
from atha.cli import common
from atha.documents.tables import Table, to_terminal
from atha.documents.words import mean_percent
from atha.statistics import mean_interval

# Seconds between two lines where the output is no terminal, such as a log file.
_EVERY = 60.0


class Live:
    """Watches a run; see `atha.bench.runner.Watcher`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._plan: Plan | None = None
        self._wanted: list[set[int]] = []
        self._found: list[list[dict[int, float]]] = []
        self._live = live.Live(console=common.err, refresh_per_second=2, get_renderable=self._render, transient=True)

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, plan: Plan, known: list[list[dict[int, float]]], wanted: list[set[int]]) -> None:
        """Start to show."""
        self._plan, self._wanted = plan, wanted
        self._names = plan.labels
        self._found = [[dict(there) for there in row] for row in known]
        self._total = sum(len(row) for row in wanted) * len(plan.methods)
        self._before = self.done()
        self._new = 0
        self._started = self._told = self._clock()
        if common.err.is_terminal:
            self._live.start()

    def result(self, setting: int, method: int, episode: int, accuracy: float) -> None:
        """Count one more."""
        self._found[setting][method][episode] = accuracy
        self._new += 1
        if not common.err.is_terminal and self._clock() - self._told >= _EVERY:
            self._told = self._clock()
            common.say(self.status(setting))

    def status(self, setting: int) -> str:
        """One line: what is done, how fast, how long, and the means of a setting."""
        assert self._plan is not None
        means = ", ".join(
            f"{name} {mean_percent(mean_interval(list(found.values())))} ({len(found)})"
            for name, found in zip(self._names, self._found[setting], strict=True)
            if found
        )
        return f"{self._pace()}; {self._title(setting)}: {means}"

    def done(self) -> int:
        """Results of this run's episodes that there are by now."""
        return sum(len(self._wanted[index] & there.keys()) for index, row in enumerate(self._found) for there in row)

    def _pace(self) -> str:
        done = self._before + self._new
        minutes = (self._clock() - self._started) / 60
        if not self._new or minutes <= 0:
            return f"{done} of {self._total} results"
        rate = self._new / minutes
        left = max(self._total - done, 0) / rate
        shown = f"{left / 60:.1f} h" if left >= 100 else f"{left:.0f} min" if left >= 1 else f"{60 * left:.0f} s"
        return f"{done} of {self._total} results, {rate:.1f} a minute, {shown} left"

    def _title(self, setting: int) -> str:
        assert self._plan is not None
        spec = self._plan.settings[setting].episodes.spec
        return f"{spec.dataset}, {spec.way}-way {spec.shot}-shot"

    def _render(self) -> Any:
        if self._plan is None:
            return Text("")
        tables = []
        for setting, row in enumerate(self._found):
            cells = [
                [name, f"{len(self._wanted[setting] & found.keys())}/{len(self._wanted[setting])}",
                 mean_percent(mean_interval(np.array(list(found.values())))) if found else "-"]
                for name, found in zip(self._names, row, strict=True)
            ]  # fmt: skip
            tables.append(to_terminal(Table(self._title(setting), ["method", "episodes", "accuracy so far"], cells)))
        return Group(*tables, Text(self._pace()))
