"""Prediction: CPU milliseconds per image as training's view and as prediction's, and peak memory over their number.

    uv run python benchmarks/predict.py [--model nano|vit-b16] [--batch 32] [--repeats 7] [--images 1000,10000]

LoRA is attached with random values; the two ways alternate, on one thread, and the medians of CPU time are printed,
which a busy machine disturbs less than the clock. The second part classifies generated images from a folder.
"""

import argparse
import json
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
from atha.models.forms import prediction_encoder, training_encoder
from atha.models.inference import group_size
from atha.tuners import Tuners

CLASSES = ["first", "second", "third", "fourth", "fifth"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["nano", "vit-b16"], default="nano")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", default="1000,10000", help="Counts of images, rising; 0 leaves this part out.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        name = options.model
        if name == "vit-b16":
            build(Path(folder), "vit-b-16")
            name = folder
        for precision in ("float32", "bfloat16"):
            print(json.dumps({"model": options.model, "batch": options.batch, **_compare(name, precision, options)}))
    if counts := [int(count) for count in options.images.split(",") if int(count)]:
        print(json.dumps({"peak_bytes_by_images": _memory(counts)}))


def _compare(name: str, precision: str, options: argparse.Namespace) -> dict[str, object]:
    recipe = atha.Recipe.load("released-fixed", [f"training.precision={precision}", "lora.dropout=0"])
    classifier = atha.Classifier.from_pretrained(name, classes=CLASSES, recipe=recipe, device="cpu")
    backbone = classifier.backbone
    prompts = backbone.prompts(CLASSES, recipe.prompt.template)
    tuners = Tuners.start(backbone, recipe, prompts)
    with torch.no_grad():
        for value in tuners.parameters()["lora"]:
            value.add_(torch.randn_like(value), alpha=0.01)
    pixels = torch.randn(options.batch, 3, backbone.image_size, backbone.image_size)
    encoder, training = prediction_encoder(backbone, precision, tuners), training_encoder(backbone, [tuners], precision)
    with torch.no_grad():
        anchors = encoder.texts(prompts).anchors

    @torch.no_grad()
    def plain() -> torch.Tensor:
        return training.images(pixels, anchors)

    @torch.no_grad()
    def ours() -> torch.Tensor:
        return torch.cat([encoder.images(group, anchors) for group in pixels.split(group_size(backbone))])

    similarity = torch.nn.functional.cosine_similarity(plain().float(), ours().float()).min().item()
    ways: dict[str, Callable[[], torch.Tensor]] = {"plain": plain, "ours": ours}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for way, run in ways.items():
            started = time.process_time()
            run()
            times[way].append((time.process_time() - started) * 1000 / options.batch)
    found = {way: round(statistics.median(values), 2) for way, values in times.items()}
    return {"precision": precision, "cpu_ms_per_image": found, "least_cosine": round(similarity, 6)}


def _memory(counts: list[int]) -> dict[int, int | None]:
    rng = np.random.default_rng(0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(counts[-1]):
            Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(Path(folder) / f"{index:06d}.bmp")
        files = sorted(Path(folder).iterdir())
        classifier = atha.Classifier.from_pretrained("nano", classes=CLASSES)
        sum(1 for _ in classifier.stream(files[:100]))
        for count in counts:
            machine.reset_peak()
            sum(1 for _ in classifier.stream(files[:count]))
            found[count] = machine.peak_memory()
    return found


if __name__ == "__main__":
    main()
