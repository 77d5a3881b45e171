"""Stores as runs fill them, without the runs."""

import numpy as np

from atha.bench.results import Result, definition_hash
from atha.episodes import Episode, EpisodeSet, EpisodeSpec

CLASSES = ("ant", "bee", "cat", "dog")
WAY, QUERY = 3, 4


def definition(name="zero-shot", *, classes=CLASSES, dataset="pets", seed=1, shot=1, query=QUERY, way=WAY, **changes):
    """What defines an experiment, as `atha.bench.plan` makes it."""
    key = definition_hash({"dataset": dataset, "seed": seed, "shot": shot, "query": query, "way": way})
    made = {
        "version": 1,
        "dataset": {
            "name": dataset,
            "labels_hash": "0" * 64,
            "images_hash": "1" * 64,
            "counts": dict.fromkeys(classes, 20),
            "classes": [[label, f"text of {label}"] for label in classes],
        },
        "episodes": {"key": key, "way": way, "shot": shot, "query": query, "seed": seed, "groups": False},
        "backbone": {"family": "clip", "revision": None, "fingerprint": "2" * 64},
        "transform": "cdfsl",
        "method": {"name": name, "precision": "float32"},
    }
    return made | changes


def result(experiment, episode, *, labels=4, way=WAY, query=QUERY, content="", **changes):
    """What some method did on an episode: at random, the same for the same arguments."""
    rng = np.random.default_rng(int(definition_hash({"key": experiment, "episode": episode})[:12], 16))
    made = {
        "experiment": experiment,
        "episode": episode,
        "hash": content or f"{episode:064x}",
        "classes": rng.permutation(labels)[:way],
        "probabilities": rng.dirichlet(np.full(way, 0.4), way * query).astype(np.float32),
        "seconds": round(rng.uniform(0.1, 2), 3),
        "memory": int(rng.integers(1e8, 2e8)),
    }
    return Result(**made | changes)


def fill(store, described, episodes, model="nano", **changes):
    """Some episodes of an experiment; returns its hash."""
    key = store.add_experiment(described["method"]["name"], model, described)
    spec = described["episodes"]
    size = {"labels": len(described["dataset"]["classes"]), "way": spec["way"], "query": spec["query"]}
    store.add([result(key, episode, **size | changes) for episode in episodes], store.start_run({"machine": "test"}))
    return key


def episode_set(count, key="key", shift=0):
    spec = EpisodeSpec("pets", "0" * 64, CLASSES, False, WAY, 1, QUERY, 1)
    made = []
    for index in range(count):
        names = [[f"{label}/{index + shift}_{image}.png" for image in range(1 + QUERY)] for label in CLASSES[:WAY]]
        made.append(
            Episode(index, CLASSES[:WAY], tuple((row[0],) for row in names), tuple(tuple(row[1:]) for row in names))
        )
    return EpisodeSet(spec, key, tuple(made))
