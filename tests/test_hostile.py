"""Files that somebody changed to do harm, or that came to harm: the right answer, or a sentence that names the file."""

import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random

import pyarrow
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.torch import load_file, save_file

import making
import tiny_models
from atha import Classifier, Recipe, backbones
from atha import recipe as recipe_module
from atha.bench.store import Store
from atha.data.opening import open_pool
from atha.episodes import draw_episodes, write_episodes
from atha.errors import AthaError
from atha.methods import make_method
from attacks import ATTACKS, IMAGE, KINDS, refused, strike, use_adapter
from conftest import COLOURS, write_images
from mutations import renew_checksums
from saved_adapters import change_tensors
from stores import definition, episode_set
from stores import fill as fill_store

WEIGHTS = {"text": 1, "adapted": 1, "prototypes": 1, "gaussian": 1}
RECIPES = {"released": {}, "auto": {"blend.weights": WEIGHTS, "blend.views": ["flip"]}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, and an adapter of each kind; not to be changed."""
    root = tmp_path_factory.mktemp("hostile")
    write_images(root / "support", COLOURS, 2)
    write_images(root / "test", COLOURS, 1, seed=1)
    for name in KINDS:
        if name in RECIPES:
            recipe = Recipe.load(name, RECIPES[name] | {"training.steps": 1})
            fitted = Classifier.from_pretrained("nano", recipe=recipe, device="cpu").fit(root / "support")
        else:
            bare = Classifier.from_pretrained("nano", device="cpu")
            fitted = bare._learn(root / "support", make_method(name)[0].fit, 0)
        fitted.save_pretrained(root / name)
    return root


@pytest.fixture(scope="module")
def loaded_once() -> Iterator[None]:
    """The built-in model, which nobody changes, is read from disk once."""
    real = backbones.load_backbone
    nano = cache(lambda: real("nano"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            backbones,
            "load_backbone",
            lambda name, *more, **options: nano() if name == "nano" else real(name, *more, **options),
        )
        yield


# Adapters whose checksums were renewed


def set_value(file: str, value: object, *keys: str) -> Callable[[Path], None]:
    """Change a value of a JSON file."""

    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        part = content
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        (folder / file).write_text(json.dumps(content))

    return change


def write(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(content) and None


def fill(file: str, name: str, value: float) -> Callable[[Path], None]:
    """One number of a tensor."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(-1)[0] = value

    return lambda folder: change_tensors(folder, file, change)


def put(file: str, name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    """Another tensor in the place of one."""
    return lambda folder: change_tensors(
        folder, file, lambda tensors: tensors.update({name: make(tensors[name]).contiguous()})
    )


def lora(name: str) -> str:
    return f"base_model.model.vision_model.encoder.layers.0.self_attn.q_proj.lora_{name}.weight"


NAN, INF = float("nan"), float("inf")
REST, LORA, SUPPORT = "atha.safetensors", "adapter_model.safetensors", "support.safetensors"
HARM = {
    "released": {
        "no header": (write(REST, b"\xff" * 100), "atha.safetensors is damaged, it is no safetensors"),
        "a header without end": (
            write(LORA, (1 << 40).to_bytes(8, "little") + b"{" * 90),
            "adapter_model.safetensors is",
        ),
        "nothing": (write(REST, b""), "atha.safetensors is damaged, it is no safetensors"),
        "deep JSON": (write("recipe.json", b"[" * 90_000), "recipe.json is nested more than 64 deep"),
        "a class less": (set_value("classes.json", "x", "more"), "incomplete atha.json"),
        "no text": (set_value("classes.json", 3, "red_thing"), "classes.json cannot be used"),
        "NaN in LoRA": (fill(LORA, lora("A"), NAN), "lora_A.weight' holds a number that is none"),
        "infinite anchors": (fill(REST, "anchors", INF), "'anchors' holds a number that is none or infinite"),
        "NaN in texts": (fill(REST, "class_text_features", NAN), "'class_text_features' holds"),
        "minus infinity": (fill(REST, "strengths.pull", -INF), "'strengths.pull' holds a number"),
        "flat texts": (
            put(REST, "class_text_features", torch.flatten),
            "'class_text_features' has shape (576,), not (N, 192)",
        ),
        "texts of fewer classes": (put(REST, "class_text_features", lambda one: one[:2]), "'anchors' has shape"),
        "half texts": (
            put(REST, "class_text_features", torch.Tensor.half),
            "'class_text_features' holds numbers of type float16",
        ),
        "whole anchors": (put(REST, "anchors", torch.Tensor.long), "'anchors' holds numbers of type int64"),
        "narrow anchors": (put(REST, "anchors", lambda one: one[:, :9]), "'anchors' has shape"),
        "a strength alone": (put(REST, "strengths.pull", lambda one: one[0]), "'strengths.pull' has shape ()"),
        "narrow LoRA": (put(LORA, lora("B"), lambda one: one[:, :1]), "lora_B.weight' has shape"),
        "a rank that no memory holds": (set_value("recipe.json", 10**12, "lora", "rank"), "lora_A.weight' has shape"),
        "a context of another width": (put(REST, "context", lambda one: one[:, :4]), "'context' has shape"),
        "NaN as a scale": (write("atha.json", b'{"format": NaN}'), "atha.json holds NaN, which is no number"),
        "an infinite scale": (set_value("atha.json", INF, "run", "logit_scale"), "atha.json holds Infinity"),
        "a list as a scale": (
            set_value("atha.json", [4.0], "run", "logit_scale"),
            "atha.json is damaged, its run.logit_scale",
        ),
        "support of NaN": (fill(SUPPORT, "features", NAN), "support.safetensors is damaged, 'features' holds"),
        "support of a class that is not there": (
            fill(SUPPORT, "labels", 9),
            "support.safetensors is damaged, 'labels' names",
        ),
        "support of other counts": (fill(SUPPORT, "labels", 2), "'labels' has other numbers of images"),
        "narrow support": (
            put(SUPPORT, "features", lambda one: one[:, :9]),
            "support.safetensors has features of 9 values",
        ),
        "labels that are none": (put(SUPPORT, "labels", torch.Tensor.float), "'labels' holds numbers of type float32"),
        "ends of pictures": (put(SUPPORT, "picture_ends", torch.Tensor.prod), "'picture_ends' has shape ()"),
    },
    "auto": {
        "no scale": (
            set_value("atha.json", 0.0, "fitted", "members", "prototypes", "scale"),
            "members.prototypes.scale",
        ),
        "a member of fewer classes": (
            put(REST, "blend.text.weights", lambda one: one[:2]),
            "its members have 2 and 3 classes",
        ),
        "minus infinity in a blend": (fill(REST, "blend.gaussian.bias", -INF), "'blend.gaussian.bias' holds a number"),
        "an aspect often": (set_value("atha.json", ["plain"] * 999, "fitted", "aspects"), "aspects are"),
    },
    "prototypes": {
        "NaN": (fill(REST, "weights", NAN), "'weights' holds a number that is none"),
        "fewer classes": (
            lambda folder: [put(REST, name, lambda one: one[:2])(folder) for name in ("weights", "bias")],
            "is for 2 classes and classes.json beside it names 3",
        ),
        "no class that can be": (put(REST, "bias", lambda one: torch.full_like(one, -INF)), "'bias' leaves no class"),
        "a kind that is none": (set_value("atha.json", [], "fitted", "kind"), "incomplete atha.json"),
    },
    "tip-adapter": {
        "keys of NaN": (fill(REST, "keys", NAN), "'keys' holds a number that is none"),
        "values of other classes": (put(REST, "values", lambda one: one[:, :2]), "'values' has shape"),
        "a list as alpha": (set_value("atha.json", [1.0], "fitted", "alpha"), "does not fit its own recipe"),
        "no beta": (set_value("atha.json", None, "fitted", "beta"), "does not fit its own recipe"),
        "an alpha that overflows": (
            set_value("atha.json", 1e308, "fitted", "alpha"),
            "scores of the classes are not finite",
        ),
    },
}


@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind, cases in HARM.items() for case in cases])
@pytest.mark.usefixtures("loaded_once")
def test_adapter_that_was_changed_with_its_checksums(kind: str, case: str, place: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(place / kind, tmp_path / "adapter"))
    change, sentence = HARM[kind][case]
    change(folder)
    renew_checksums(folder)
    said = refused(lambda: use_adapter(folder, place / IMAGE))
    assert said is not None, "it was accepted"
    assert sentence in said


@pytest.mark.usefixtures("loaded_once")
def test_a_class_that_cannot_be_has_no_probability(place: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(place / "prototypes", tmp_path / "adapter"))
    fill(REST, "bias", -INF)(folder)
    found = Classifier.from_pretrained(folder, device="cpu").predict_proba([place / IMAGE])
    assert found[0, 0] == 0
    assert found.sum() == pytest.approx(1)


def test_weights_that_are_not_finite(place: Path, tmp_path: Path) -> None:
    """A model says nothing rather than that a probability is no number, and nothing is learned from it."""
    nano = Path(backbones.__file__).parent / "nano"
    folder = Path(shutil.copytree(nano, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] = NAN
    save_file(weights, folder / "model.safetensors")
    made = Classifier.from_pretrained(folder, list(COLOURS), "gaussian", device="cpu")
    image = place / IMAGE
    for use in (lambda: made.predict_proba([image]), lambda: made.fit(place / "support")):
        with pytest.raises(AthaError, match=f"{folder} makes features that are not finite"):
            use()


# Anything, changed at random

# Kilobytes of all that this process takes, with the libraries and the models that are attacked.
MOST = 1_500_000


@pytest.fixture(scope="module")
def everything(place: Path) -> Iterator[Path]:
    """Files of all kinds."""
    texts = place / "texts"
    texts.mkdir()
    files = sorted(path.relative_to(place).as_posix() for path in (place / "support").rglob("*.png"))
    table = [(file, file.split("/")[1]) for file in files]
    (texts / "table.csv").write_text("path,label\n" + "".join(f"{file},{label}\n" for file, label in table))
    (texts / "table.tsv").write_text("file\tclass\n" + "".join(f'"{file}"\t{label}\n' for file, label in table))
    one_hot = [",".join([file, *(str(int(label == one)) for one in COLOURS)]) for file, label in table]
    (texts / "one-hot.csv").write_text("\n".join([",".join(["image", *COLOURS]), *one_hot]) + "\n")
    lines = [json.dumps({"file_name": file, "label": label}) for file, label in table]
    (texts / "rows.jsonl").write_text("\n".join(lines) + "\n")
    (texts / "list.txt").write_text("\n".join(files) + "\n")
    (texts / "labelled.txt").write_text("".join(f"{file} {len(label)}\n" for file, label in table))
    columns = {"image": [(place / file).read_bytes() for file, _ in table], "label": [label for _, label in table]}
    parquet.write_table(pyarrow.table(columns), texts / "rows.parquet")
    (place / "images").mkdir()
    for number, content in enumerate(making.of_every_kind(place)):
        (place / "images" / f"{number:02}").write_bytes(content)
    preset = Path(recipe_module.__file__).parent / "presets" / "released.toml"
    shutil.copy(preset, texts / "recipe.toml")
    (texts / "recipe.json").write_text(json.dumps(Recipe.load("auto").model_dump(mode="json")))
    pool = open_pool(str(place / "support"))
    write_episodes(texts / "episodes.json", draw_episodes(pool, way=2, shot=1, query=1, episodes=3, seed=1))
    with Store(place / "results.db", create=True) as store:
        for method in ("zero-shot", "lora"):
            fill_store(store, definition(method), range(4))
        store.add_episodes(episode_set(3))
    shutil.copytree(tiny_models.NANO_FOLDER, place / "models" / "nano")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATHA_CACHE", str(place / "cache"))
        yield place


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("loaded_once")
def test_files_changed_at_random(
    everything: Path, tmp_path_factory: pytest.TempPathFactory, attack: Callable[[Random, Path, Path], None]
) -> None:
    @settings(derandomize=True, deadline=None, max_examples=ATTACKS[attack], database=None)
    @given(st.integers(0, 2**32 - 1))
    def run(seed: int) -> None:
        strike(attack, seed, everything, tmp_path_factory.mktemp("here"))

    run()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("loaded_once")
def test_ten_thousand_files_changed_at_random(everything: Path, tmp_path: Path) -> None:
    """No other error, none that takes long, and none that takes much memory."""
    for kind, save in tiny_models.SAVE.items():
        save(everything / "models" / kind)
    for seed in range(10_000):
        attack = list(ATTACKS)[seed % len(ATTACKS)]
        here = tmp_path / "here"
        here.mkdir()
        started = sum(os.times()[:4])
        strike(attack, seed, everything, here)
        assert sum(os.times()[:4]) - started < 10, f"{attack.__name__} {seed}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert peak < MOST, f"{attack.__name__} {seed} took {peak} kB"
        shutil.rmtree(here)
