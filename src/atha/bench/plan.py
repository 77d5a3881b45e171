"""What a run is to do: data sets with their episodes, methods, a backbone, and the experiments that these make."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from atha.backbones import Backbone, load_backbone
from atha.bench.results import definition_hash
from atha.data.cache import Cache
from atha.data.deciding import decide_reading_of_files
from atha.data.digests import combined, digests
from atha.data.images import ImageReader
from atha.data.pool import Pool
from atha.defaults import MAX_PIXELS
from atha.devices import resolve_device, resolve_precision
from atha.episodes import Episode, EpisodeSet
from atha.errors import DataError
from atha.methods import Options, make_method
from atha.models.forms import move
from atha.models.frozen import ImageFile, processor_settings
from atha.recipe import Precision, Recipe

#: Of the definition of an experiment; a change of what results mean changes this number.
VERSION = 1


@dataclass(frozen=True)
class Setting:
    """A data set and its episodes: what methods are compared on.

    Attributes:
        pool: the images.
        episodes: what is drawn from them.
        content: SHA-256 of each image's bytes, in the pool's order.
        reader: reads the images, by one rule for all of the pool.
    """

    pool: Pool
    episodes: EpisodeSet
    content: tuple[str, ...]
    reader: ImageReader = field(default_factory=ImageReader)

    @cached_property
    def files(self) -> dict[str, ImageFile]:
        """Id -> file."""
        rows = zip(self.pool.ids, self.pool.files, self.content, strict=True)
        return {name: ImageFile(path, digest, self.reader) for name, path, digest in rows}

    def class_indices(self, episode: Episode) -> list[int]:
        """The episode's classes as indices into those of the pool."""
        return [self.pool.classes.index(label) for label in episode.classes]

    def definition(self) -> dict[str, Any]:
        """All that defines it, in plain types."""
        spec, reading = self.episodes.spec, self.reader.reading
        return {
            "dataset": {
                **({} if reading.plain else {"reading": reading.model_dump(mode="json")}),
                "name": self.pool.name,
                "labels_hash": self.pool.labels_hash,
                "images_hash": combined(self.pool.ids, self.content),
                "counts": self.pool.counts,
                "classes": [[label, text] for label, text in self.pool.texts.items()],
            },
            "episodes": {
                "key": self.episodes.key,
                "way": spec.way,
                "shot": spec.shot,
                "query": spec.query,
                "seed": spec.seed,
                "groups": spec.groups,
            },
        }


@dataclass(frozen=True)
class Plan:
    """A run, in values that can be sent to other processes.

    Attributes:
        settings: data sets with episodes.
        methods: names, as `atha.methods.make_method` takes them.
        labels: what their results are called.
        options: what holds for all methods.
        model: the backbone, as `atha.backbones.load_backbone` takes it.
        revision: of a hub model.
        backbone: hash of the backbone's weights and settings.
        device: where to compute.
        threads: of a CPU, for each worker.
        together: episodes that a worker takes at once, and trains in one pass where a method can.
        cache: file of the cache; None for none.
        cache_limit: its size in bytes.
        definitions: for each setting, that of each method's experiment.
    """

    settings: tuple[Setting, ...]
    methods: tuple[str, ...]
    labels: tuple[str, ...]
    options: Options
    model: str
    revision: str | None
    backbone: str
    device: str
    threads: int
    together: int
    cache: Path | None
    cache_limit: int
    definitions: tuple[tuple[dict[str, Any], ...], ...]

    @cached_property
    def experiments(self) -> tuple[tuple[str, ...], ...]:
        """For each setting, the hash of each method's experiment."""
        return tuple(tuple(definition_hash(one) for one in row) for row in self.definitions)


def make_plan(
    sources: Sequence[tuple[Pool, EpisodeSet]],
    methods: Sequence[str],
    model: str,
    *,
    revision: str | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
    precision: Precision = "auto",
    device: str = "auto",
    threads: int = 1,
    together: int = 1,
    cache: Path | None = None,
    cache_limit: int = 2 << 30,
    progress: Callable[[int, int], None] | None = None,
    backbone: Backbone | None = None,
    bands: Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[Plan, Backbone]:
    """Look at everything that can be wrong, load the backbone, and define the experiments.

    Args:
        sources: pools, and episodes drawn from them.
        methods: names, see `atha.methods.make_method`.
        model: ``nano``, a hub id or a model folder.
        revision: commit, branch or tag of a hub model.
        options: transform, template, overrides; its precision is set here.
        precision: of all forward passes; ``auto`` by the device.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: of a CPU, for each worker; results may differ in the last bits with it.
        together: episodes trained in one pass; the same.
        cache: file for features and decoded images; None keeps none.
        cache_limit: its size in bytes.
        progress: called with (images looked at, images in all).
        backbone: ``model``, where it is loaded already.
        bands: numbers, from 1, of the bands that are red, green and blue, or of the one that is grey.
        max_pixels: larger images are refused.

    Returns:
        The plan, and the backbone it was made with, on its device.

    Raises:
        AthaError: a method, recipe, model, class text or image file cannot be used.
    """
    where = resolve_device(device)
    changed = {} if options.template is None else {"prompt.template": options.template}
    Recipe.load(Recipe.load("lora", options.overrides), changed)  # keys and template, whoever uses them
    options = Options(options.transform, resolve_precision(precision, where), options.template, options.overrides)
    made = [make_method(name, options) for name in methods]
    for index, (_, definition) in enumerate(made):
        for name, (_, other) in zip(methods, made[:index], strict=False):
            if method_definition(definition) == method_definition(other):
                raise DataError(f"{methods[index]} and {name} are the same method: name one of them")
    backbone = move(load_backbone(model, revision) if backbone is None else backbone, where)
    for _, definition in made:
        if alignment := (definition.get("recipe") or {}).get("alignment"):
            backbone.check_alignable(growing=not alignment["keep_cls_out"])
    prompts = [_check_prompts(backbone, pool, {method.template for method, _ in made}) for pool, _ in sources]
    described = {
        "family": backbone.family,
        "revision": backbone.revision,
        "content": backbone.content_hash(),
        "processor": processor_settings(backbone),
    }
    store = Cache(cache, cache_limit)
    settings: list[Setting] = []
    for pool, episodes in sources:
        known = next((one for one in settings if one.pool is pool), None)
        if known is None:
            content = tuple(digests(pool.files, store, progress))
            reading = decide_reading_of_files(pool.files, content, store, bands, max_pixels)
            settings.append(Setting(pool, episodes, content, ImageReader(reading, max_pixels, quiet=True)))
        else:
            settings.append(replace(known, episodes=episodes))
    store.close()
    definitions = tuple(
        tuple(
            {
                "version": VERSION,
                **setting.definition(),
                "backbone": {**described, "tokens": tokens},
                "transform": options.transform,
                "method": method_definition(definition),
            }
            for _, definition in made
        )
        for setting, tokens in zip(settings, prompts, strict=True)
    )
    plan = Plan(
        tuple(settings),
        tuple(methods),
        tuple(definition["name"] for _, definition in made),
        options,
        model,
        revision,
        str(described["content"]),
        str(where),
        threads,
        together,
        cache,
        cache_limit,
        definitions,
    )
    return plan, backbone


def method_definition(definition: Mapping[str, Any]) -> dict[str, Any]:
    """What defines a method's results: all but what they are called."""
    return {key: value for key, value in definition.items() if key != "name"}


def _check_prompts(backbone: Backbone, pool: Pool, templates: Iterable[str]) -> str:
    """See that all class texts fit; returns a hash of them as tokens: another tokenizer is another backbone."""
    texts = list(pool.texts.values())
    for template in templates:
        backbone.prompts(texts, template)
    return definition_hash({"tokens": backbone.prompts(texts, "{}").input_ids.tolist()})
