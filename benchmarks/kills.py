"""Kill a benchmark run again and again: what it stores must equal an uninterrupted run's, episode for episode.

    uv run python benchmarks/kills.py FOLDER [--kills 50] [--executor local|ray|here] [--seed 0]

FOLDER holds class folders. A run is `atha bench run` with zero-shot, a linear probe and two steps of ATHA, on episodes
of its own. It is killed with SIGKILL at random moments while results come, the driver or, every other time, one of its
workers, until it has been killed often enough, and then left to finish. With ray, the workers are a cluster's that
stays up all the time. Prints one line of JSON, and fails if anything differs.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from atha.cli import app

METHODS = "zero-shot,linear-probe,atha:paper"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--executor", choices=["local", "ray", "here"], default="local")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = survive(
            options.folder, Path(place), options.kills, options.executor, options.episodes, random.Random(options.seed)
        )
    print(json.dumps({"executor": options.executor, **found}))
    sys.exit(not found["equal"])


def survive(
    folder: Path,
    place: Path,
    kills: int,
    executor: str,
    episodes: int,
    rng: random.Random,
    pause: float = 2.0,
    model: str = "nano",
) -> dict[str, object]:
    """Run to the end undisturbed in one process, then again with kills; compare.

    Args:
        folder: class folders, 4 images per class at least.
        place: for the stores.
        kills: how many.
        executor: ``here`` (one process), ``local`` (two workers) or ``ray``.
        episodes: of each run.
        rng: moments and victims.
        pause: seconds at most between a new result and the kill.
        model: that is run.

    Returns:
        Whether the stores are equal, and what happened: ``left_behind`` are processes that outlived their driver.
    """
    command = [
        sys.executable, "-m", "atha", "bench", "run", "--dataset", str(folder), "--model", model,
        "--method", METHODS, "--set", "training.steps=2", "--precision", "float32",
        "--way", "3", "--shot", "1", "--query", "3", "--episodes", str(episodes),
    ]  # fmt: skip
    whole, killed = place / "whole.db", place / "killed.db"
    with _cluster(executor == "ray") as address:
        environment = {**os.environ, "ATHA_CACHE": str(place / "cache")}  # after ray.init, which sets how to log in
        _undisturbed([*command, "--workers", "1", "--store", str(whole)], environment)
        cluster = ["--executor", "ray", "--ray-address", address] if address else []
        again = [*command, "--workers", "1" if executor == "here" else "2", *cluster, "--store", str(killed)]
        happened = _kill(again, environment, killed, kills, len(_content(whole)), pause, rng)
        if address:  # a process that has another's cluster leaves it as it is
            subprocess.run(again, env=environment, check=True, stdout=subprocess.DEVNULL)
        else:
            _undisturbed(again, environment)
    first, second = _content(whole), _content(killed)
    return {"equal": first == second, "results": len(first), **happened}


def _undisturbed(command: list[str], environment: dict[str, str]) -> None:
    """The command in this process, where the libraries are loaded once."""
    result = CliRunner(env=environment).invoke(app, command[3:])
    if result.exit_code:
        raise RuntimeError(result.output)


def _kill(
    command: list[str],
    environment: dict[str, str],
    store: Path,
    kills: int,
    results: int,
    pause: float,
    rng: random.Random,
) -> dict[str, object]:
    """Run, kill and run again; every kill comes after a new result, and before the last."""
    drivers = workers = ended = failed = left = 0
    at: list[int] = []
    process: subprocess.Popen[bytes] | None = None
    while drivers + workers < kills:
        if process is None:
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
        seen = _count(store)
        while process.poll() is None and _count(store) <= seen:
            time.sleep(0.1)
        time.sleep(rng.random() * pause)
        count, victims = _count(store), _workers(os.getpid())
        if process.poll() is not None or count == results:
            failed += process.wait() != 0
            ended, process = ended + 1, None
            _halve(store, rng)
            continue
        if victims and workers <= drivers:
            try:
                os.kill(rng.choice(victims), signal.SIGKILL)
            except ProcessLookupError:  # at its end just now
                continue
            workers += 1
        else:
            left += _kill_driver(process)
            process = None
            drivers += 1
        at.append(count)
    if process is not None:
        left += _kill_driver(process)
    return {
        "kills_of_the_driver": drivers,
        "kills_of_a_worker": workers,
        "runs_that_ended_before": ended,
        "of_these_with_an_error": failed,
        "left_behind": left,
        "results_at_each_kill": at,
    }


def _kill_driver(process: "subprocess.Popen[bytes]") -> int:
    """Kill it, and count what it started that is still there half a minute later."""
    others = _below(process.pid)[0] - {process.pid}
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while (left := [one for one in others if _runs(one)]) and time.monotonic() < until:
        time.sleep(0.1)
    return len(left)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def _cluster(wanted: bool) -> Iterator[str | None]:
    """A Ray cluster of two cores that outlives the drivers; its address."""
    if not wanted:
        yield None
        return
    from atha.bench import on_ray  # noqa: F401 - before ray: it sets what Ray reads when it is imported

    import ray  # isort: skip

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()


def _content(path: Path) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Everything stored of each result, but what it cost and when it was made."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT e.hash, r.episode, r.hash, accuracy, brier, calibration, classes, correct, probabilities "
            "FROM results r JOIN experiments e ON e.id = r.experiment "
            "LEFT JOIN probabilities p ON p.experiment = r.experiment AND p.episode = r.episode"
        )
        return {(experiment, episode): tuple(values) for experiment, episode, *values in rows}


def _count(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(path)) as connection:
            return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])
    except sqlite3.Error:  # being made just now
        return 0


def _halve(path: Path, rng: random.Random) -> None:
    """A run came to its end: take half of its results out, so that there is something to do again."""
    with closing(sqlite3.connect(path)) as connection, connection:
        keep = rng.randrange(2)
        for table in ("probabilities", "results"):
            connection.execute(f"DELETE FROM {table} WHERE episode % 2 = {keep}")  # noqa: S608


def _below(root: int) -> tuple[set[int], dict[int, int], dict[int, str]]:
    """A process and all that it and they have started; the parents and the command lines of all processes."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
                names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    below = {root}
    for _ in parents:
        new = {child for child, parent in parents.items() if parent in below} - below
        if not new:
            break
        below |= new
    return below, parents, names


def _workers(root: int) -> list[int]:
    """Processes below another that run episodes."""
    below, parents, names = _below(root)
    nurseries = {one for one in below if "atha.bench import nursery" in names.get(one, "")}
    return [
        one
        for one in below - {root}
        if parents[one] in nurseries or "spawn_main" in names[one] or names[one].startswith("ray::_episode")
    ]


if __name__ == "__main__":
    main()
