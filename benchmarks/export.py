"""Images a second of a classifier as it is and as it is exported, ViT-B/16 with random weights.

    uv run python benchmarks/export.py [--size vit-b-16] [--threads 2] [--images 8] [--rounds 5]

In turn in one process, with so many threads each: `Classifier.stream` as ``atha predict`` runs it; a
plain loop of transformers in float32 on the same checkpoint, LoRA merged, class texts once; the ONNX export in float32
and in int8, static, by onnxruntime. Each of them reads the images from files. The medians of rounds are printed with
the slowest and the quickest, and how often as fast as the first each is: other work moves all of them together.
"""

import argparse
import runpy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from episode import build
from PIL import Image

import atha
from atha import machine
from atha.export import GRAPH, checkpoint, onnx_graph
from atha.export.base import Subject
from atha.export.companions import write_companions
from atha.export.int8 import quantize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="vit-b-16")
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    _limit_onnxruntime(options.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        build(folder / "model", options.size)
        files = _photos(folder / "photos", options.images)
        _measure(_ways(folder, files), files, options.rounds)


def _limit_onnxruntime(threads: int) -> None:
    import onnxruntime

    made = onnxruntime.InferenceSession

    def limited(*args: Any, **kwargs: Any) -> object:
        options = kwargs.setdefault("sess_options", onnxruntime.SessionOptions())
        options.intra_op_num_threads = threads
        return made(*args, **kwargs)

    onnxruntime.InferenceSession = limited


def _photos(folder: Path, count: int) -> list[Path]:
    rng, files = np.random.default_rng(0), []
    folder.mkdir()
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((640, 480))
        coarse.save(folder / f"{number}.jpg", quality=90)
        files.append(folder / f"{number}.jpg")
    return files


def _ways(folder: Path, files: list[Path]) -> dict[str, Callable[[], object]]:
    recipe = atha.Recipe.load("lora", ["training.steps=1"])
    classifier = atha.Classifier.from_pretrained(str(folder / "model"), recipe=recipe, device="cpu")
    classifier.fit([(file, f"{number % 2} things") for number, file in enumerate(files[:2])])
    subject = Subject.of(classifier._now)
    # Without their proofs, which take longer than what is measured.
    plain, graph = checkpoint.Exporter(subject), onnx_graph.Exporter(subject)
    folders = {"transformers float32": plain, "ONNX float32": graph, "ONNX int8": graph}
    for name, made in folders.items():
        (folder / name).mkdir()
        write_companions(folder / name, made)
    plain.write(folder / "transformers float32")
    program = onnx_graph.translate(subject)
    program.save(folder / "ONNX float32" / GRAPH, external_data=False)
    views = [subject.views.plain(subject.reader.open(file)) for file in files]
    quantize(program, folder / "ONNX int8" / GRAPH, False, subject, views)
    ways: dict[str, Callable[[], object]] = {"atha predict": lambda: list(classifier.stream(files))}
    return ways | {name: _by_program(folder / name, files) for name in folders}


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
