"""What labelling, refusing and auditing give, simulated on labelled images whose labels are known.

    python benchmarks/labelling.py features DATA FEATURES      # once: frozen features of nano, by set
    python benchmarks/labelling.py curves FEATURES OUT.jsonl   # accuracy against labels, and the live estimate
    python benchmarks/labelling.py cold FEATURES               # labels until all classes are found, uneven 7 classes
    python benchmarks/labelling.py adapt DATA FEATURES         # full fits at 80 labels, probes, and the truth
    python benchmarks/labelling.py size                        # 50,000 generated features: seconds and memory
    python benchmarks/labelling.py show OUT.jsonl              # tables

DATA holds a folder of class folders for each set; scikit-learn's digits need none. `--sets`, `--seeds FIRST LAST`.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize  # noqa: F401 - its threads are limited, too
import sklearn.cluster  # noqa: F401 - the same
from image_sets import DIGITS, TINY, digits
from PIL import Image
from threadpoolctl import threadpool_limits

from atha.labelling.choosing import margin_doubt
from atha.labelling.model import Texts, fit_model
from atha.labelling.session import Session
from atha.methods.base import unit

ASPECTS = ("plain", "flip", "nearer")
FOLDERS = ("isic2018", "rsscn7_aerial_scenes", "corn_leaf_disease", "eurosat", "chestx")
LABELLED = ("isic2018", "rsscn7_aerial_scenes", "corn_leaf_disease", "digits", *TINY)
STEP, MOST = 10, 150
# How many paths each simulation takes.
PATHS = {"features": 2, "curves": 2, "cold": 1, "adapt": 2, "size": 0, "show": 1}


@dataclass(frozen=True)
class Set:
    """Features of a set of images, at unit length."""

    features: np.ndarray
    labels: np.ndarray
    texts: Texts

    @classmethod
    def load(cls, folder: Path, name: str) -> "Set":
        with np.load(folder / f"{name}.npz") as file:
            texts = Texts(unit(file["texts"].astype(float)), float(file["scale"]))
            return cls(unit(file["plain"].astype(float)), file["labels"], texts)

    @property
    def classes(self) -> int:
        return len(self.texts.features)

    def split(self, seed: int, share: float, uneven: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Places of the pool, and of the test images; classes of the pool from 1 to 1/uneven in size."""
        rng = np.random.default_rng([seed, 7])
        pool, test = [], []
        for rank, label in enumerate(rng.permutation(self.classes)):
            places = rng.permutation(np.flatnonzero(self.labels == label))
            count = round(share * len(places))
            test += places[count:].tolist()
            pool += places[: max(2, round(count * uneven ** (-rank / (self.classes - 1))))].tolist()
        return rng.permutation(pool), np.array(test)


def simulate(data: Set, pool: np.ndarray, strategy: str, seed: int, most: int) -> Iterator[Session]:
    """A session after each step."""
    features, truth = data.features[pool], data.labels[pool]
    session = Session([str(one) for one in range(data.classes)], data.texts, len(pool), seed)
    session.add_features(range(len(pool)), features)
    for done in range(0, most, STEP):
        if strategy == "ours":
            chosen = [(pick.place, pick.how) for pick in session.next(STEP)]
        else:
            free = np.array([place for place in session.order if place not in session.labelled])
            if strategy == "uncertainty" and done and session.model is not None:
                doubt = margin_doubt(session.model.probabilities(session.features[free]))
                free = free[np.argsort(-doubt, kind="stable")]
            chosen = [(int(place), "own") for place in free[:STEP]]
        for place, how in chosen:
            session.label(place, int(truth[place]), how)
        yield session


def curves(folder: Path, out: Path, sets: Sequence[str], seeds: range) -> None:
    for seed in seeds:
        for name in sets:
            data = Set.load(folder, name)
            pool, test = data.split(seed, 0.6)
            for strategy in ("random", "uncertainty", "ours"):
                started, accuracy, looks = time.perf_counter(), [], []
                for session in simulate(data, pool, strategy, seed, min(MOST, int(0.8 * len(pool)))):
                    count = len(session.labelled)
                    learned = fit_model(
                        session.features[list(session.labelled)],
                        np.array([label for label, _ in session.labelled.values()]),
                        data.texts,
                        seed,
                    )
                    right = learned.probabilities(data.features[test].astype(np.float32)).argmax(1) == data.labels[test]
                    accuracy.append(float(right.mean()))
                    if strategy == "ours" and count >= 30 and count % 20 == 10:
                        rest = np.setdiff1d(np.arange(len(pool)), list(session.labelled))
                        found = learned.probabilities(session.features[rest]).argmax(1) == data.labels[pool[rest]]
                        told = session.estimate()
                        looks.append([count, float(found.mean()), told.accuracy, *told.interval, told.images])
                row = {"set": name, "seed": seed, "strategy": strategy, "accuracy": accuracy, "looks": looks}
                with out.open("a") as file:
                    file.write(json.dumps(row | {"seconds": time.perf_counter() - started}) + "\n")


def cold(folder: Path, seeds: range) -> None:
    for name in ("isic2018", "rsscn7_aerial_scenes"):
        data = Set.load(folder, name)
        needed: dict[str, list[int]] = {"random": [], "ours": []}
        for seed in seeds:
            pool, _ = data.split(seed, 1.0, 20.0)
            for strategy, counts in needed.items():
                seen: list[int] = []
                for session in simulate(data, pool, strategy, seed, len(pool)):
                    seen = [label for label, _ in session.labelled.values()]
                    if len(set(seen)) == data.classes:
                        break
                counts.append(1 + max(seen.index(label) for label in set(seen)))
        ours, random = (np.array(needed[key]) for key in ("ours", "random"))
        gain = random - ours
        half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        print(
            f"{name}: all {data.classes} classes after {ours.mean():.0f} labels, random {random.mean():.0f}, "
            f"difference {gain.mean():.1f} ± {half:.1f}; medians {np.median(ours):.0f} and {np.median(random):.0f}"
        )


def adapt(source: Path, folder: Path, sets: Sequence[str], seeds: range, labels: int = 80, asked: int = 200) -> None:
    """What a round of full fits says, whether it takes over, and whether it is better on photos whose labels it is not
    told."""
    from atha.data.sources.cdfsl import benchmarks
    from atha.labelling.contest import Adapted
    from atha.labelling.fitting import Round, fit_and_ask
    from atha.prompts import clean_class_name

    for seed in seeds:
        for name in sets:
            data, folders = Set.load(folder, name), sorted(path for path in (source / name).iterdir() if path.is_dir())
            pool, _ = data.split(seed, 0.6)
            every = [str(file) for path in folders for file in sorted(path.iterdir())]
            files = [every[place] for place in pool]
            *_, session = simulate(data, pool, "ours", seed, labels)
            texts = benchmarks()[name].texts if name in benchmarks() else {}
            named = {path.name: texts.get(path.name, clean_class_name(path.name)) for path in folders}
            questions = session.questions(asked)
            open_ = list(questions.asked)
            started = time.perf_counter()
            rows = fit_and_ask(
                Round(
                    model="nano", recipe="auto", device="cpu", threads=2, max_pixels=10**9, seed=seed,
                    classes=list(named), texts=named, files=[files[place] for place in questions.places],
                    labels=questions.labels, held=questions.held, asked=[files[place] for place in open_],
                )
            )  # fmt: skip
            seconds = time.perf_counter() - started
            truth, model = data.labels[pool[open_]], session.model
            assert model is not None
            probes = (model.probabilities(session.features[open_]).argmax(1) == truth).mean()
            better = (rows[-len(open_) :].argmax(1) == truth).mean()
            before = session.estimate()
            session.adapted = Adapted("auto", labels, np.array(questions.answered), rows)
            session.estimate()
            after = session.adapted_looks[-1].estimate
            print(
                f"{name}, seed {seed}: probes {100 * probes:.1f}%, estimated {before}; adapted {100 * better:.1f}%, "
                f"estimated {after}; {seconds:.0f} s. {session.verdict}",
                flush=True,
            )


def show(file: Path) -> None:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    steps = np.arange(STEP, MOST + 1, STEP)
    shares = []
    for name in dict.fromkeys(row["set"] for row in rows):
        found = {
            strategy: np.array([row["accuracy"] for row in rows if (row["set"], row["strategy"]) == (name, strategy)])
            for strategy in ("random", "uncertainty", "ours")
        }
        common = min(map(len, found.values()))  # of a run that was stopped
        found = {strategy: values[:common] for strategy, values in found.items()}
        at = [place for place in (1, 2, 4, 6, 9, 14) if place < found["ours"].shape[1]]
        print(f"\n{name}, {len(found['ours'])} seeds; labels: {', '.join(str(steps[place]) for place in at)}")
        for strategy, values in found.items():
            print(f"  {strategy:12}", *(f"{100 * values[:, place].mean():5.1f}" for place in at))
        for strategy in ("random", "uncertainty"):
            gain = 100 * (found["ours"] - found[strategy])
            half = 1.96 * gain.std(0, ddof=1) / np.sqrt(len(gain))
            print(f"  ours - {strategy:7}", *(f"{gain[:, p].mean():+.1f}±{half[p]:.1f}" for p in at))
        place = min(9, len(found["ours"][0]) - 1)
        need = {}
        for strategy in ("uncertainty", "ours"):
            curve = np.maximum.accumulate(found[strategy].mean(0))
            goal = found["random"].mean(0)[place]
            need[strategy] = float(np.interp(goal, curve, steps[: len(curve)])) if curve[-1] >= goal else np.inf
        shares.append(need["ours"] / steps[place])
        print(f"  labels for random's accuracy at {steps[place]}:", need)
    print(f"\nmean share of random's labels: {np.mean(shares):.2f}")
    looks: dict[str, list[Any]] = {row["set"]: [] for row in rows}
    for row in rows:
        looks[row["set"]] += row["looks"]
    for name, one in [*looks.items(), ("all", [look for some in looks.values() for look in some])]:
        if one:
            count, truth, told, low, high, _ = np.array(one).T
            inside, width = (low <= truth) & (truth <= high), high - low
            print(
                f"{name}: {len(one)} looks, {100 * inside.mean():.0f}% inside, off by "
                f"{100 * (told - truth).mean():+.1f} points, width "
                f"{100 * width[count < 70].mean():.0f} points below 70 labels, "
                f"{100 * width[count >= 70].mean():.0f} from there"
            )


def size(count: int = 50_000, width: int = 512) -> None:
    from atha.machine import peak_memory, reset_peak

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, width))
    texts = Texts(unit(rng.normal(size=(10, width))), 20.0)
    session = Session([str(one) for one in range(10)], texts, count)
    truth = rng.integers(10, size=count)
    for start in range(0, count, 1000):
        places = range(start, min(start + 1000, count))
        session.add_features(places, centres[truth[places]] + 3 * rng.normal(size=(len(places), width)))
    before = peak_memory()
    reset_peak()
    for label in (0, 20, 200):
        while len(session.labelled) < label:
            for pick in session.next(min(20, label - len(session.labelled))):
                session.label(pick.place, int(truth[pick.place]), pick.how)
        took = []
        for work in (lambda: session.model, lambda: session.next(20), session.estimate):
            started = time.process_time()
            work()
            took.append(time.process_time() - started)
        print("{} labels: refit {:.2f} s, choice of 20 {:.2f} s, estimate {:.2f} s of a core".format(label, *took))
    print(f"peak memory {(peak_memory() or 0) / 1e9:.2f} GB, {(before or 0) / 1e9:.2f} GB with the features alone")


def features(source: Path, out: Path) -> None:
    import torch

    from atha.backbones import load_backbone
    from atha.data.aspects import ASPECTS as VIEWS
    from atha.data.sources.cdfsl import benchmarks
    from atha.data.views import Views
    from atha.models.frozen import Frozen
    from atha.prompts import clean_class_name
    from atha.recipe import Recipe

    recipe, backbone = Recipe.load("probes"), load_backbone("nano")
    views = Views(backbone.image_processor, backbone.image_size, recipe.views.transform)
    frozen = Frozen(backbone, "float32")
    out.mkdir(parents=True, exist_ok=True)

    def keep(name: str, images: Sequence[Image.Image], labels: Sequence[int], texts: Sequence[str]) -> None:
        plain = torch.stack([views.plain(image) for image in images])
        made: dict[str, Any] = {
            aspect: np.concatenate([frozen.features(VIEWS[aspect](part), views) for part in plain.split(64)])
            for aspect in ASPECTS
        }
        made |= {"labels": np.array(labels), "texts": frozen.text_features(texts, recipe.prompt.template)}
        np.savez(out / f"{name}.npz", scale=frozen.logit_scale, **made)

    def folders(root: Path, chosen: Sequence[int] | None = None) -> tuple[list[Image.Image], list[int], list[str]]:
        there = sorted(path for path in root.iterdir() if path.is_dir())
        there = there if chosen is None else [there[place] for place in chosen]
        texts = benchmarks()[root.name].texts if root.name in benchmarks() else {}
        files = [(file, label) for label, path in enumerate(there) for file in sorted(path.iterdir())]
        names = [texts.get(path.name, clean_class_name(path.name)) for path in there]
        return [Image.open(file).convert("RGB") for file, _ in files], [label for _, label in files], names

    for name in FOLDERS:
        keep(name, *folders(source / name))
    shown, numbers = zip(*digits(), strict=True)
    keep("digits", shown, numbers, [f"digit {word}" for word in DIGITS])
    some = np.sort(np.random.default_rng(0).permutation(200)[:20]).tolist()
    images, labels, names = folders(source / "tiny_imagenet_val", some)
    for name, change in TINY.items():
        keep(name, [change(image) for image in images], labels, names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(PATHS))
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--sets", nargs="+", default=LABELLED)
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 20))
    options = parser.parse_args()
    paths, seeds = options.paths, range(*options.seeds)
    if len(paths) != PATHS[options.what]:
        parser.error(f"{options.what} takes {PATHS[options.what]} paths and {len(paths)} are given: see above")
    with threadpool_limits(1):
        if options.what == "features":
            features(paths[0], paths[1])
        elif options.what == "curves":
            curves(paths[0], paths[1], options.sets, seeds)
        elif options.what == "cold":
            cold(paths[0], seeds)
        elif options.what == "adapt":
            adapt(paths[0], paths[1], options.sets, seeds)
        elif options.what == "show":
            show(paths[0])
        else:
            size()


if __name__ == "__main__":
    main()
