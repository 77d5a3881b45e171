"""Attacks: a file of some kind, changed at random, and all that is done with such a file.

Each takes a `Random`, a folder with files of all kinds (see ``everything`` in `test_hostile`), and an empty one.
"""

import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest

from atha import Classifier, Recipe, backbones
from atha.adapter.card import write_card
from atha.adapter.files import read_adapter
from atha.adapter.members import members_table
from atha.backbones import licence
from atha.bench.compare import compare, comparison_tables
from atha.bench.report import arenas, report_tables, rows
from atha.bench.results import definition_hash
from atha.bench.store import Store
from atha.cli.info import _adapter
from atha.data import read_labelled
from atha.data.deciding import decide_reading
from atha.data.finding import find_images
from atha.data.images import ImageProblem, ImageReader
from atha.data.opening import open_pool
from atha.data.reading import Reading
from atha.episodes import read_episodes
from atha.errors import AthaError, DataError
from atha.prompts import name_classes, read_classes_file
from atha.texts import TextError, read_header
from conftest import COLOURS
from mutations import (
    ODD_VALUES,
    change_adapter,
    change_bytes,
    change_front,
    change_json,
    change_model,
    change_store,
    change_text,
)
from stores import definition
from stores import fill as fill_store

IMAGE = "test/GreenThing/1_0.png"
KINDS = ("released", "auto", "prototypes", "tip-adapter")
"""Of adapters."""


def use_adapter(folder: Path, image: Path) -> None:
    """All that is done with an adapter; what is shown is JSON, what is predicted is finite."""
    saved = read_adapter(folder)
    found = Classifier.from_saved(saved, device="cpu").predict_proba([image])
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1)
    json.dumps(_adapter(saved), allow_nan=False)
    members_table(saved.record)
    write_card(saved.classes, saved.recipe, saved.record)


def refused(use: Callable[[], None]) -> str | None:
    """The sentence of a refusal; None if there was none. Anything else is an error."""
    try:
        use()
    except AthaError as error:
        assert str(error)
        assert "\n" not in str(error)
        return str(error)
    return None


def read_image(path: Path, bands: tuple[int, ...] | None) -> None:
    """An image, or one sentence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rule = decide_reading([path], bands)
        except DataError:
            rule = Reading(bands=bands)
        try:
            image = ImageReader(rule).open(path)
        except ImageProblem as problem:
            assert "\n" not in problem.reason
            return
    assert image.mode == "RGB"


def attack_image(random: Random, place: Path, here: Path) -> None:
    content = random.choice(sorted((place / "images").iterdir())).read_bytes()
    change = random.choice([change_bytes, change_front, change_front])
    (here / "image").write_bytes(change(random, content))
    read_image(here / "image", random.choice([None, None, (1,), (3, 2, 1)]))


def attack_adapter(random: Random, place: Path, here: Path) -> None:
    shutil.copytree(place / random.choice(KINDS), here / "adapter")
    change_adapter(random, here / "adapter")
    use_adapter(here / "adapter", place / IMAGE)


def attack_model(random: Random, place: Path, here: Path) -> None:
    shutil.copytree(random.choice(sorted((place / "models").iterdir())), here / "model")
    change_model(random, here / "model")
    loaded = backbones.load_backbone(str(here / "model"))
    json.dumps(loaded.describe(), allow_nan=False)
    licence(loaded)
    found = Classifier(loaded, ["cat", "dog"], "gaussian", device="cpu").predict_proba([place / IMAGE])
    assert np.isfinite(found).all()


def attack_store(random: Random, place: Path, here: Path) -> None:
    path = Path(shutil.copy(place / "results.db", here))
    change_store(random, path)
    with Store(path) as store:
        found = arenas(store.experiments())
        report_tables(found, True, True)
        json.dumps([row.to_dict(True, True) for row in rows(found)], allow_nan=False)
        if found:
            refused(lambda: comparison_tables(compare(found, "zero-shot")))
        store.runs()
    with Store(path, create=True) as store:
        store.repair({definition_hash(definition()): ("zero-shot", "nano", definition())})
        fill_store(store, definition(), range(4))
    with Store(here / "other.db", create=True) as store, Store(path) as other:
        store.merge(other)


def attack_table(random: Random, place: Path, here: Path) -> None:
    name = random.choice(["table.csv", "table.tsv", "one-hot.csv", "rows.jsonl", "list.txt", "labelled.txt"])
    # A process for each.
    if random.random() < 0.03:
        name = "rows.parquet"
        (here / name).write_bytes(change_bytes(random, (place / "texts" / name).read_bytes()))
    else:
        (here / name).write_bytes(change_text(random, (place / "texts" / name).read_text()))
    shutil.copytree(place / "support", here / "support")
    refused(lambda: read_labelled(here / name))
    find_images([here / name])


def attack_recipe(random: Random, place: Path, here: Path) -> None:
    name = random.choice(["recipe.toml", "recipe.json"])
    text = (place / "texts" / name).read_text()
    made = change_json(random, text).encode("utf-8", "surrogatepass") if name.endswith(".json") else b""
    (here / name).write_bytes(made or change_text(random, text))
    recipe = Recipe.load(here / name)
    json.dumps(recipe.model_dump(mode="json"), allow_nan=False)
    Recipe.load("paper", [f"training.steps={json.dumps(random.choice(ODD_VALUES))}"])


def attack_lists(random: Random, place: Path, here: Path) -> None:
    """Class files, episode files and headers of model cards."""
    text = (place / "texts" / "episodes.json").read_text()
    (here / "episodes.json").write_bytes(change_json(random, text).encode("utf-8", "surrogatepass"))
    refused(lambda: read_episodes(here / "episodes.json", open_pool(str(place / "support"))))
    (here / "classes.json").write_bytes(
        change_json(random, '{"red_thing": "a red thing", "GreenThing": "g"}').encode("utf-8", "surrogatepass")
    )
    refused(lambda: name_classes(COLOURS, read_classes_file(here / "classes.json")))
    header = "---\nlicense: mit\ntags:\n- a\n- b\nmodel-index: {a: [1, 2], b: &x [3]}\n---\n# Card\n"
    (here / "README.md").write_bytes(change_text(random, header))
    with suppress(TextError):
        read_header(here / "README.md")


ATTACKS = {
    attack_image: 60,
    attack_adapter: 60,
    attack_model: 25,
    attack_store: 25,
    attack_table: 40,
    attack_recipe: 60,
    attack_lists: 30,
}
"""How often each is tried in the quick test."""


def strike(attack: Callable[[Random, Path, Path], None], seed: int, place: Path, here: Path) -> None:
    try:
        refused(lambda: attack(Random(seed), place, here))
    except Exception as error:
        raise AssertionError(f"{attack.__name__} {seed}: {type(error).__name__}: {error}") from error
