"""What `atha label` takes with many photos: until the page and its first photo are there, memory, presses, estimates.

    uv run python benchmarks/label_page.py FOLDER [--photos 50000] [--labels 200] [--minutes 5] [--adapt RECIPE]

Photos of noise around one of seven colours are generated in FOLDER, where there is none yet. A program then asks for
the page as a browser does, gives labels by colour, and at the end waits for an estimate that knows them all. Last, what
the learner does after a press is timed by itself, on one core, with features of as many photos. With --adapt, a recipe
is fitted beside it, presses come four a second, and what is said of the fit is printed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {
    "red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200), "grey": (128, 128, 128),
    "yellow": (200, 200, 60), "pink": (220, 120, 180), "black": (40, 40, 40),
}  # fmt: skip
SIDE, NOISE, WIDTH = 128, 40, 192


def generate(folder: Path, count: int) -> None:
    """Photos of JPEG, each of its own noise."""
    if folder.exists():
        return
    rng = np.random.default_rng(0)
    noise = rng.normal(0, NOISE, (SIDE * 2, SIDE * 2, 3))
    for number in range(count):
        name = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        file = folder / name / f"{number:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        x, y = rng.integers(0, SIDE, 2)
        colour = np.array(COLOURS[name]) + rng.normal(0, 25, 3)
        pixels = np.clip(colour + noise[x : x + SIDE, y : y + SIDE], 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, quality=80)


class Page:
    """The page as a program asks it."""

    def __init__(self, printed: str) -> None:
        found = re.search(r"(http://\S+/)#token=(\S+)", printed)
        assert found, printed
        self.address, self.token = found[1], found[2]

    def ask(self, path: str, content: dict[str, Any] | None = None) -> bytes:
        """An answer."""
        body = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
            return bytes(reply.read())


def peak_mib(process: int) -> float:
    """The most memory that a process has had."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def learn(photos: int, labels: int) -> None:
    """Print what the learner takes by itself."""
    from threadpoolctl import threadpool_limits

    from atha.labelling.model import Texts
    from atha.labelling.session import Session

    rng = np.random.default_rng(0)
    centres, truth = rng.normal(size=(len(COLOURS), WIDTH)), rng.integers(0, len(COLOURS), photos)
    texts = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    session = Session(list(COLOURS), Texts(texts, 100.0), photos)
    session.add_features(range(photos), (centres[truth] + 1.5 * rng.normal(size=(photos, WIDTH))).astype(np.float32))

    def timed(what: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        print(f"{what:23} {time.perf_counter() - start:7.3f} s", flush=True)

    with threadpool_limits(1):
        timed("first choice", lambda: session.next(12))
        while len(session.labelled) < labels:
            for pick in session.next(20):
                session.label(pick.place, int(truth[pick.place]), pick.how)
        timed("refit", lambda: session.model)
        timed("choice", lambda: session.next(12))
        timed("estimate", session.estimate)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=50_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=5, help="to look at photos before labelling")
    parser.add_argument("--adapt", help="recipe to fit beside it")
    given = parser.parse_args()
    generate(given.folder, given.photos)
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "labels.csv"
        command = [sys.executable, "-m", "atha", "label", str(given.folder), "--model", "nano", "--no-browser"]
        command += ["--classes", ",".join(COLOURS), "--out", str(table)]
        command += ["--adapt", "--recipe", given.adapt] if given.adapt else []
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                measure(Page(process.stdout.readline()), process.pid, given, begun)
            finally:
                process.terminate()
    learn(given.photos, given.labels)


def measure(page: Page, process: int, given: argparse.Namespace, begun: float) -> None:
    """Print what it takes."""
    page.ask("")
    print(f"page                    {time.perf_counter() - begun:7.2f} s", flush=True)
    held = json.loads(page.ask("next", {"tab": "benchmark"}))
    page.ask(f"photo/{held['photos'][0]['place']}/large")
    print(f"first photo             {time.perf_counter() - begun:7.2f} s, {peak_mib(process):,.0f} MiB", flush=True)
    while time.perf_counter() - begun < 60 * given.minutes:
        status = json.loads(page.ask("status"))["status"]
        if status["looked"] >= status["photos"]:
            break
        time.sleep(1)
    status = json.loads(page.ask("status"))["status"]
    print(f"looked at {status['looked']:>6,} photos {time.perf_counter() - begun:7.2f} s", flush=True)
    names = list(COLOURS)
    seconds: list[float] = []
    while len(seconds) < given.labels:
        if not held["photos"]:
            time.sleep(0.05)
            held = json.loads(page.ask("next", {"tab": "benchmark"}))
            continue
        photo = held["photos"][0]
        page.ask(f"photo/{photo['place']}/large")
        press = {
            "tab": "benchmark", "press": f"benchmark-{len(seconds):06}", "place": photo["place"], "kind": "label",
            "number": names.index(Path(photo["name"]).parent.name), "seen": photo["seen"],
            "keep": [one["place"] for one in held["photos"]],
        }  # fmt: skip
        start = time.perf_counter()
        held = json.loads(page.ask("press", press))
        seconds.append(time.perf_counter() - start)
        if given.adapt:
            time.sleep(0.25)
    start = time.perf_counter()
    while not (curve := json.loads(page.ask("status"))["status"]["curve"]) or curve[-1][0] < given.labels:
        time.sleep(0.1)
    print(f"estimate after the last {time.perf_counter() - start:7.2f} s: {curve[-1][1]:.3f}")
    middle, late = np.quantile(seconds, [0.5, 0.95])
    print(f"a press                 {1000 * middle:7.1f} ms, 95% below {1000 * late:.1f} ms")
    if given.adapt:
        print(json.loads(page.ask("status"))["status"]["adapted"])
    print(f"peak memory             {peak_mib(process):7,.0f} MiB; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
