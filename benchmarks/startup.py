"""Seconds until the command line answers, and until a classifier can work: medians over fresh processes.

    uv run python benchmarks/startup.py [--repeats 5]

CPU seconds beside the wall clock's: on a busy machine they are what to compare. Prints one line of JSON for each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

CASES = {
    "python itself": ["-c", "pass"],
    "import atha": ["-c", "import atha"],
    "atha --version": ["-m", "atha", "--version"],
    "atha --help": ["-m", "atha", "--help"],
    "atha fit --help": ["-m", "atha", "fit", "--help"],
    "import torch": ["-c", "import torch"],
    "import atha.classifier": ["-c", "import atha.classifier"],
    "nano loaded": ["-c", "import atha; atha.Classifier.from_pretrained('nano', classes=['a', 'b'])"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(repeats + 1):
        for name, arguments in CASES.items():
            found[name].append(_seconds(arguments))
    for name, pairs in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs[1:], strict=True))  # the first fills the cache
        print(json.dumps({"case": name, "seconds": round(wall, 3), "cpu_seconds": round(cpu, 3)}))


def _seconds(arguments: list[str]) -> tuple[float, float]:
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, used


if __name__ == "__main__":
    main()
