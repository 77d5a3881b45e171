"""Kill a benchmark run again and again: what it stores must equal an uninterrupted run's, episode for episode.

    uv run python benchmarks/kills.py FOLDER [--kills 50] [--executor local|ray|here] [--seed 0]

FOLDER holds class folders. A run is `atha bench run` with zero-shot, a linear probe and two steps of ATHA, on episodes
of its own; it is killed with SIGKILL at a random moment, the driver or, every other time, one of its workers, until it
has been killed often enough, and then left to finish. Prints one line of JSON, and fails if anything differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from atha.bench.store import Store

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
    folder: Path, place: Path, kills: int, executor: str, episodes: int, rng: random.Random, way: int = 3
) -> dict[str, object]:
    """Run to the end undisturbed, then again with kills; compare.

    Args:
        folder: class folders, 4 images per class at least.
        place: for the stores.
        kills: how many.
        executor: ``here`` (one process), ``local`` (two workers) or ``ray``.
        episodes: of each run.
        rng: moments and victims.
        way: classes per episode.

    Returns:
        Whether the stores are equal, and what happened.
    """
    command = [
        sys.executable, "-m", "atha", "bench", "run", "--dataset", str(folder), "--model", "nano",
        "--method", METHODS, "--set", "training.steps=2", "--precision", "float32",
        "--way", str(way), "--shot", "1", "--query", "3", "--episodes", str(episodes),
        "--executor", "ray" if executor == "ray" else "local", "--workers", "1" if executor == "here" else "2",
    ]  # fmt: skip
    environment = {**os.environ, "ATHA_CACHE": str(place / "cache")}
    whole, killed = place / "whole.db", place / "killed.db"
    started = time.monotonic()
    subprocess.run([*command, "--store", str(whole)], env=environment, check=True, capture_output=True)
    usual = time.monotonic() - started
    drivers = workers = finished = 0
    at: list[int] = []
    while drivers + workers < kills:
        process = subprocess.Popen(
            [*command, "--store", str(killed)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        # Every other time soon after the first new result, so that kills hit the writing and not only the start.
        if rng.random() < 0.5:
            _wait_for_results(killed, process, _count(killed) + 1)
            time.sleep(rng.random() * 2)
        else:
            time.sleep(rng.random() * usual)
        victims = _workers(process.pid) if executor != "here" and rng.random() < 0.5 else []
        if process.poll() is not None:
            finished += 1
            _empty(killed, rng)
            continue
        if victims:
            os.kill(rng.choice(victims), signal.SIGKILL)
            workers += 1
            time.sleep(rng.random() * 3)
        if process.poll() is None:
            process.kill()
            drivers += 1
        process.wait()
        at.append(_count(killed))
    subprocess.run([*command, "--store", str(killed)], env=environment, check=True, capture_output=True)
    first, second = _content(whole), _content(killed)
    return {
        "equal": first == second,
        "results": len(first),
        "kills_of_the_driver": drivers,
        "kills_of_a_worker": workers,
        "runs_that_ended_before": finished,
        "results_at_each_kill": at,
        "seconds_undisturbed": round(usual, 1),
    }


def _content(path: Path) -> dict[tuple[str, int], tuple[float, bytes]]:
    with Store(path) as store:
        return {
            (one.hash, episode): (float(accuracy), probabilities.tobytes())
            for one in store.experiments()
            for accuracy, (episode, probabilities) in zip(one.accuracy, store.probabilities(one.hash), strict=True)
        }


def _count(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with Store(path) as store:
            return sum(len(one.episodes) for one in store.experiments())
    except Exception:  # being made just now
        return 0


def _empty(path: Path, rng: random.Random) -> None:
    """A run came to its end: take half of its results out, so that there is something to do again."""
    import sqlite3

    with sqlite3.connect(path) as connection:
        keep = rng.randrange(2)
        for table in ("probabilities", "results"):
            connection.execute(f"DELETE FROM {table} WHERE episode % 2 = {keep}")  # noqa: S608
    connection.close()


def _wait_for_results(path: Path, process: "subprocess.Popen[bytes]", count: int) -> None:
    while process.poll() is None and _count(path) < count:
        time.sleep(0.2)


def _workers(driver: int) -> list[int]:
    """Processes below the driver that run episodes."""
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
    below = {driver}
    for _ in parents:
        new = {child for child, parent in parents.items() if parent in below} - below
        if not new:
            break
        below |= new
    return [child for child in below - {driver} if "spawn_main" in names[child] or names[child].startswith("ray::")]


if __name__ == "__main__":
    main()
