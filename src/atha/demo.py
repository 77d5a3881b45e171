"""The main job on parts that come with the package: ``nano`` learns handwritten digits from five images per class."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from atha.adapter.files import check_free
from atha.classifier import Classifier
from atha.data import read_labelled
from atha.errors import DataError
from atha.evaluation import Evaluation
from atha.models.training import TrainingStep
from atha.recipe import BlendRecipe, Recipe

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHOT = 5
#: The paper's recipe, made short for two cores, at a rate and a logit scale that make up for the missing steps.
OVERRIDES = ("training.steps=28", "training.lora.lr=2e-3", "training.logit_scale=10", "lora.dropout=0")
MEMBERS = BlendRecipe().members
LORA, ATHA, AUTO = "LoRA (uniform alignment)", "ATHA", "auto: ATHA, texts and probes"


@dataclass
class DemoResult:
    """What the demo found, and where it put things."""

    support: Path
    test: Path
    adapter: Path
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def run_demo(folder: Path, seed: int = 0, progress: Callable[[str, int, int], None] | None = None) -> DemoResult:
    """Adapt ``nano`` to scikit-learn's digits, 5 images per class for support and the rest for test.

    Args:
        folder: gets the images as class folders and the adapter; what an earlier demo left there is renewed.
        seed: of the split and of training.
        progress: told (what is being done, done, total).

    Raises:
        DataError: the folder holds something that is not a demo's, or cannot be written.
        AdapterError: the adapter's place is taken by something else.
    """
    result = DemoResult(folder / "digits" / "support", folder / "digits" / "test", folder / "adapter")
    check_free(result.adapter, overwrite=True)
    write_digits(folder / "digits", seed)
    support, test = read_labelled(result.support), read_labelled(result.test)

    def told(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(what, done, total) if progress else None

    def steps(what: str) -> list[Callable[[TrainingStep], None]]:
        return [lambda now: told(f"Training {what}")(now.step, now.steps)]

    recipe = Recipe.load("paper", OVERRIDES)
    started = time.perf_counter()
    lora = Classifier.from_pretrained("nano", recipe=Recipe.load(recipe, ["alignment=none"]))
    lora.fit(support, seed=seed, callbacks=steps(LORA))
    trained = time.perf_counter()
    compared = lora.compare(test, progress=told("Testing zero-shot, linear probe and LoRA"))
    tested = time.perf_counter()
    atha = Classifier.from_pretrained("nano", recipe=recipe)
    atha.fit(support, seed=seed, callbacks=steps(ATHA))
    adapted = atha.evaluate(test, progress=told(f"Testing {ATHA}"))
    aligned = time.perf_counter()
    auto = Classifier.from_pretrained("nano", recipe=Recipe.load(recipe, {"blend.members": MEMBERS}))
    auto.fit(support, seed=seed, callbacks=steps(AUTO))
    blended = auto.evaluate(test, progress=told(f"Testing {AUTO}"))
    # The frozen backbone's pass and LoRA's share one reading of the images: each is charged half of it.
    half = (tested - trained) / 2
    result.seconds = {
        "zero-shot": half,
        "linear probe": half,
        LORA: trained - started + half,
        ATHA: aligned - tested,
        AUTO: time.perf_counter() - aligned,
    }
    result.evaluations = {
        "zero-shot": compared["zero-shot"],
        "linear probe": compared["linear probe"],
        LORA: compared["adapted"],
        ATHA: adapted,
        AUTO: blended,
    }
    auto.save_pretrained(result.adapter, {**compared, "adapted": blended}, overwrite=True)
    return result


def write_digits(folder: Path, seed: int = 0, tests: int | None = None) -> None:
    """scikit-learn's scans of handwritten digits, 8 pixels a side, as PNG files in class folders.

    Args:
        folder: gets ``support``, with 5 images of each class, and ``test``; what a demo left there is renewed.
        seed: of the split, which depends on it alone.
        tests: test images of each class; None: all others, about 175.

    Raises:
        DataError: the folder holds something that is not a demo's, or cannot be written.
    """
    try:
        _write(folder, _chosen(folder, seed, tests))
    except OSError as error:
        raise DataError(f"cannot write to {folder} ({error.strerror or error}), choose another --out") from error


def _chosen(folder: Path, seed: int, tests: int | None) -> dict[Path, np.ndarray]:
    """Scans by the files that they become."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    wanted: dict[Path, np.ndarray] = {}
    for digit, name in enumerate(NAMES):
        places = [index for index in order if digits.target[index] == digit]
        for rank, index in enumerate(places[: None if tests is None else SHOT + tests]):
            part = "support" if rank < SHOT else "test"
            wanted[folder / part / f"digit_{name}" / f"{index:04d}.png"] = digits.images[index]
    return wanted


def _write(folder: Path, wanted: dict[Path, np.ndarray]) -> None:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file() and path not in wanted:
            if not (path.suffix == ".png" and path.stem.isdigit()):
                raise DataError(f"{path} is not the demo's, choose another --out: nothing there is touched")
            path.unlink()  # of a demo with another seed
    for path, image in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).round().astype(np.uint8)).save(path)
