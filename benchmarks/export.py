"""Images a second of a classifier as it is and as it is exported, ViT-B/16 with random weights.

    uv run python benchmarks/export.py [--size vit-b-16] [--recipe lora] [--images 8] [--rounds 5]

In turn in one process, with as many threads as there are cores: `Classifier.stream` as ``atha predict`` runs it; a
plain loop of transformers in float32 on the same checkpoint, LoRA merged, class texts once; the ONNX export in float32
and in int8, static, by onnxruntime. Each of them reads the images from files. The medians of rounds are printed with
the slowest and the quickest, and how often as fast as the first each is: other work moves all of them together.
"""

import argparse
import json
import runpy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from episode import build
from PIL import Image

import atha
from atha import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="vit-b-16")
    parser.add_argument("--recipe", default="lora")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(machine.cores())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        build(folder / "model", options.size)
        files = _photos(folder / "photos", options.images)
        ways, about = _ways(folder, files, options)
        print(json.dumps(about), flush=True)
        _measure(ways, files, options.rounds)


def _photos(folder: Path, count: int) -> list[Path]:
    rng, files = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((640, 480))
        coarse.save(folder / f"{number}.jpg", quality=90)
        files.append(folder / f"{number}.jpg")
    return files


def _ways(
    folder: Path, files: list[Path], options: argparse.Namespace
) -> tuple[dict[str, Callable[[], object]], dict[str, object]]:
    recipe = atha.Recipe.load(options.recipe, ["training.steps=2"])
    classifier = atha.Classifier.from_pretrained(str(folder / "model"), recipe=recipe, device="cpu")
    classifier.fit([(file, f"class {number % 2}") for number, file in enumerate(files[:4])])
    made = {
        "transformers float32": classifier.export(folder / "plain", "transformers", accept_difference=True),
        "ONNX float32": classifier.export(folder / "onnx"),
        "ONNX int8": classifier.export(folder / "int8", quantize="int8", calibrate=files),
    }
    ways: dict[str, Callable[[], object]] = {"atha predict": lambda: list(classifier.stream(files))}
    for name, one in made.items():
        ways[name] = _by_program(one.folder, files)
    sizes = {name: sum(file.stat().st_size for file in one.folder.iterdir()) for name, one in made.items()}
    away = {name: [one.largest_difference, one.labels_agree] for name, one in made.items()}
    return ways, {"bytes": sizes, "largest_difference_and_agreement": away}


def _by_program(folder: Path, files: list[Path]) -> Callable[[], object]:
    predict = runpy.run_path(str(folder / "predict.py"))
    return lambda: [predict["probabilities"](file) for file in files]


def _measure(ways: dict[str, Callable[[], object]], files: list[Path], rounds: int) -> None:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    for _ in range(rounds):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            taken[name].append((time.perf_counter() - started) / len(files))
    first = statistics.median(taken["atha predict"])
    for name, values in taken.items():
        middle = statistics.median(values)
        print(
            f"{name}: {1 / middle:.2f} images a second ({1 / max(values):.2f} to {1 / min(values):.2f}), "
            f"{first / middle:.2f} times the first",
            flush=True,
        )


if __name__ == "__main__":
    main()
