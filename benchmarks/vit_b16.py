"""Seconds per step and peak memory of one fit at the size of ViT-B/16, weights random.

    uv run python benchmarks/vit_b16.py [--steps 100] [--shot 1] [--queries 75]

Five classes; random images; the model is built from its configuration and loaded from disk like any other.
"""

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import transformers
from PIL import Image

import atha
from atha.backbones import NANO

CLASSES = ("first", "second", "third", "fourth", "fifth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--queries", type=int, default=75)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        built = peak()
        measure(folder, options.steps, options.shot, options.queries)
    print(f"peak memory of the process: {peak():.2f} GB (building and saving the random model: {built:.2f} GB)")


def build(folder: Path) -> None:
    """A random ViT-B/16 CLIP with a tokenizer and an image processor, in ``folder``."""
    nano = Path(atha.backbones.__file__).parent / NANO
    config = transformers.CLIPConfig(
        vision_config={"patch_size": 16}, text_config={"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(nano / name, folder)


def measure(folder: str, steps: int, shot: int, queries: int) -> None:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (300, 400, 3), dtype=np.uint8)) for _ in range(5 * shot + queries)]
    started = time.perf_counter()
    classifier = atha.Classifier.from_pretrained(folder, recipe=atha.Recipe.load("paper", {"training.steps": steps}))
    loaded = time.perf_counter()
    times: list[float] = []
    support = [(image, CLASSES[index % 5]) for index, image in enumerate(images[: 5 * shot])]
    classifier.fit(support, progress=lambda *_: times.append(time.perf_counter()))
    fitted = time.perf_counter()
    classifier.predict(images[5 * shot :])
    done = time.perf_counter()
    print(f"load {loaded - started:.1f} s, fit {fitted - loaded:.1f} s, predict {queries} images {done - fitted:.1f} s")
    print(f"median step {np.median(np.diff(times)):.2f} s over {steps} steps of {5 * shot} images")
    print(
        f"precision {classifier.record['run']['precision']}, LoRA in {classifier.record['run']['lora_layers']} layers"
    )


def peak() -> float:
    """Most memory the process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
