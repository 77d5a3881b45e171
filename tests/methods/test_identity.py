"""What defines a result is noticed when it changes, and what does not is not."""

import json
import shutil
import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atha.backbones import load_backbone
from atha.bench.work import BenchError, EpisodeRunner, Job
from atha.data.cache import Cache
from atha.data.images import ImageProblem
from atha.data.opening import open_pool
from atha.episodes import draw_episodes
from atha.methods import Options, make_method
from atha.models.frozen import FrozenModel, ImageFile
from conftest import COLOURS, write_images
from methods.small_episode import QUICK, Small, plan_of

NANO = Path(str(resources.files("atha") / "backbones" / "nano"))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    return Small(tmp_path_factory.mktemp("identity"), load_backbone("nano"))


def test_the_same_weights_under_other_settings_are_another_backbone(tmp_path):
    backbone = load_backbone("nano")
    for key, value in {"hidden_act": "relu", "num_attention_heads": 1}.items():
        folder = shutil.copytree(NANO, tmp_path / key)
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"][key] = value
        (folder / "config.json").write_text(json.dumps(config))
        assert load_backbone(str(folder)).content_hash() != backbone.content_hash()
    assert load_backbone(str(shutil.copytree(NANO, tmp_path / "same"))).content_hash() == backbone.content_hash()


def test_one_changed_weight_is_another_backbone():
    backbone = load_backbone("nano")
    before = backbone.content_hash()
    with torch.no_grad():
        backbone.token_embedding.weight[1000, 7] += 1e-3
    assert backbone.content_hash() != before


def test_a_recipe_file_that_changes_under_a_run_stops_it(small, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[training]\nsteps = 1\n")
    plan, backbone = plan_of(small, [f"atha:{recipe}"], Options())
    EpisodeRunner(plan, backbone)
    recipe.write_text("[training]\nsteps = 2\n")
    with pytest.raises(BenchError, match=r"mine\.toml is no longer what it was"):
        EpisodeRunner(plan, backbone)


def test_a_recipe_by_any_name_is_one_experiment(small, tmp_path):
    recipe = tmp_path / "mine.json"
    recipe.write_text(make_method("lora")[0].recipe.model_dump_json())
    first, _ = plan_of(small, ["lora"], Options())
    assert plan_of(small, [f"atha:{recipe}"], Options())[0].experiments == first.experiments
    assert plan_of(small, ["lora"], QUICK)[0].experiments != first.experiments


def test_a_template_matters_to_those_who_read_it(small):
    other = Options(template="an image of a {}.")
    for name, reads in {"zero-shot": True, "tip-adapter": True, "prototypes": False, "linear-probe": False}.items():
        same = plan_of(small, [name], Options())[0].experiments == plan_of(small, [name], other)[0].experiments
        assert same != reads


def test_an_image_that_changes_under_a_run_is_noticed(small, tmp_path):
    frozen = FrozenModel(small.backbone, "cdfsl", "float32", Cache(None))
    known = next(iter(small.setting.files.values()))
    path = tmp_path / "x.png"
    Image.new("RGB", (30, 20), "red").save(path)
    for ask in (frozen.plain, frozen.image_features, frozen.decoded):
        with pytest.raises(ImageProblem, match="no longer the image"):
            ask([ImageFile(path, known.digest)])


def test_a_value_damaged_on_disk_is_made_again(small, tmp_path):
    path = tmp_path / "cache.db"
    files = list(small.setting.files.values())[:3]
    cache = Cache(path)
    right = FrozenModel(small.backbone, "cdfsl", "float32", cache).image_features(files)
    cache.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for key, value in connection.execute("SELECT key, value FROM entries").fetchall():
            damaged = value[:40] + bytes(len(value) - 40)  # of the right length
            connection.execute("UPDATE entries SET value = ? WHERE key = ?", (damaged, key))
    cache = Cache(path)
    assert np.array_equal(FrozenModel(small.backbone, "cdfsl", "float32", cache).image_features(files), right)
    cache.close()


def test_ids_do_not_depend_on_where_one_stands(tmp_path, monkeypatch):
    write_images(tmp_path / "images", COLOURS, 3)
    (tmp_path / "tables").mkdir()
    rows = [f"../images/{path.parent.name}/{path.name},{path.parent.name}" for path in tmp_path.glob("images/*/*.png")]
    (tmp_path / "tables" / "t.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    drawn = []
    for place, name in (
        (tmp_path, "tables/t.csv"),
        (tmp_path / "tables", "t.csv"),
        (Path("/"), tmp_path / "tables/t.csv"),
    ):
        monkeypatch.chdir(place)
        drawn.append(draw_episodes(open_pool(str(name)), 3, 1, 2, 3).hash)
    assert len(set(drawn)) == 1


def test_a_fault_of_ones_own_method_names_it(small, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from atha.methods import Method\nclass Mine(Method):\n    def fit(self, support):\n        return {}['key']\n"
    )
    plan, backbone = plan_of(small, [f"{file}:Mine"], Options())
    with pytest.raises(BenchError, match=r"mine\.py:Mine on episode 0 of photos: KeyError in the method"):
        list(EpisodeRunner(plan, backbone).run(Job(0, (0,), (0,))))
