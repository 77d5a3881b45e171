"""The study of the tail: the paper's finding as an experiment on anyone's data.

Two parts. Accuracy: variants of one recipe on the same episodes, run and kept as a benchmark is. Inside: on the first
few of these episodes, what each kind of adaptation does to similarities, feature spaces, gaps and strengths.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from atha.backbones import Backbone, load_backbone
from atha.bench.compare import Comparison, compare
from atha.bench.plan import Plan, Setting, make_plan
from atha.bench.report import Arena, arenas
from atha.bench.runner import Executor, Watcher, run_plan
from atha.bench.store import Store
from atha.data.cache import Cache
from atha.data.digests import digests
from atha.data.pool import Pool
from atha.episodes import EpisodeSet, draw_episodes
from atha.errors import DataError
from atha.files import write_whole
from atha.methods import Options
from atha.methods.tuned import Tuned
from atha.models.frozen import FrozenModel
from atha.recipe import Precision, Recipe
from atha.statistics import Mean, mean_interval, t_interval
from atha.study.inside import PRETRAINED, Draw, inside, remembered
from atha.study.variants import NONE, Series, Variant, states, variants

Sources = Sequence[tuple[Pool, EpisodeSet]]
#: Episodes of a setting below which its accuracy says little of small effects.
FEW_EPISODES, FEW_INSIDE = 40, 5


@dataclass(frozen=True)
class Design:
    """What the study tries.

    Attributes:
        base: a recipe with alignment.
        pushes: fixed strengths of the tail push.
        ratios: shares of the tokens to push.
        strength: of the push on the axis of ratios.
        inside: episodes of each data set to look inside of.
    """

    base: Recipe
    pushes: tuple[float, ...] = (-0.3, -0.1, 0.1, 0.3)
    ratios: tuple[float, ...] = (0.1, 0.3, 1.0)
    strength: float = 0.1
    inside: int = 5

    @property
    def variants(self) -> list[Variant]:
        """The settings of the accuracy part."""
        return variants(self.base, self.pushes, self.ratios, self.strength)

    @property
    def states(self) -> list[Variant]:
        """The adaptations that are looked into."""
        return states(self.base)


@dataclass(frozen=True)
class Point:
    """One variant on one data set.

    Attributes:
        variant: which.
        accuracy: over its episodes.
        difference: to doing nothing, on the same episodes; None for doing nothing itself.
    """

    variant: Variant
    accuracy: Mean
    difference: Comparison | None


@dataclass
class Found:
    """What the study found on one data set.

    Attributes:
        title: of the data set and its episodes.
        dataset: its name.
        points: of the accuracy part.
        inside: state -> one measurement per episode, see `atha.study.inside.inside`.
        with_source: whether there were source images.
    """

    title: str
    dataset: str
    points: list[Point]
    inside: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    with_source: bool = False

    def series(self, name: Series) -> list[tuple[float, Point]]:
        """The points on one axis, in its order."""
        return sorted(
            ((one.variant.x[name], one) for one in self.points if name in one.variant.x), key=lambda pair: pair[0]
        )

    def values(self, state: str, *keys: str) -> np.ndarray:
        """One number of each episode's measurement."""
        rows = []
        for row in self.inside.get(state, []):
            value: Any = row
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            rows.append(np.nan if value is None else float(value))
        return np.array(rows)

    def mean(self, state: str, *keys: str) -> Mean:
        """Its mean over episodes with the interval by Student's t: they are few."""
        values = self.values(state, *keys)
        return t_interval(values[np.isfinite(values)])


def prepare(
    design: Design,
    sources: Sources,
    model: str,
    folder: Path,
    *,
    revision: str | None = None,
    transform: Any = "cdfsl",
    precision: Precision = "auto",
    device: str = "auto",
    threads: int = 1,
    together: int = 1,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Plan, Backbone]:
    """Write the variants' recipes into ``folder/recipes`` and plan the accuracy part; see `make_plan`.

    Raises:
        AthaError: a part of the plan cannot be used. Of a model without tokens, before anything is written.
    """
    tried = design.variants
    backbone = load_backbone(model, revision)
    for variant in tried:
        if alignment := variant.recipe.alignment:
            backbone.check_alignable(growing=not alignment.keep_cls_out)
    names = []
    for variant in tried:
        path = folder / "recipes" / f"{variant.slug}.json"
        write_whole(path, variant.recipe.model_dump_json(indent=2) + "\n", overwrite=True)
        names.append(f"atha:{path}")
    return make_plan(
        sources, names, model, revision=revision, options=Options(transform), precision=precision, device=device,
        threads=threads, together=together, cache=cache, progress=progress, backbone=backbone,
    )  # fmt: skip


def run_accuracy(
    design: Design, plan: Plan, store: Path, executor: Executor, watcher: Watcher | None = None
) -> list[Found]:
    """Run what the store does not have, and read off the points.

    Raises:
        AthaError: see `run_plan`.
    """
    with Store(store, create=True) as results:
        run_plan(plan, results, executor, watcher=watcher)
    with Store(store) as results:
        every = {one.hash: one for one in results.experiments()}
    return [
        _found(design, setting, [every.get(one) for one in row])
        for setting, row in zip(plan.settings, plan.experiments, strict=True)
    ]


def _found(design: Design, setting: Setting, experiments: Sequence[Any]) -> Found:
    wanted = {episode.index for episode in setting.episodes.episodes}
    kept = [_cut(one, wanted) for one in experiments if one is not None]
    (arena,) = arenas(kept)
    labels = {one.hash: label for label, one in arena.experiments.items()}
    chosen = dict(zip((one.name for one in design.variants), experiments, strict=True))
    base = labels[chosen[NONE].hash] if chosen[NONE] is not None else None
    if base is None:
        raise DataError(f"there is no result without alignment on {setting.pool.name} yet: run the study again")
    differences = {one.label: one for one in _compared(arena, base)}
    points = []
    for variant in design.variants:
        one = chosen[variant.name]
        if one is not None:
            label = labels[one.hash]
            values = arena.experiments[label].accuracy
            points.append(Point(variant, mean_interval(values), differences.get(label)))
    return Found(arena.title, setting.pool.name, points)


def _compared(arena: Arena, base: str) -> list[Comparison]:
    return compare([arena], base) if len(arena.experiments) > 1 else []


def _cut(one: Any, wanted: set[int]) -> Any:
    """An experiment's results on the episodes of this study: its store may hold more."""
    from dataclasses import replace

    keep = np.array([index in wanted for index in one.episodes.tolist()])
    fields = ("episodes", "accuracy", "brier", "classes", "correct", "seconds", "memory")
    rows = {name: getattr(one, name)[keep] for name in fields}
    hashes = tuple(value for value, kept in zip(one.hashes, keep, strict=True) if kept)
    return replace(one, hashes=hashes, **rows)


def source_episodes(pool: Pool, sources: Sources) -> list[EpisodeSet]:
    """For each data set's episodes as many of the source's, of the same size where it has enough images and classes.

    Raises:
        DataError: the source has fewer than two classes, or than three images in a class.
    """
    least = min(pool.counts.values())
    if len(pool.classes) < 2 or least < 3:
        raise DataError(
            f"the source {pool.name} has {len(pool.classes)} classes and {least} images in the smallest: "
            "give at least 2 classes of 3 images"
        )
    return [
        draw_episodes(
            pool, min(drawn.spec.way, len(pool.classes)), 1, min(drawn.spec.query, least - 1), len(drawn.episodes),
            drawn.spec.seed,
        )
        for _, drawn in sources
    ]  # fmt: skip


def look_inside(
    design: Design,
    found: Sequence[Found],
    plan: Plan,
    backbone: Backbone,
    source: Pool | None,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Measure the states on the first episodes of each data set; what was measured before is read from ``folder``.

    Args:
        design: what to try.
        found: gets the measurements, in the order of the plan's settings.
        plan: of `prepare`.
        backbone: the plan's.
        source: images like those of pre-training; None leaves out what needs them.
        folder: for a small file per measurement.
        progress: called with (measurements done, in all).

    Raises:
        AthaError: an image cannot be read, training fails, or a file cannot be written.
    """
    store = Cache(plan.cache, plan.cache_limit)
    frozen = FrozenModel(backbone, plan.options.transform, plan.options.precision, store)
    sources = [(setting.pool, setting.episodes) for setting in plan.settings]
    drawn = source_episodes(source, sources) if source is not None else []
    content = tuple(digests(source.files, store)) if source is not None else ()
    todo = sum(min(design.inside, len(one.episodes.episodes)) for one in plan.settings) * (len(design.states) + 1)
    done = 0
    try:
        for number, (setting, result) in enumerate(zip(plan.settings, found, strict=True)):
            result.with_source = source is not None
            other = Setting(source, drawn[number], content) if source is not None else None
            for index in range(min(design.inside, len(setting.episodes.episodes))):
                target = Draw(setting, setting.episodes.episodes[index])
                origin = Draw(other, other.episodes.episodes[index]) if other is not None else None
                for name, method, adapted in _looks(design, folder.parent / "recipes", plan.options):
                    definition = {
                        "state": method.definition(),
                        "adapted": adapted,
                        "target": [setting.definition(), target.episode.hash],
                        "source": [other.definition(), origin.episode.hash] if other and origin else None,
                        "backbone": plan.definitions[0][0]["backbone"],
                        "transform": plan.options.transform,
                    }

                    def measure(
                        method: Tuned = method, target: Draw = target, origin: Draw | None = origin, on: bool = adapted
                    ) -> dict[str, Any]:
                        with threadpool_limits(max(plan.threads, torch.get_num_threads())):
                            return inside(frozen, method, target, origin, on)

                    values, _ = remembered(folder, definition, measure)
                    result.inside.setdefault(name, []).append(values)
                    done += 1
                    if progress is not None:
                        progress(done, todo)
    finally:
        store.close()


def _looks(design: Design, recipes: Path, options: Options) -> list[tuple[str, Tuned, bool]]:
    made = []
    for variant in design.states:
        path = recipes / f"{variant.slug}.json"
        write_whole(path, variant.recipe.model_dump_json(indent=2) + "\n", overwrite=True)
        made.append((variant.name, Tuned(str(path), options), True))
    return [(PRETRAINED, made[-1][1], False), *made]


def to_dict(design: Design, found: Sequence[Found]) -> dict[str, Any]:
    """All figures of a study in plain types, for JSON."""
    return {
        "recipe": design.base.model_dump(mode="json"),
        "strengths_of_variants": "fixed, the same at every block, never learned; the recipe itself learns its own",
        "data": [
            {
                "dataset": one.dataset,
                "setting": one.title,
                "accuracy": [_point(point) for point in one.points],
                "inside": one.inside,
                "source_images": one.with_source,
            }
            for one in found
        ],
    }


def _point(point: Point) -> dict[str, Any]:
    values = {
        "variant": point.variant.name,
        "axes": point.variant.x,
        "alignment": point.variant.recipe.model_dump(mode="json")["alignment"],
        "episodes": point.accuracy.n,
        "accuracy": point.accuracy.mean,
        "half_width95": point.accuracy.half,
    }
    return values | ({"against_no_alignment": point.difference.to_dict()} if point.difference else {})
