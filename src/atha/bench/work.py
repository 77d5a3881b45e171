"""One worker's part: the model loaded once, episodes run one after the other, by every method that is asked for."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from threadpoolctl import ThreadpoolController

from atha import machine
from atha.backbones import Backbone, load_backbone
from atha.bench.plan import Plan, Setting, method_definition
from atha.bench.results import Result
from atha.data.cache import Cache
from atha.data.images import ImageProblem
from atha.episodes import Episode
from atha.errors import AthaError, BackboneError
from atha.methods import METHODS, FileImages, Fitted, Images, Method, Support, make_method
from atha.models.forms import move
from atha.models.frozen import FrozenModel


class BenchError(AthaError):
    """A benchmark cannot go on."""


class Job(NamedTuple):
    """Some episodes of one setting for some methods; settings, episodes and methods are positions in a plan."""

    setting: int
    episodes: tuple[int, ...]
    methods: tuple[int, ...]
    done: frozenset[tuple[int, int]] = frozenset()  # (method, episode) whose results are there already

    def open(self, method: int) -> tuple[int, ...]:
        """The episodes whose results are wanted of a method."""
        return tuple(episode for episode in self.episodes if (method, episode) not in self.done)


class EpisodeRunner:
    """Runs jobs of a plan.

    Args:
        plan: what to run.
        backbone: the plan's, where it is loaded already.

    Raises:
        AthaError: a part of the plan cannot be loaded here, or the model is not the plan's.
    """

    def __init__(self, plan: Plan, backbone: Backbone | None = None) -> None:
        self.plan = plan
        device = torch.device(plan.device)
        if backbone is None:
            backbone = move(load_backbone(plan.model, plan.revision), device)
            if backbone.content_hash() != plan.backbone:
                raise BackboneError(f"{plan.model} has other weights here than where the run was started: give all one")
        self._cache = Cache(plan.cache, plan.cache_limit)
        self._frozen = FrozenModel(backbone, plan.options.transform, plan.options.precision, self._cache, plan.backbone)
        self._pools: tuple[int, ThreadpoolController] | None = None
        self._methods = []
        for number, name in enumerate(plan.methods):
            method, definition = make_method(name, plan.options)
            if method_definition(definition) != plan.definitions[0][number]["method"]:
                raise BenchError(f"{name} is no longer what it was when the run was started: start it again")
            self._methods.append(method)

    def run(self, job: Job) -> Iterator[Result]:
        """The results of the job's methods, each as soon as it is there.

        Raises:
            BenchError: a method gives no probabilities.
            AthaError: an image cannot be read, or training fails; names method and episode.
        """
        for index in job.methods:
            if job.open(index):
                yield from self._run_method(job, index)

    def _run_method(self, job: Job, index: int) -> Iterator[Result]:
        setting, method, name = self.plan.settings[job.setting], self._methods[index], self.plan.methods[index]
        # Episodes that are trained together are trained so again after an interruption: the same numbers then.
        still_open = job.open(index)
        positions = job.episodes if method.together else still_open
        episodes = [setting.episodes.episodes[position] for position in positions]
        wanted = [position in still_open for position in positions]
        found = self._timed(method, setting, episodes, wanted)
        for episode, want in zip(episodes, wanted, strict=True):
            where = f"{name} on episode {episode.index} of {setting.pool.name}"
            try:
                probabilities, seconds, memory = next(found)
            except ImageProblem as error:
                raise BenchError(
                    f"{where}: {error}: leave it out with atha data check --write-list keep.csv, then --keep keep.csv"
                ) from error
            except AthaError as error:
                raise BenchError(f"{where}: {error}") from error
            except Exception as error:
                if name in METHODS or method.uses_recipe:
                    raise
                raise BenchError(f"{where}: {type(error).__name__} in the method ({error}), correct it") from error
            if not want:
                continue
            way, query = len(episode.classes), len(episode.query[0])
            yield Result(
                self.plan.experiments[job.setting][index],
                episode.index,
                episode.hash,
                np.array(setting.class_indices(episode)),
                _checked(probabilities, (way * query, way), name),
                seconds,
                memory,
            )

    def prepare(self, job: Job) -> None:
        """Begin to decode the images of a job that is to be run after the one that is running."""
        setting = self.plan.settings[job.setting]
        for position in job.episodes:
            episode = setting.episodes.episodes[position]
            rows = (*episode.support, *episode.query)
            self._frozen.prepare([setting.files[name] for row in rows for name in row])

    def close(self) -> None:
        """Close the cache, and end what prepares images."""
        self._frozen.close()
        self._cache.close()

    def _threadpools(self) -> ThreadpoolController:
        # To look at all libraries of the process takes longer than some methods: only after an import of new ones.
        if self._pools is None or self._pools[0] != len(sys.modules):
            self._pools = len(sys.modules), ThreadpoolController()
        return self._pools[1]

    def _timed(
        self, method: Method, setting: Setting, episodes: Sequence[Episode], wanted: Sequence[bool]
    ) -> Iterator[tuple[Float[np.ndarray, "Q N"], float, int | None]]:
        """Probabilities, seconds and peak memory of each episode; those that are not wanted have no rows."""
        supports = [self._support(method, setting, episode) for episode in episodes]
        device = torch.device(self.plan.device)
        _reset_peak(device)
        with self._threadpools().limit(limits=self.plan.threads), closing(method.fit_each(supports)) as models:
            # Decoding is not timed: else the first method would pay for all. No query image is within reach of the
            # method until it has learned.
            for support in supports:
                support.images.plain()
            shared = 0.0  # what the first one took for all
            for number, (episode, want) in enumerate(zip(episodes, wanted, strict=True)):
                started = time.perf_counter()
                fitted = next(models)
                if not isinstance(fitted, Fitted):
                    raise BenchError(
                        f"fit of {type(method).__name__} returns a {type(fitted).__name__}, it must return an "
                        "atha.methods.Fitted: wrap a function as ByScores(function)"
                    )
                seconds = time.perf_counter() - started
                if method.together and number == 0:
                    shared = seconds / len(episodes)
                    seconds = 0.0
                probabilities = np.empty((0, len(episode.classes)))
                if want:
                    query = self._images(setting, episode.query)
                    query.plain()
                    started = time.perf_counter()
                    probabilities = fitted.probabilities(query)
                    seconds += time.perf_counter() - started
                fitted.release()
                yield probabilities, seconds + shared, _peak(device)

    def _images(self, setting: Setting, side: Sequence[Sequence[str]]) -> Images:
        return FileImages([setting.files[name] for row in side for name in row], self._frozen)

    def _support(self, method: Method, setting: Setting, episode: Episode) -> Support:
        labels = np.repeat(np.arange(len(episode.classes)), [len(row) for row in episode.support])
        texts = tuple(setting.pool.texts[label] for label in episode.classes)
        return Support(self._images(setting, episode.support), labels, texts, method.template, episode.seed)


def _checked(probabilities: np.ndarray, shape: tuple[int, int], name: str) -> Float[np.ndarray, "Q N"]:
    """Rounded as they are stored, so that what is computed from them now and later is the same."""
    kept = np.asarray(probabilities, dtype=np.float32)
    if kept.shape != shape:
        raise BenchError(f"{name} gives probabilities of shape {kept.shape}, and (query images, classes) is {shape}")
    if not np.isfinite(kept).all() or (kept < 0).any() or abs(kept.sum(axis=1) - 1).max() > 1e-3:
        raise BenchError(
            f"{name} gives rows that are no probabilities: they must be finite, not negative, and sum to 1"
        )
    return kept


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        machine.reset_peak()


def _peak(device: torch.device) -> int | None:
    """Peak bytes of the device, or of the process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else machine.peak_memory()
