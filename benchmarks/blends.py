"""What a blend costs: seconds of fits by recipe, in turn in one process, and of probes beyond features of the images.

    uv run python benchmarks/blends.py [--model nano] [--shots 1,2,5] [--rounds 3] [--steps 100]

Five classes of random pictures; `--model vit-b-16` is a CLIP model of that size with random weights. `released-fixed`
trains what `auto` adapts. Probes beyond features: `Classifier.add` of one image more to 25, which fits all probes and
chooses views and weights anew from features that are kept.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from episode import SIZES, build

RECIPES = ("released-fixed", "auto", "probes")
CLASSES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("nano", *sorted(SIZES)), default="nano")
    parser.add_argument("--shots", default="1,2,5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.model != "nano":
            build(Path(folder), options.model)
        measure("nano" if options.model == "nano" else folder, options)


def measure(model: str, options: argparse.Namespace) -> None:
    import numpy as np
    from PIL import Image

    from atha import Classifier, Recipe

    rng = np.random.default_rng(0)

    def pictures(shot: int) -> list[tuple[Image.Image, str]]:
        pixels = rng.integers(0, 255, (CLASSES * shot, 224, 224, 3), dtype=np.uint8)
        return [(Image.fromarray(one), f"class number {place % CLASSES}") for place, one in enumerate(pixels)]

    def seconds(recipe: str, shot: int, steps: int) -> float:
        support = pictures(shot)
        overrides = {} if recipe == "probes" else {"training.steps": steps}
        classifier = Classifier.from_pretrained(model, recipe=Recipe.load(recipe, overrides))
        before = time.perf_counter()
        classifier.fit(support)
        return time.perf_counter() - before

    for recipe in RECIPES:  # what is made at the first use is not counted
        seconds(recipe, 2, 2)
    print(f"{options.model}, {options.steps} steps, {CLASSES} classes: medians of {options.rounds} rounds, seconds")
    for shot in map(int, options.shots.split(",")):
        found: dict[str, list[float]] = {recipe: [] for recipe in RECIPES}
        for _ in range(options.rounds):
            for recipe, times in found.items():
                times.append(seconds(recipe, shot, options.steps))
        ratios = [auto / alone for auto, alone in zip(found["auto"], found["released-fixed"], strict=True)]
        shown = ", ".join(f"{recipe} {statistics.median(times):.2f}" for recipe, times in found.items())
        print(f"{shot}-shot: {shown}; auto / released-fixed {statistics.median(ratios):.2f}", flush=True)
    beyond = []
    for _ in range(options.rounds):
        classifier = Classifier.from_pretrained(model, recipe="probes").fit(pictures(5))
        before = time.perf_counter()
        classifier.add(pictures(1)[:1])
        beyond.append(time.perf_counter() - before)
    print(f"probes beyond features of 25 images, one image's included: {statistics.median(beyond):.2f}")


if __name__ == "__main__":
    main()
