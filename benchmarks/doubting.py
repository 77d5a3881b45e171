"""What is promised of unknown images, of sets of labels and of audits, measured on images whose labels are known.

    python benchmarks/doubting.py unknown FEATURES   # each class left out once: AUROC; false rejections
    python benchmarks/doubting.py sets FEATURES      # coverage and size of sets for 90%
    python benchmarks/doubting.py audit FEATURES     # 5% of labels flipped: how many of the first N are flipped
    python benchmarks/doubting.py copies DATA        # planted near copies

FEATURES is made by `benchmarks/labelling.py features`. `audit` also runs cleanlab where it is installed. `--sets`,
`--seeds FIRST LAST`.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.optimize  # noqa: F401 - its threads are limited, too
import sklearn.cluster  # noqa: F401 - the same
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from atha.auditing.doubtful import ask
from atha.conformal import label_sets, rejection_threshold
from atha.doubt import held_out_strangeness, misfits_of, strangeness
from atha.labelling.model import Texts, fit_model
from atha.methods.automatic import fit_on_features
from atha.methods.examples import Examples
from atha.methods.scores import OnFeatures
from atha.recipe import Recipe
from atha.rejection import Rejection
from labelling import Set

SETS = ("isic2018", "rsscn7_aerial_scenes", "corn_leaf_disease", "digits")
#: Query images of an episode, at most.
_QUERIES = 400
_FLIPPED, _FOLDS = 0.05, 5


def draw(data: Set, shot: int, kept: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of support images of some classes, and of other images of all."""
    rng = np.random.default_rng([seed, shot, len(kept), int(np.sum(kept))])
    support = np.concatenate([rng.permutation(np.flatnonzero(data.labels == label))[:shot] for label in kept])
    rest = rng.permutation(np.setdiff1d(np.arange(len(data.labels)), support))
    return support, rest[:_QUERIES]


def half(values: Sequence[float]) -> float:
    return float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))


def unknown(folder: Path, sets: Sequence[str], seeds: range) -> None:
    for name in sets:
        data = Set.load(folder, name)
        for shot in (5, 10):
            found: dict[str, list[float]] = {"ours": [], "maximum probability": [], "nearest neighbour": []}
            rejected: dict[float, list[float]] = {0.05: [], 0.1: []}
            for seed in seeds:
                for left in range(data.classes):
                    kept = [label for label in range(data.classes) if label != left]
                    support, rest = draw(data, shot, kept, seed)
                    rows, labels = data.features[support], np.searchsorted(kept, data.labels[support])
                    others, strange = data.features[rest], data.labels[rest] == left
                    texts = Texts(data.texts.features[kept], data.texts.scale)
                    chances = fit_model(rows, labels, texts, seed).probabilities(others.astype(np.float32))
                    scores = strangeness(rows, labels, seed).score(others)
                    for key, score in (
                        ("ours", scores),
                        ("maximum probability", 1 - chances.max(1)),
                        ("nearest neighbour", 1 - (others @ rows.T).max(1)),
                    ):
                        found[key].append(Rejection(score[~strange], score[strange], np.inf, 0.05).auroc)
                    held_out = held_out_strangeness(rows, labels, seed)
                    for rate, shares in rejected.items():
                        shares.append(float((scores[~strange] > rejection_threshold(held_out, rate)).mean()))
            told = ", ".join(f"{key} {100 * np.mean(one):.1f} ± {100 * half(one):.1f}" for key, one in found.items())
            gains = [
                (100 * np.mean(gain), 100 * half(gain.tolist()))
                for key in list(found)[1:]
                if len(gain := np.array(found["ours"]) - np.array(found[key]))
            ]
            false = ", ".join(f"{100 * np.mean(one):.1f}% for {100 * rate:g}%" for rate, one in rejected.items())
            print(f"{name}, {shot} shots: AUROC {told}; ours minus each", end=" ")
            print(", ".join(f"{mean:+.1f} ± {wide:.1f}" for mean, wide in gains) + f"; false rejections {false}")


def label_set_sizes(folder: Path, sets: Sequence[str], seeds: range) -> None:
    blend = Recipe.load("probes").blend
    assert blend is not None
    for name in sets:
        data = Set.load(folder, name)
        for shot in (5, 10):
            held, sizes, right = [], [], []
            for seed in seeds:
                support, _ = draw(data, shot, range(data.classes), seed)
                rest = np.setdiff1d(np.arange(len(data.labels)), support)
                rows, labels, truth = data.features[support], data.labels[support], data.labels[rest]
                fitted = fit_on_features(blend, Examples(rows, labels, data.texts.features, data.texts.scale), seed)
                scores = sum(
                    part.weight / part.scale * (own - own.mean(1, keepdims=True))
                    for part in fitted.parts.values()
                    if isinstance(part.fitted, OnFeatures)
                    for own in [part.fitted.score(data.features[rest])]
                )
                found = label_sets(np.asarray(scores), misfits_of(fitted, labels), 0.9)
                inside = found[np.arange(len(rest)), truth]
                # Each class counts the same, as in the support set.
                held.append(float(np.mean([inside[truth == label].mean() for label in range(data.classes)])))
                right.append(float((np.asarray(scores).argmax(1) == truth).mean()))
                sizes.append(float(found.sum(1).mean()))
            print(
                f"{name}, {shot} shots, {data.classes} classes: coverage {100 * np.mean(held):.1f} ± "
                f"{100 * half(held):.1f}%, {np.mean(sizes):.2f} labels, accuracy {100 * np.mean(right):.1f}%"
            )


def audit(folder: Path, sets: Sequence[str], seeds: range) -> None:
    try:
        from cleanlab.rank import get_label_quality_scores  # type: ignore[import-not-found]
    except ImportError:
        get_label_quality_scores = None
        print("cleanlab is not installed")
    for name in sets:
        data = Set.load(folder, name)
        ours: list[float] = []
        listed: list[tuple[float, float]] = []
        theirs: dict[str, list[float]] = {"self confidence": [], "normalised margin": []}
        for seed in seeds:
            rng = np.random.default_rng(seed)
            some = rng.permutation(len(data.labels))[:900]
            rows, labels = data.features[some], data.labels[some].copy()
            flipped = np.zeros(len(some), dtype=bool)
            flipped[rng.choice(len(some), round(_FLIPPED * len(some)), replace=False)] = True
            labels[flipped] = (labels[flipped] + rng.integers(1, data.classes, flipped.sum())) % data.classes
            count = int(flipped.sum())
            answers = ask(rows, labels, np.arange(len(some)), data.texts, seed)
            ranked = [place for place, _ in answers.doubtful(labels)]
            ours.append(float(flipped[ranked[:count]].sum() / count))
            listed.append((len(ranked) / count, float(flipped[ranked].sum() / count)))
            if get_label_quality_scores is not None:
                chances = _logistic(rows, labels, data.classes, seed)
                for key, method in (("self confidence", "self_confidence"), ("normalised margin", "normalized_margin")):
                    order = np.argsort(get_label_quality_scores(labels, chances, method=method), kind="stable")
                    theirs[key].append(float(flipped[order[:count]].mean()))
        told = ", ".join(f"cleanlab, {key} {100 * np.mean(one):.0f}%" for key, one in theirs.items() if one)
        print(
            f"{name}: of the first N, N flipped: ours {100 * np.mean(ours):.0f} ± {100 * half(ours):.0f}% (precision "
            f"and recall), {told}; our whole list is {np.mean([a for a, _ in listed]):.1f} N long and has "
            f"{100 * np.mean([b for _, b in listed]):.0f}% of them"
        )


def _logistic(rows: np.ndarray, labels: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Held-out probabilities of a logistic regression, which cleanlab's examples give it."""
    found, fold = np.zeros((len(rows), classes)), np.random.default_rng(seed).permutation(len(rows)) % _FOLDS
    for number in range(_FOLDS):
        out = fold == number
        scaler = StandardScaler().fit(rows[~out])
        model = LogisticRegression(max_iter=300, C=0.1).fit(scaler.transform(rows[~out]), labels[~out])
        found[np.ix_(out, model.classes_)] = model.predict_proba(scaler.transform(rows[out]))
    return found


def copies(source: Path) -> None:
    from atha.data.duplicates import find_duplicates
    from atha.data.pool import Pool

    rng = np.random.default_rng(0)
    files = sorted((source / "rsscn7_aerial_scenes").glob("*/*"))[::2]
    with tempfile.TemporaryDirectory() as folder:
        planted = {}
        for number, place in enumerate(rng.choice(len(files), 40, replace=False)):
            image = Image.open(files[place]).convert("RGB")
            changed = (
                image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                if number % 4 == 0
                else image.resize((image.width * 2 // 3, image.height * 2 // 3))
                if number % 4 == 1
                else image.rotate(90, expand=True)
                if number % 4 == 2
                else image.point([min(255, int(1.15 * value)) for value in range(256)] * 3)
            )
            copy = Path(folder) / f"{number}.jpg"
            changed.save(copy, quality=70)
            planted[str(copy)] = str(files[place])
        every = [str(file) for file in files] + list(planted)
        pool = Pool("planted", tuple(every), tuple(map(Path, every)), ("a",) * len(every), {"a": "a"}, "", "")
        found = find_duplicates(pool).near
    together = sum(any({copy, whole} <= set(group.ids) for group in found) for copy, whole in planted.items())
    others = sum(not set(group.ids) & planted.keys() for group in found)
    print(f"{together} of {len(planted)} planted near copies found among {len(every)}; {others} other groups")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["unknown", "sets", "audit", "copies"])
    parser.add_argument("path", type=Path)
    parser.add_argument(
        "--sets", nargs="+", default=["isic2018", "rsscn7_aerial_scenes", "corn_leaf_disease", "digits"]
    )
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 20))
    options = parser.parse_args()
    with threadpool_limits(1):
        if options.what == "copies":
            copies(options.path)
        else:
            run = {"unknown": unknown, "sets": label_set_sizes, "audit": audit}[options.what]
            run(options.path, options.sets, range(*options.seeds))


if __name__ == "__main__":
    main()
