"""A small episode of real files, and plans around it, for the tests of methods."""

import json
from pathlib import Path

import numpy as np

from atha.backbones import Backbone
from atha.bench.plan import Plan, Setting, make_plan
from atha.bench.work import EpisodeRunner, Job
from atha.data.cache import Cache
from atha.data.digests import digests
from atha.data.opening import open_pool
from atha.episodes import draw_episodes
from atha.methods import FileImages, Images, Method, Options, Support, make_method
from atha.models.frozen import FrozenModel
from conftest import COLOURS, write_images

WAY, SHOT, QUERY = 3, 2, 3
#: Recipes in one step.
QUICK = Options(overrides=("training.steps=1", "training.lora.lr=1e-3"))
FROZEN = (
    "zero-shot",
    "prototypes",
    "linear-probe",
    "tip-adapter",
    "tip-adapter-f",
    "gda",
    "proker",
    "lp-plus-plus",
    "clap",
)
TUNED = ("lora", "clip-lora", "atha:released-fixed")


class Small:
    """One episode of three classes, two support and three query images each."""

    def __init__(self, root: Path, backbone: Backbone, cache: Path | None = None) -> None:
        self.pool = open_pool(str(write_images(root / "photos", COLOURS, 6)))
        self.drawn = draw_episodes(self.pool, WAY, SHOT, QUERY, 2, seed=4)
        self.backbone, self.cache = backbone, cache
        self.setting = Setting(self.pool, self.drawn, tuple(digests(self.pool.files, Cache(None))))

    def parts(self, frozen: FrozenModel | None = None, episode: int = 0) -> tuple[Support, Images]:
        """Support and query as a worker makes them."""
        frozen = frozen or FrozenModel(self.backbone, "cdfsl", "float32", Cache(self.cache))
        one = self.drawn.episodes[episode]
        support, query = (
            FileImages([self.setting.files[name] for row in side for name in row], frozen)
            for side in (one.support, one.query)
        )
        texts = tuple(self.pool.texts[label] for label in one.classes)
        return Support(support, np.repeat(np.arange(WAY), SHOT), texts, "a photo of a {}.", one.seed), query


def run(method: Method | str, support: Support, query: Images, options: Options = QUICK) -> np.ndarray:
    """Fit and predict."""
    made = make_method(method, options)[0] if isinstance(method, str) else method
    return made.fit(support).probabilities(query)


def plan_of(small: Small, methods: list[str], options: Options = QUICK) -> tuple[Plan, Backbone]:
    about = {"options": options, "precision": "float32", "device": "cpu", "backbone": small.backbone}
    return make_plan([(small.pool, small.drawn)], methods, small.backbone.name, **about)


def runner_of(small: Small, methods: list[str], options: Options = QUICK) -> EpisodeRunner:
    plan, _ = plan_of(small, methods, options)
    return EpisodeRunner(plan, small.backbone)


def job_of(runner: EpisodeRunner, episode: int = 0) -> Job:
    return Job(0, (episode,), tuple(range(len(runner.plan.methods))))


def same_definition(one: dict, other: dict) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
