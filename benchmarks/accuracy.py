"""Accuracy of a recipe against zero-shot and the linear probe, over random support sets of class folders.

    uv run python benchmarks/accuracy.py FOLDER [FOLDER ...] [--recipe NAME] [--seeds 10] [--shot 5] [--model nano]

One line of JSON per folder and seed, then the means. Seed s shuffles each class's files, in order of names, by
`random.Random(s)`; the first SHOT are the support set, the rest is test.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np

import atha
from atha import defaults
from atha.data import read_labelled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--recipe", default=defaults.RECIPE)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--shot", type=int, default=5)
    parser.add_argument("--model", default=defaults.NANO)
    options = parser.parse_args()
    for folder in options.folders:
        rows = []
        for seed in range(options.seeds):
            support, test = split(folder, options.shot, seed)
            classifier = atha.Classifier.from_pretrained(options.model, recipe=options.recipe)
            results = classifier.fit(support, seed=seed).compare(test)
            rows.append({name: result.accuracy for name, result in results.items()})
            print(json.dumps({"folder": folder.name, "seed": seed, **rows[-1]}), flush=True)
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        print(json.dumps({"folder": folder.name, "seeds": options.seeds, "mean": means}), flush=True)


def split(folder: Path, shot: int, seed: int) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Support and test pairs of one seed."""
    generator = random.Random(seed)
    data = read_labelled(folder)
    support, test = [], []
    for label in data.labels:
        files = sorted(Path(str(sample.image)) for sample in data.samples if sample.label == label)
        generator.shuffle(files)
        support += [(file, label) for file in files[:shot]]
        test += [(file, label) for file in files[shot:]]
    return support, test


if __name__ == "__main__":
    main()
