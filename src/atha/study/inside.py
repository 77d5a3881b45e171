"""What an adaptation does inside a model, on one episode: similarities, feature spaces, gaps, strengths.

Shapes: n support, m query and s source images, L patches, N classes, K vision blocks, T recorded steps.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.bench.plan import Setting
from atha.bench.results import definition_hash
from atha.episodes import Episode
from atha.errors import DataError
from atha.explain import UNALIGNED, Watch
from atha.files import write_whole
from atha.methods import FileImages, Images, Support
from atha.methods.tuned import FittedRecipe, Tuned, squeezes, train_recipe
from atha.models.encoder import ClassTexts, cosine
from atha.models.forms import prediction_encoder
from atha.models.frozen import FrozenModel
from atha.models.inference import in_groups
from atha.models.training import Observer, TrainingStep
from atha.recipe import Recipe
from atha.study.features import domain_cka, linear_cka, modality_gap, sorted_similarity
from atha.texts import LISTS, read_json
from atha.tuners import Tuners

#: Of what is measured and how; a change of either changes this number.
VERSION = 1
PRETRAINED = "pre-trained"
# Steps between two records of the strengths.
_EVERY = 5


@dataclass(frozen=True)
class Draw:
    """An episode of a data set, with its images."""

    setting: Setting
    episode: Episode

    def images(self, frozen: FrozenModel, query: bool) -> Images:
        """Its query images, or its support images, class by class."""
        side = self.episode.query if query else self.episode.support
        return FileImages([self.setting.files[name] for row in side for name in row], frozen)

    @property
    def texts(self) -> tuple[str, ...]:
        """Of its classes."""
        return tuple(self.setting.pool.texts[label] for label in self.episode.classes)

    def labels(self, query: bool) -> np.ndarray:
        """Class index of each image."""
        side = self.episode.query if query else self.episode.support
        return np.repeat(np.arange(len(side)), [len(row) for row in side])


def inside(
    frozen: FrozenModel, method: Tuned, target: Draw, source: Draw | None, adapted: bool = True
) -> dict[str, Any]:
    """Adapt to an episode's support images and measure.

    Args:
        frozen: the backbone.
        method: the recipe.
        target: what is learned and classified.
        source: images like those of pre-training, each compared with the texts of its own episode's classes.
        adapted: False measures the model as it was before.

    Returns:
        Plain values: ``curves`` (sorted similarity of patches at each block), ``cka``, ``accuracy`` and ``loss`` on
        support and query images, ``gap``, and ``strengths`` over training.
    """
    history: list[list[list[float]]] = []
    fitted: FittedRecipe | None = None
    if adapted:
        asked = Support(
            target.images(frozen, query=False), target.labels(False), target.texts, method.template, target.episode.seed
        )
        fitted = train_recipe(method.recipe, asked, _recorder(history))
    found = _measure(_Look(frozen, method.recipe, fitted, target), target, source)
    if adapted and source is not None:
        found["cka"] |= _kept(frozen, found.pop("_features"), target, source)
    found.pop("_features", None)
    return found | {"strengths": _columns(history)}


class _Look:
    """Runs images through a model in one state, and keeps similarities and features."""

    def __init__(self, frozen: FrozenModel, recipe: Recipe, fitted: FittedRecipe | None, target: Draw) -> None:
        self.frozen, self.recipe = frozen, recipe
        precision = recipe.training.precision
        self._encoder = prediction_encoder(frozen.backbone, precision) if fitted is None else fitted.encoder
        self._names = target.texts
        self.texts = self._texts(target.texts) if fitted is None else fitted.adaptation.texts
        self.scale = recipe.training.resolve_logit_scale(max(len(row) for row in target.episode.support))

    def _texts(self, names: tuple[str, ...], kind: Literal["adjoint", "inverse"] | None = None) -> ClassTexts:
        prompts = self.frozen.backbone.prompts(names, self.recipe.prompt.template)
        with torch.no_grad():
            return self._encoder.texts(prompts, kind)

    def __call__(self, images: Images, names: tuple[str, ...] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, E), and similarities (K, n, L, N) to the texts of ``names``, by default the task's own."""
        backbone, settings = self.frozen.backbone, self.recipe.alignment
        kind, head, tail = (settings.anchors, settings.head_ratio, settings.tail_ratio) if settings else UNALIGNED
        squeeze = squeezes(self.recipe)
        views, anchors = images.views(squeeze), self._texts(names or self._names, kind).anchors
        assert anchors is not None
        patches = backbone.grid[0] * backbone.grid[1]

        def work(pixels: Float[Tensor, "B 3 H W"]) -> Tensor:
            watch = Watch(anchors, head, tail, backbone.prefix_tokens, own=names is None)
            features = self._encoder.images(pixels, self.texts.anchors, watch).float()
            scores = [watch.steps[block].selection.similarity[:, -patches:] for block in sorted(watch.steps)]
            return torch.cat([features, torch.stack(scores, 1).float().flatten(1)], dim=1)

        found = in_groups(images.plain(squeeze), views, self._encoder, work)
        features, scores = found[:, : backbone.joint_width], found[:, backbone.joint_width :]
        shape = (len(backbone.vision_blocks), patches, len(anchors))
        return features.numpy(), scores.unflatten(1, shape).transpose(0, 1).numpy()

    def score(self, features: Float[np.ndarray, "n E"], labels: np.ndarray) -> tuple[float, float]:
        """Accuracy and loss, with the recipe's logit scale."""
        logits = self.scale * cosine(torch.from_numpy(features), self.texts.features.cpu())
        truth = torch.from_numpy(labels)
        return float((logits.argmax(1) == truth).double().mean()), float(nn.functional.cross_entropy(logits, truth))


def _measure(look: _Look, target: Draw, source: Draw | None) -> dict[str, Any]:
    sides: dict[str, tuple[float, float]] = {}
    features: dict[str, np.ndarray] = {}
    curves: dict[str, list[list[float]]] = {}
    for side in ("support", "query"):
        found, similarity = look(target.images(look.frozen, side == "query"))
        sides[side] = look.score(found, target.labels(side == "query"))
        features[side] = found
        curves["target" if side == "query" else "support"] = [sorted_similarity(one).tolist() for one in similarity]
    cka: dict[str, float] = {}
    if source is not None:
        images = source.images(look.frozen, query=True)
        features["source"], _ = look(images)
        _, similarity = look(images, source.texts)
        curves["source"] = [sorted_similarity(one).tolist() for one in similarity]
        cka["source and target"] = domain_cka(features["source"], features["query"])
        for name, key in (("two halves of the source", "source"), ("two halves of the target", "query")):
            cka[name] = domain_cka(features[key][::2], features[key][1::2])
    return {
        "curves": curves,
        "cka": _finite(cka),
        "accuracy": {side: values[0] for side, values in sides.items()},
        "loss": {side: values[1] for side, values in sides.items()},
        "gap": modality_gap(features["query"], look.texts.features.cpu().numpy()),
        "_features": features,
    }


def _kept(frozen: FrozenModel, features: dict[str, np.ndarray], target: Draw, source: Draw) -> dict[str, float | None]:
    """How much of the pre-trained features is left, on the same images."""
    before = {"query": target.images(frozen, True).features, "source": source.images(frozen, True).features}
    names = {"source": "before and after, source", "query": "before and after, target"}
    return _finite({name: linear_cka(before[key], features[key]) for key, name in names.items()})


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """Features that are constant have no CKA, and JSON has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _recorder(history: list[list[list[float]]]) -> Observer:
    def record(now: TrainingStep, tuners: Sequence[Tuners]) -> None:
        strengths = tuners[0].strengths
        if strengths is not None and (now.step == 1 or now.step % _EVERY == 0 or now.step == now.steps):
            alignment = strengths.alignment
            history.append([[float(now.step)], alignment.pull.tolist(), alignment.push.tolist()])

    return record


def _columns(history: list[list[list[float]]]) -> dict[str, Any]:
    return {
        "step": [int(row[0][0]) for row in history],
        "pull": [row[1] for row in history],
        "push": [row[2] for row in history],
    }


def remembered(
    folder: Path, definition: dict[str, Any], make: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """A measurement from its file, or made and written to it; and whether it was there.

    Raises:
        DataError: the file cannot be read as what it should be, or not be written.
    """
    key = definition_hash({"version": VERSION, **definition})
    path = folder / f"{key[:24]}.json"
    if path.exists():
        try:
            kept = read_json(path, LISTS)
            if kept["definition"] == key:
                return dict(kept["found"]), True
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path} cannot be read: delete it, and it is made again") from None
        raise DataError(f"{path} holds another measurement than its name says: delete it, and it is made again")
    found = make()
    write_whole(path, json.dumps({"definition": key, "found": found}))
    return found, False
