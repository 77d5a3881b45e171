"""Adapters on disk: the same predictions after loading, whole or not there at all, and nothing in them that runs."""

import json
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from adapting import plain_encoder
from atha import Classifier, Recipe
from atha.adapter.files import read_adapter
from atha.adapter.hub import CARD
from atha.adapter.record import LORA_FILES, RECORD, TENSORS
from atha.errors import AdapterError, BackboneError
from saved_adapters import change_tensors

TEXTS = {"tabby": "a striped cat", "dog": "dog"}
SHORT = {"training.steps": 2, "training.lora.lr": 0.01}

# Each tuner alone and together.
RECIPES = {
    "LoRA and alignment": Recipe.load("paper", SHORT),
    "LoRA alone": Recipe.load("paper", SHORT | {"alignment": None}),
    "alignment alone": Recipe.load("paper", SHORT | {"lora": None}),
    "context alone": Recipe.load("lora", SHORT | {"lora": None}),
    "all": Recipe.load("released", SHORT),
}


def pictures(number: int, seed: int = 0) -> list[Image.Image]:
    noise = np.random.default_rng(seed)
    return [Image.fromarray(noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(number)]


SUPPORT = list(zip(pictures(4, seed=1), ["tabby", "tabby", "dog", "dog"], strict=True))
QUERY = pictures(5, seed=2)


def fit(recipe: Recipe, model: Path | str, seed: int = 0) -> Classifier:
    return Classifier.from_pretrained(model, TEXTS, recipe, device="cpu").fit(SUPPORT, seed=seed)


@pytest.fixture(scope="module")
def by_recipe(tiny_clip: str) -> Callable[[str], Classifier]:
    """The classifier fitted by one of `RECIPES`, once; not to be changed."""
    return cache(lambda name: fit(RECIPES[name], tiny_clip))


@pytest.fixture(scope="module")
def nano_by_recipe() -> Callable[[str], Classifier]:
    """The same of nano, whose weights take more than a few kB."""
    return cache(lambda name: fit(RECIPES[name], "nano"))


@pytest.fixture(params=RECIPES)
def fitted(request: pytest.FixtureRequest, by_recipe: Callable[[str], Classifier]) -> Classifier:
    return by_recipe(request.param)


@pytest.fixture
def adapted(by_recipe: Callable[[str], Classifier]) -> Classifier:
    return by_recipe("LoRA and alignment")


@pytest.fixture(scope="module")
def model(tiny_clip: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; not to be changed."""
    return Path(shutil.copytree(tiny_clip, tmp_path_factory.mktemp("models") / "local"))


@pytest.fixture(scope="module")
def of_folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """An adapter of that folder, and what it predicts; for copying."""
    classifier = fit(RECIPES["LoRA alone"], model)
    path = tmp_path_factory.mktemp("adapters") / "of-folder"
    classifier.save_pretrained(path)
    return path, classifier.predict_proba(QUERY)


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder, hidden files too, and what is in it."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


# Saving and loading


@pytest.mark.numbers
def test_loaded_predicts_the_same_bits(fitted: Classifier, tmp_path: Path) -> None:
    expected = fitted.predict_proba(QUERY)
    fitted.save_pretrained(tmp_path / "adapter")
    loaded = Classifier.from_pretrained(tmp_path / "adapter", device="cpu")
    assert np.array_equal(loaded.predict_proba(QUERY), expected)
    assert loaded.class_texts == fitted.class_texts == {"dog": "dog", "tabby": "a striped cat"}
    assert list(loaded.class_texts) == list(fitted.class_texts), "in the same order"
    assert loaded.recipe == fitted.recipe
    assert loaded.history == fitted.history
    assert loaded.fitted


def test_saving_changes_nothing_and_loaded_saves_the_same(adapted: Classifier, tmp_path: Path) -> None:
    before = adapted.predict_proba(QUERY)
    adapted.save_pretrained(tmp_path / "first")
    assert np.array_equal(adapted.predict_proba(QUERY), before)
    Classifier.from_pretrained(tmp_path / "first", device="cpu").save_pretrained(tmp_path / "second")
    first, second = snapshot(tmp_path / "first"), snapshot(tmp_path / "second")
    weights = (TENSORS, LORA_FILES[1])
    assert {name: first[name] for name in weights} == {name: second[name] for name in weights}


def test_holds_no_pickle(fitted: Classifier, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "adapter")
    files = [path for path in (tmp_path / "adapter").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        elif path.suffix == ".safetensors":
            assert load_file(path)
    assert {path.name for path in files} >= {RECORD, TENSORS, CARD}
    assert any(path.name in LORA_FILES for path in files) == (fitted.recipe.lora is not None)


def test_others_may_read_it(adapted: Classifier, tmp_path: Path) -> None:
    adapted.save_pretrained(tmp_path / "adapter")
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "adapter").iterdir()} == {"0o644"}
    assert (tmp_path / "adapter").stat().st_mode & 0o777 == 0o755


def test_moved_adapter_loads(adapted: Classifier, tmp_path: Path) -> None:
    adapted.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter").rename(tmp_path / "elsewhere")
    loaded = Classifier.from_pretrained(tmp_path / "elsewhere", device="cpu")
    assert np.array_equal(loaded.predict_proba(QUERY), adapted.predict_proba(QUERY))


def test_lora_loads_in_plain_peft(tiny_clip: str, by_recipe: Callable[[str], Classifier], tmp_path: Path) -> None:
    classifier = by_recipe("LoRA alone")
    classifier.save_pretrained(tmp_path / "adapter")
    plain = peft.PeftModel.from_pretrained(
        transformers.CLIPModel.from_pretrained(tiny_clip, dtype=torch.float32), tmp_path / "adapter"
    ).eval()
    tuners = classifier._fitted.adaptation.tuners
    ours = tuners.lora.state()
    theirs = {name.replace(".default", ""): value for name, value in plain.named_parameters() if "lora_" in name}
    assert ours.keys() == theirs.keys()
    assert len(ours) == 36
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert all(value.any() for value in ours.values()), "LoRA's B starts at zero, and was trained"
    pixels = torch.randn(3, 3, classifier.backbone.image_size, classifier.backbone.image_size)
    with torch.no_grad():
        expected = plain_encoder(classifier.backbone, tuners).images(pixels)
        found = plain.get_image_features(pixel_values=pixels).pooler_output
        with plain.disable_adapter():
            frozen = plain.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(found, frozen)
    mapping = json.loads((tmp_path / "adapter" / LORA_FILES[0]).read_text())["auto_mapping"]
    assert mapping == {"base_model_class": "CLIPModel", "parent_library": "transformers"}  # for AutoPeftModel


# Writing: whole or not at all


def half_written(path: Path | str) -> None:
    Path(path).write_bytes(b"half")


@pytest.fixture(params=[KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["interrupt", "disk full"])
def fault(request: pytest.FixtureRequest) -> BaseException:
    return request.param


@pytest.fixture(params=["LoRA", "tensors"])
def break_writing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> type[BaseException]:
    """Writing stops in the middle of one of the files; returns what a caller is told."""

    real = safetensors.torch.save_file

    def save(tensors: Any, filename: Path, *options: Any) -> None:
        if request.param == "LoRA" and Path(filename).name != LORA_FILES[1]:
            real(tensors, filename, *options)
            return
        half_written(filename)
        raise fault

    monkeypatch.setattr("safetensors.torch.save_file", save)
    return AdapterError if isinstance(fault, OSError) else KeyboardInterrupt


def test_fault_leaves_nothing(adapted: Classifier, tmp_path: Path, break_writing: type[BaseException]) -> None:
    with pytest.raises(break_writing) as caught:
        adapted.save_pretrained(tmp_path / "adapter")
    assert snapshot(tmp_path) == {}
    if break_writing is AdapterError:
        assert str(tmp_path / "adapter") in str(caught.value)
        assert "No space left on device" in str(caught.value)
        assert "choose another --out" in str(caught.value)


def test_fault_leaves_the_old(
    adapted: Classifier, tmp_path: Path, of_folder: tuple[Path, np.ndarray], break_writing: type[BaseException]
) -> None:
    shutil.copytree(of_folder[0], tmp_path / "adapter")
    before = snapshot(tmp_path)
    with pytest.raises(break_writing):
        adapted.save_pretrained(tmp_path / "adapter", overwrite=True)
    assert snapshot(tmp_path) == before


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The system refuses to write further, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# 200 kB stops LoRA's weights, 2 kB the tensors of an adapter without it, 500 bytes what PEFT writes first.
@pytest.mark.parametrize(("recipe", "size"), [("LoRA alone", 200_000), ("LoRA alone", 500), ("alignment alone", 2_000)])
def test_system_refuses_to_write(
    nano_by_recipe: Callable[[str], Classifier], tmp_path: Path, recipe: str, size: int
) -> None:
    classifier = nano_by_recipe(recipe)
    with files_no_larger_than(size), pytest.raises(AdapterError, match=r"cannot write .*adapter \(.*choose another"):
        classifier.save_pretrained(tmp_path / "adapter")
    assert snapshot(tmp_path) == {}


def test_system_refuses_to_write_the_evaluation(tiny_clip: str, tmp_path: Path) -> None:
    classifier = fit(RECIPES["LoRA alone"], tiny_clip)
    classifier.save_pretrained(tmp_path / "adapter")
    before = snapshot(tmp_path)
    test = list(zip(QUERY, ["tabby", "dog", "dog", "tabby", "dog"], strict=True))
    result = classifier.compare(test)
    with files_no_larger_than(1_000), pytest.raises(AdapterError, match=r"cannot write .*adapter \("):
        classifier.save_evaluation(tmp_path / "adapter", result)
    assert snapshot(tmp_path) == before
    classifier.save_evaluation(tmp_path / "adapter", result)
    loaded = Classifier.from_pretrained(tmp_path / "adapter", device="cpu")
    assert loaded.record.evaluation.accuracy == result["adapted"].accuracy
    assert np.array_equal(loaded.predict_proba(QUERY), classifier.predict_proba(QUERY))


def test_overwriting_leaves_only_the_new(
    adapted: Classifier, tmp_path: Path, of_folder: tuple[Path, np.ndarray]
) -> None:
    shutil.copytree(of_folder[0], tmp_path / "adapter")
    (tmp_path / "adapter" / "old.txt").write_text("of the old adapter")
    adapted.save_pretrained(tmp_path / "adapter", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert not (tmp_path / "adapter" / "old.txt").exists()
    assert read_adapter(tmp_path / "adapter").recipe == adapted.recipe


def test_overwriting_through_a_link(adapted: Classifier, tmp_path: Path, of_folder: tuple[Path, np.ndarray]) -> None:
    shutil.copytree(of_folder[0], tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    adapted.save_pretrained(tmp_path / "link", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    assert (tmp_path / "link").is_symlink()
    assert read_adapter(tmp_path / "real").recipe == adapted.recipe


def test_parent_in_disguise_is_not_replaced(
    adapted: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis.txt").write_text("ten years")
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    for path in ("new/..", ".", "new/../../" + tmp_path.name):
        with pytest.raises(AdapterError, match="not empty and no adapter"):
            adapted.save_pretrained(path, overwrite=True)
    assert snapshot(tmp_path) == before


# The backbone


def test_backbone_whose_folder_moved(tmp_path: Path, model: Path, of_folder: tuple[Path, np.ndarray]) -> None:
    adapter, expected = Path(shutil.copytree(of_folder[0], tmp_path / "adapter")), of_folder[1]
    record = json.loads((adapter / RECORD).read_text())
    assert record["backbone"]["path"] == str(model.resolve())
    record["backbone"]["path"] = record["backbone"]["name"] = str(tmp_path / "gone")
    (adapter / RECORD).write_text(json.dumps(record))
    with pytest.raises(AdapterError, match=r"gone.*check the path") as caught:
        Classifier.from_pretrained(adapter, device="cpu")
    assert "--model" in str(caught.value)
    loaded = Classifier.from_pretrained(adapter, backbone=str(model), device="cpu")
    assert np.array_equal(loaded.predict_proba(QUERY), expected)


@pytest.mark.parametrize("revision", [None, "main", "v1"])
def test_hub_model_is_pinned_to_its_commit(
    tiny_clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    commits = {"main": "1" * 40, "v1": "2" * 40}
    cache_of_model = tmp_path / "hub" / "models--atha-tests--tiny"
    (cache_of_model / "refs").mkdir(parents=True)
    for name, commit in commits.items():
        (cache_of_model / "refs" / name).write_text(commit)
        shutil.copytree(tiny_clip, cache_of_model / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    classifier = Classifier.from_pretrained(
        "atha-tests/tiny", TEXTS, RECIPES["LoRA alone"], revision=revision, device="cpu"
    ).fit(SUPPORT)
    commit = commits[revision or "main"]
    assert classifier.backbone.revision == commit
    classifier.save_pretrained(tmp_path / "adapter")
    assert read_adapter(tmp_path / "adapter").record.backbone.revision == commit

    (cache_of_model / "refs" / "main").write_text("3" * 40)  # the branch moves on
    loaded = Classifier.from_pretrained(tmp_path / "adapter", device="cpu")
    assert loaded.backbone.revision == commit
    assert np.array_equal(loaded.predict_proba(QUERY), classifier.predict_proba(QUERY))


def test_backbone_that_is_not_where_it_is_said_to_be(of_folder: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    away = tmp_path / "nowhere"
    with pytest.raises(AdapterError, match=rf"cannot be loaded from --model {re.escape(str(away))}: ") as caught:
        Classifier.from_pretrained(of_folder[0], backbone=str(away), device="cpu")
    assert "say where" not in str(caught.value), "which is what was done"


@pytest.mark.parametrize("part", ["visual_projection.weight", "text_model.embeddings.token_embedding.weight"])
def test_backbone_whose_weights_changed(
    tmp_path: Path, model: Path, of_folder: tuple[Path, np.ndarray], part: str
) -> None:
    changed = Path(shutil.copytree(model, tmp_path / "changed"))
    Classifier.from_pretrained(of_folder[0], backbone=str(changed), device="cpu")
    weights = load_file(changed / "model.safetensors")
    weights[part] *= 1.001
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdapterError, match="other weights than those of") as caught:
        Classifier.from_pretrained(of_folder[0], backbone=str(changed), device="cpu")
    assert "changed" in str(caught.value)
    assert "--model" in str(caught.value)


@pytest.mark.parametrize(
    ("shard", "reason"),
    [
        ("../weights.safetensors", "outside itself"),
        ("..", "outside itself"),
        ("sub/weights.safetensors", "outside itself"),
        ("/weights.safetensors", "outside itself"),
        ("weights.bin", "not safetensors"),
    ],
)
def test_index_of_shards_is_refused(tmp_path: Path, model: Path, shard: str, reason: str) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    target = folder / shard
    if shard == "weights.bin":
        torch.save(weights, target)
    elif shard.startswith(("..", "sub")) and shard != "..":
        target.parent.mkdir(exist_ok=True)
        save_file(weights, target, metadata={"format": "pt"})
    write_index(folder, dict.fromkeys(weights, shard))
    with pytest.raises(BackboneError, match=reason) as caught:
        Classifier.from_pretrained(folder, TEXTS)
    assert f"'{shard}'" in str(caught.value)


def test_good_shards_load(tmp_path: Path, model: Path) -> None:
    # Through a link, as the hub's own cache keeps its files.
    folder, blobs = Path(shutil.copytree(model, tmp_path / "snapshots" / "commit")), tmp_path / "blobs"
    blobs.mkdir()
    (folder / "model.safetensors").rename(blobs / "1")
    (folder / "model-1.safetensors").symlink_to("../../blobs/1")
    write_index(folder, dict.fromkeys(load_file(blobs / "1"), "model-1.safetensors"))
    sharded, whole = (Classifier.from_pretrained(path, TEXTS, device="cpu") for path in (folder, model))
    assert np.array_equal(sharded.predict_proba(QUERY), whole.predict_proba(QUERY))


def test_link_to_a_pickle_is_not_opened(tmp_path: Path, model: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("pickled")
    with pytest.raises(BackboneError, match=r"cannot be loaded.*get the model again"):
        Classifier.from_pretrained(folder, TEXTS)


def write_index(folder: Path, weight_map: dict[str, str]) -> None:
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


# What the caller asked for


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"classes": ["a", "b"]}, "leave classes and recipe out"), ({"recipe": "paper"}, "leave classes and recipe out")],
)
def test_adapter_has_its_own_classes(of_folder: tuple[Path, np.ndarray], options: dict[str, Any], reason: str) -> None:
    with pytest.raises(AdapterError, match=reason):
        Classifier.from_pretrained(of_folder[0], **options)


def test_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="call fit first"):
        Classifier.from_pretrained("nano", TEXTS).save_pretrained(tmp_path / "adapter")
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    ("file", "change", "naming"),
    [
        (TENSORS, lambda tensors: tensors.pop("anchors"), "anchors"),
        (TENSORS, lambda tensors: tensors.update({"strengths.pull": torch.zeros(5)}), "strengths.pull"),
        (LORA_FILES[1], lambda tensors: tensors.pop(min(tensors)), "lora_A"),
        (LORA_FILES[1], lambda tensors: tensors.update({min(tensors): torch.zeros(1, 2)}), "lora_A"),
        (LORA_FILES[1], lambda tensors: tensors.update(foreign=torch.zeros(1)), "foreign"),
    ],
    ids=[
        "no anchors",
        "strengths of another depth",
        "a LoRA weight less",
        "a LoRA weight of another shape",
        "one more",
    ],
)
def test_weights_that_do_not_fit(
    adapted: Classifier, tmp_path: Path, file: str, change: Callable[[dict[str, torch.Tensor]], Any], naming: str
) -> None:
    """Files that agree with their checksums, and not with the recipe."""
    folder = tmp_path / "adapter"
    adapted.save_pretrained(folder)
    change_tensors(folder, file, change)
    with pytest.raises(AdapterError, match=rf"{file} (does not fit its own recipe|is damaged), ") as caught:
        Classifier.from_pretrained(folder, device="cpu")
    assert naming in str(caught.value)
    assert "\n" not in str(caught.value)
