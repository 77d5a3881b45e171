"""What a run says while it goes on, with a clock of our own."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from atha.bench.plan import Plan, Setting
from atha.cli import common
from atha.cli.live import Live
from atha.data.pool import Pool
from atha.episodes import draw_episodes
from atha.methods import Options

METHODS = ("zero-shot", "lora")


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def make_plan(episodes=10, shots=(1,)):
    labels = tuple(label for label in ("ant", "bee", "cat") for _ in range(12))
    ids = tuple(f"{label}/{index}.png" for index, label in enumerate(labels))
    texts = {label: label for label in ("ant", "bee", "cat")}
    pool = Pool("pets", ids, tuple(map(Path, ids)), labels, texts, "the labels", "0" * 64)
    settings = tuple(Setting(pool, draw_episodes(pool, 3, shot, 2, episodes), ids) for shot in shots)
    definitions = tuple(tuple({"method": {"kind": name}} for name in METHODS) for _ in settings)
    return Plan(settings, METHODS, METHODS, Options(), "nano", None, "0" * 64, "cpu", 1, 1, None, 0, definitions)


@pytest.fixture
def clock():
    return Clock()


def started(clock, known=None, wanted=None, **changes):
    plan = make_plan(**changes)
    live = Live(clock)
    count = len(plan.settings[0].episodes.episodes)
    live.begin(
        plan,
        known or [[{}, {}] for _ in plan.settings],
        wanted or [set(range(count)) for _ in plan.settings],
    )
    return live


def test_before_the_first_result(clock):
    assert started(clock).status(0) == "0 of 20 results; pets, 3-way 1-shot: "


def test_pace_and_time_left(clock):
    live = started(clock)
    clock.seconds += 30
    live.result(0, 0, 0, 0.5)
    live.result(0, 1, 0, 1.0)
    live.result(0, 1, 1, 0.5)
    half = 1.96 * np.std([1.0, 0.5]) / np.sqrt(2)
    assert live.status(0) == (
        "3 of 20 results, 6.0 a minute, 3 min left; pets, 3-way 1-shot: "
        f"zero-shot 50.00 ± 0.00 (1), lora 75.00 ± {100 * half:.2f} (2)"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1, "60.0 a minute, 19 s left"), (60, "1.0 a minute, 19 min left"), (3600, "0.0 a minute, 19.0 h left")],
)
def test_units_of_time(clock, seconds, shown):
    live = started(clock)
    clock.seconds += seconds
    live.result(0, 0, 3, 0.5)
    assert shown in live.status(0)


def test_what_was_there_counts_as_done_and_not_as_speed(clock):
    live = started(clock, known=[[dict.fromkeys(range(8), 0.25), {}]])
    assert live.status(0).startswith("8 of 20 results; ")
    clock.seconds += 60
    live.result(0, 1, 0, 1.0)
    live.result(0, 1, 1, 1.0)
    assert live.status(0).startswith("10 of 20 results, 2.0 a minute, 5 min left; ")
    assert "zero-shot 25.00 ± 0.00 (8), lora 100.00 ± 0.00 (2)" in live.status(0)


def test_a_shard_counts_its_own_episodes(clock):
    # Nine episodes are there, of which this shard wants those with even numbers.
    live = started(clock, known=[[dict.fromkeys(range(9), 0.5), {}]], wanted=[{0, 2, 4, 6, 8}])
    assert live.status(0).startswith("5 of 10 results")


def test_settings_are_told_apart(clock):
    live = started(clock, shots=(1, 5))
    clock.seconds += 60
    live.result(1, 0, 0, 0.5)
    assert live.status(0) == "1 of 40 results, 1.0 a minute, 39 min left; pets, 3-way 1-shot: "
    assert live.status(1).endswith("pets, 3-way 5-shot: zero-shot 50.00 ± 0.00 (1)")


def test_all_done(clock):
    live = started(clock, episodes=1)
    clock.seconds += 2
    for method in range(2):
        live.result(0, method, 0, 0.5)
    assert "2 of 2 results, 60.0 a minute, 0 s left" in live.status(0)


def test_a_log_has_a_line_a_minute(clock, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(common, "err", Console(file=log, highlight=False, width=40))
    live = started(clock)
    with live:
        for episode in range(10):
            clock.seconds += 25
            for method in range(2):
                live.result(0, method, episode, 0.5)
    lines = log.getvalue().splitlines()
    assert [line.split(" results")[0] for line in lines] == ["5 of 20", "11 of 20", "17 of 20"], "never wrapped"
    assert all("lora 50.00" in line for line in lines[1:])


def test_a_terminal_has_tables(clock, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(common, "err", console)
    live = Live(clock)
    with live:
        plan = make_plan(episodes=4, shots=(1, 5))
        live.begin(plan, [[{0: 0.5}, {}], [{}, {}]], [set(range(4))] * 2)
        clock.seconds += 30
        live.result(0, 1, 2, 1.0)
        with console.capture() as captured:
            console.print(live._render())
    lines = captured.get().splitlines()
    assert [line.strip() for line in lines if "-shot" in line and "pets" in line] == [
        "pets, 3-way 1-shot",
        "pets, 3-way 5-shot",
    ]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["zero-shot", "1/4", "50.00 ± 0.00"],
        ["lora", "1/4", "100.00 ± 0.00"],
        ["zero-shot", "0/4", "-"],
        ["lora", "0/4", "-"],
    ]
    assert "2 of 16 results, 2.0 a minute, 7 min left" in lines[-1]


def test_nothing_is_shown_without_a_run(clock, capsys):
    with Live(clock):
        pass
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")
