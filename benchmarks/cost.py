"""What a training step costs, by the number of support images and of classes.

    uv run python benchmarks/cost.py [--size vit-b-16] [--images 1,5,25,125] [--classes 2,5,20,100]

A CLIP model of the size asked for with random weights; recipe `paper`, precision as it is chosen by itself. Prints
median seconds a step, of wall clock and of processors, and peak memory, each row in a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from episode import SIZES, build, names

STEPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sorted(SIZES), default="vit-b-16")
    parser.add_argument("--images", default="1,5,25,125", help="at five classes")
    parser.add_argument("--classes", default="2,5,20,100", help="at five images")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(*json.loads(options.row))))
        return
    rows = [(int(count), 5) for count in options.images.split(",")]
    rows += [(5, int(count)) for count in options.classes.split(",") if int(count) != 5]
    print(f"{options.size}\nimages  classes  s a step  processor s  s an image    peak")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), options.size)
        for images, classes in rows:
            command = [sys.executable, __file__, "--row", json.dumps([folder, images, classes])]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            wall, busy, peak = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{images:6} {classes:8} {wall:9.3f} {busy:12.3f} {wall / images:11.3f} {peak / 1e9:6.2f}GB", flush=True
            )


def measure(folder: str, images: int, classes: int) -> tuple[float, float, int]:
    import torch

    import atha
    from atha import machine
    from atha.devices import resolve_precision
    from atha.models.forms import training_encoder
    from atha.models.training import train
    from atha.tuners import Tuners

    class Support:
        shot = 1
        labels = torch.arange(images) % classes

        def batches(self, size: int | None) -> Any:
            while True:
                yield pixels, self.labels

    recipe = atha.Recipe.load("paper", {"training.steps": STEPS})
    backbone = atha.load_backbone(folder)
    pixels = torch.randn(images, 3, backbone.image_size, backbone.image_size)
    options = argparse.Namespace(classes=classes)
    prompts = backbone.prompts(names(options), recipe.prompt.template)
    tuners = Tuners.start(backbone, recipe, prompts)
    encoder = training_encoder(backbone, [tuners], resolve_precision("auto", backbone.device))
    support: Any = Support()
    wall, busy = [], []

    def tick(*_: Any) -> None:
        wall.append(time.perf_counter())
        busy.append(time.process_time())

    train(encoder, prompts, [support], recipe, tick)
    steps = [statistics.median(after - before for before, after in pairwise(clock)) for clock in (wall, busy)]
    return steps[0], steps[1], machine.peak_memory() or 0


if __name__ == "__main__":
    main()
