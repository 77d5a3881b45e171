"""Bad input at the command line: one sentence with the value and the mend, exit code 2, nothing on disk changed."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from commands import run
from saved_adapters import change_tensors

FIT = ["fit", "support", "--out", "new", "--set", "training.steps=1", "--model", "tiny"]

Refused = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def quiet_transformers() -> Iterator[None]:
    """As `main` sets it."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny_clip: str) -> Path:
    """An adapter for the classes cat and dog; for copying."""
    folder = tmp_path_factory.mktemp("fitted")
    support(folder / "support")
    made = run("fit", folder / "support", "--out", folder / "adapter", *FIT[4:-1], tiny_clip)
    assert made.exit_code == 0, made.output
    return folder / "adapter"


@pytest.fixture
def here(tmp_path: Path, tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a model and a support set of cat and dog."""
    monkeypatch.chdir(tmp_path)
    Path("tiny").symlink_to(tiny_clip)
    support(tmp_path / "support")
    return tmp_path


@pytest.fixture
def saved(here: Path, adapter: Path) -> Path:
    """A good adapter in the working directory."""
    return Path(shutil.copytree(adapter, here / "adapter"))


@pytest.fixture
def refused(here: Path) -> Refused:
    """Runs the command line, which must refuse; returns the sentence."""

    def refuse(*arguments: object, naming: tuple[str, ...]) -> str:
        before = snapshot(here)
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        sentences = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(sentences) == 1, result.stderr
        assert result.stderr.rstrip("\n").endswith(sentences[0]), "the sentence is the last line"
        assert not result.stdout, "no result is printed"
        for text in naming:
            assert text in sentences[0]
        assert snapshot(here) == before
        return sentences[0]

    return refuse


def warnings_of(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def truncate(path: Path, share: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def support(folder: Path, names: tuple[str, ...] = ("cat", "dog"), images: int = 1) -> Path:
    for name in names:
        for image in range(images):
            picture(folder / name / f"{image}.png", seed=int.from_bytes(os.fsencode(f"{folder.name} {name} {image}")))
    return folder


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder, hidden files too, and what is in it."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


# fit: the support set


def no_folder(here: Path) -> None:
    shutil.rmtree(here / "support")
    (here / "suport").mkdir()


def no_table(here: Path) -> None:
    no_folder(here)
    (here / "support").write_text("not a table")


def empty(here: Path) -> None:
    no_folder(here)
    (here / "support").mkdir()


def one_class(here: Path) -> None:
    shutil.rmtree(here / "support" / "dog")


def empty_class(here: Path) -> None:
    (here / "support" / "newt").mkdir()


def images_without_classes(here: Path) -> None:
    no_folder(here)
    picture(here / "support" / "cat.png")


def unreadable_class(here: Path) -> None:
    truncate(here / "support" / "dog" / "0.png")
    (here / "support" / "dog" / "1.png").write_bytes(b"")


def code_beside_classes(here: Path) -> None:
    truncate(here / "support" / "cat" / "0.png")
    picture(here / "support" / "cat" / "1.png")
    (here / "support" / "scripts").mkdir()
    (here / "support" / "scripts" / "load.py").write_text("import os")


def same_text(here: Path) -> None:
    support(here / "support", ("a_b", "a b"))


def same_image(here: Path) -> None:
    shutil.copy(here / "support" / "cat" / "0.png", here / "support" / "dog" / "twin.png")


def name_without_words(here: Path) -> None:
    support(here / "support", ("___",))


def name_that_is_no_text(here: Path) -> None:
    support(here / "support", (os.fsdecode(b"caf\xe9"),))


def text_too_long(here: Path) -> None:
    support(here / "support", ("long " * 40 + "name",))


SUPPORT = [
    (no_folder, ("'support'", "did you mean 'suport'", "give a folder")),
    (no_table, ("'support'", "give a folder", ".csv")),
    (empty, ("'support'", "no class folders", "give a folder")),
    (one_class, ("only 'cat'", "add a folder")),
    (empty_class, ("newt", "add images or remove")),
    (images_without_classes, ("'support'", "cat.png", "one folder per class")),
    (unreadable_class, ("'dog'", "support/dog/0.png: the image is truncated or corrupt", "add one, or leave")),
    (code_beside_classes, ("support/scripts'", "(but load.py)", "move it out of 'support'")),
    (same_text, ("'a b'", "'a_b'", "--classes")),
    (same_image, ("support/cat/0.png", "support/dog/twin.png", "remove one")),
    (name_without_words, ("'___'", "rename it")),
    (name_that_is_no_text, ("'caf\\udce9'", "not UTF-8", "rename it")),
    (text_too_long, ("'long long", "tokens", "shorten")),
]


@pytest.mark.parametrize(("break_it", "naming"), SUPPORT, ids=[case[0].__name__ for case in SUPPORT])
def test_support_folder(
    here: Path, refused: Refused, break_it: Callable[[Path], None], naming: tuple[str, ...]
) -> None:
    break_it(here)
    refused(*FIT, naming=naming)


def test_support_zip(here: Path, refused: Refused) -> None:
    with zipfile.ZipFile(here / "images.zip", "w") as archive:
        archive.write("support/cat/0.png")
    refused("fit", "images.zip", *FIT[2:], naming=("'images.zip'", "unpack it"))


@pytest.mark.parametrize(
    ("text", "naming"),
    [
        ("who,size\nx.p,3\n", ("table.csv", "'who', 'size'", "--image-column")),
        ("path,label\na.png,cat\nb.png,dog\n", ("table.csv", "none of its 2 images", "'a.png'", "--images DIR")),
        ("path,label\nsupport/cat/0.png,\n", ("table.csv", "row 2", "'label'", "fill it")),
        ("path,label\nsupport/cat/0.png,cat\nnowhere.png,dog\n", ("'dog'", "'nowhere.png' was looked for")),
        ("path,label\nsupport/cat/0.png,cat\nsupport/cat/0.png,dog\n", ("row 3", "'cat'", "'dog'", "keep one")),
    ],
    ids=["no columns", "another folder", "no value", "a class whose only file is missing", "two labels"],
)
def test_support_table(here: Path, refused: Refused, text: str, naming: tuple[str, ...]) -> None:
    (here / "table.csv").write_text(text)
    refused("fit", "table.csv", *FIT[2:], naming=naming)


# fit: class texts


@pytest.mark.parametrize(
    ("text", "naming"),
    [
        (None, ("classes.json", "No such file", "check the path")),
        ("{cat: 1}", ("classes.json", "line 1", "correct it")),
        ('{"cta": "a cat"}', ("'cta'", "did you mean 'cat'")),
        ('{"cat": "pet", "dog": "pet"}', ("'cat'", "'dog'", "'pet'", "name them apart")),
        ('{"cat": 1}', ("classes.json", "'cat'", "1", "give a string")),
        ('["cat", "dog", "newt"]', ("'newt'", "one name per label")),
        (json.dumps({"cat": "very " * 60 + "big cat"}), ("'very very", "tokens", "shorten")),
        ("3", ("classes.json", "3", "give an object")),
    ],
    ids=["missing", "not JSON", "foreign key", "same texts", "no string", "one too many", "too long", "a number"],
)
def test_classes_file(here: Path, refused: Refused, text: str | None, naming: tuple[str, ...]) -> None:
    if text is not None:
        (here / "classes.json").write_text(text)
    refused(*FIT, "--classes", "classes.json", naming=naming)


# fit: the recipe


@pytest.mark.parametrize(
    ("options", "naming"),
    [
        (("--recipe", "papr"), ("'papr'", "did you mean 'paper'")),
        (("--recipe", "nowhere.toml"), ("nowhere.toml", "check the path")),
        (("--set", "training.step=3"), ("'training.step'", "'training.steps'")),
        (("--set", "lora.rank=many"), ("'lora.rank'", '"many"', "integer")),
        (("--set", "training.steps=0"), ("'training.steps'", "0", "greater than 0")),
        (("--set", "training.steps"), ("'training.steps'", "key=value")),
        (("--set", 'lora.projections=["q", "x"]'), ("'lora.projections", '"x"', "'q', 'k', 'v' or 'out'")),
        (("--set", "lora.projections=[]"), ("'lora.projections'", "at least 1")),
        (("--recipe", "clip-lora", "--set", "lora=none"), ("nothing would be trained", "keep lora")),
        (("--set", "prompt.template=a photo"), ("'prompt.template'", '"a photo"', "{}")),
        (("--set", "training.precision=float16"), ("float16", "cpu", "training.precision=auto")),
        (("--set", "training.precision=half"), ("'training.precision'", '"half"', "'float32'")),
    ],
    ids=lambda value: " ".join(value[1::2]) if value[0].startswith("--") else "",
)
def test_recipe(refused: Refused, options: tuple[str, ...], naming: tuple[str, ...]) -> None:
    refused(*FIT, "--device", "cpu", *options, naming=naming)


@pytest.mark.parametrize(
    ("name", "text", "naming"),
    [
        ("mine.toml", "[training]\nstep = 3\n", ("'training.step'", "'training.steps'")),
        ("mine.json", '{"lora": {"rnk": 3}}', ("'lora.rnk'", "'lora.rank'")),
        ("mine.toml", "steps = = 3\n", ("mine.toml", "line 1")),
        ("mine.json", "[1]", ("mine.json", "holds no table of keys")),
    ],
    ids=["unknown key in TOML", "unknown key in JSON", "not TOML", "a list"],
)
def test_recipe_file(here: Path, refused: Refused, name: str, text: str, naming: tuple[str, ...]) -> None:
    (here / name).write_text(text)
    refused(*FIT, "--recipe", name, naming=naming)


def test_diverging_training(here: Path, refused: Refused) -> None:
    # `refused` looks for what is left in the parent of --out, hidden folders too.
    naming = ("loss", "step 2", "lower")
    refused(*FIT, "--set", "training.lora.lr=1e30", "--set", "training.steps=20", naming=naming)
    assert {path.name for path in here.iterdir()} == {"support", "tiny"}


# fit: --out


def test_out_is_an_adapter(saved: Path, refused: Refused) -> None:
    refused(*FIT, "--out", "adapter", naming=("adapter holds an adapter already", "--overwrite"))


@pytest.mark.parametrize("more", [[], ["--overwrite"]], ids=["plain", "overwrite"])
def test_out_is_a_foreign_folder(here: Path, refused: Refused, more: list[str]) -> None:
    (here / "thesis").mkdir()
    (here / "thesis" / "chapter.txt").write_text("ten years")
    refused(*FIT, "--out", "thesis", *more, naming=("thesis", "not empty", "choose another --out"))


@pytest.mark.parametrize("out", ["notes.txt", "notes.txt/deeper"])
def test_out_is_a_file(here: Path, refused: Refused, out: str) -> None:
    (here / "notes.txt").write_text("mine")
    refused(*FIT, "--out", out, "--overwrite", naming=("notes.txt", "choose another --out"))


def test_out_is_kept_when_overwriting_fails(saved: Path, refused: Refused) -> None:
    options = ("--out", "adapter", "--overwrite", "--set", "training.lora.lr=1e30", "--set", "training.steps=20")
    refused(*FIT, *options, naming=("loss", "step 2"))


# fit: --eval


def test_eval_missing(refused: Refused) -> None:
    refused(*FIT, "--eval", "tests", naming=("'tests'", "give a folder"))


def test_eval_with_foreign_class(here: Path, refused: Refused) -> None:
    support(here / "test", ("cat", "dgo"))
    refused(*FIT, "--eval", "test", naming=("'dgo' of test", "did you mean 'dog'", "cat, dog", "rename it"))
    assert not (here / "new").exists()


# fit: the model


def test_model_folder_missing(refused: Refused) -> None:
    refused(*FIT, "--model", "./clip", naming=("./clip", "check the path"))


def test_model_is_a_file(here: Path, refused: Refused) -> None:
    (here / "model.safetensors").write_bytes(b"")
    refused(*FIT, "--model", "model.safetensors", naming=("model.safetensors cannot be read", "get the file again"))
    (here / "model.pt").write_bytes(b"")
    refused(*FIT, "--model", "model.pt", naming=("model.pt is a file that is not safetensors", "convert it"))
    refused(*FIT, "--model", "none.safetensors", naming=("there is no file none.safetensors", "check the path"))


def test_model_is_an_adapter(saved: Path, refused: Refused) -> None:
    refused(*FIT, "--model", "adapter", naming=("adapter", "predict or evaluate"))


@pytest.mark.parametrize("verb", ["fit", "info"])
def test_hub_model_when_offline(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, verb: str
) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    name = "atha-tests/no-such-model"
    arguments = [*FIT, "--model", name] if verb == "fit" else ["info", name]
    refused(*arguments, naming=(name, "check the name and the network", "--model nano"))


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_pickled_weights(folder: Path) -> None:
    without_weights(folder)
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")


def with_truncated_weights(folder: Path) -> None:
    truncate(folder / "model.safetensors")


def with_weights_that_are_text(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")


def of_another_family(folder: Path) -> None:
    write_json(folder / "config.json", {"model_type": "bert"})


def of_no_known_family(folder: Path) -> None:
    write_json(folder / "config.json", {"model_type": "clop"})


def without_a_family(folder: Path) -> None:
    write_json(folder / "config.json", {})


def with_damaged_config(folder: Path) -> None:
    truncate(folder / "config.json")


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def without_image_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def with_damaged_image_processor(folder: Path) -> None:
    truncate(folder / "preprocessor_config.json")


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def with_damaged_tokenizer(folder: Path) -> None:
    truncate(folder / "tokenizer.json")


def with_some_weights_missing(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_weights_of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["projection_dim"] += 1
    write_json(folder / "config.json", config)


def index_of(shard: Any) -> Callable[[Path], None]:
    def point(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": {"logit_scale": shard}})

    point.__name__ = f"with_an_index_of_{shard}"
    return point


MODELS = [
    (without_weights, ("has no model.safetensors", "save the weights")),
    (with_pickled_weights, ("pytorch_model.bin", "pickle", "convert it")),
    (with_truncated_weights, ("cannot be loaded", "get the model again")),
    (with_weights_that_are_text, ("cannot be loaded", "get the model again")),
    (of_another_family, ("'bert'", "clip, siglip", "choose one")),
    (of_no_known_family, ("clop", "clip, siglip", "choose one")),
    (without_a_family, ("model_type", "clip, siglip", "choose one")),
    (with_damaged_config, ("config.json", "get the model again")),
    (without_config, ("no config.json", "give a folder")),
    (without_image_processor, ("preprocessor_config.json", "save the model's image processor")),
    (with_damaged_image_processor, ("preprocessor_config.json", "get the model again")),
    (without_tokenizer, ("no tokenizer", "save the model's tokenizer")),
    (with_damaged_tokenizer, ("cannot be loaded", "get the model again")),
    (with_some_weights_missing, ("visual_projection.weight", "get the whole checkpoint")),
    (with_weights_of_another_shape, ("projection", "get the")),
    (index_of("../stolen.safetensors"), ("'../stolen.safetensors'", "outside itself", "trust")),
    (index_of(".."), ("'..'", "outside itself", "trust")),
    (index_of("/etc/passwd"), ("'/etc/passwd'", "outside itself", "trust")),
    (index_of("weights.bin"), ("'weights.bin'", "not safetensors", "convert it")),
    (index_of(["a"]), ("model.safetensors.index.json", "get the model again")),
]


@pytest.mark.parametrize(("break_it", "naming"), MODELS, ids=[case[0].__name__ for case in MODELS])
def test_model_folder(here: Path, refused: Refused, break_it: Callable[[Path], None], naming: tuple[str, ...]) -> None:
    break_it(Path(shutil.copytree("tiny", here / "broken")))
    refused(*FIT, "--model", "broken", naming=("broken", *naming))


# The device


@pytest.mark.parametrize(
    ("device", "naming"),
    [
        ("cuda", ("'cuda'", "not available", "--device auto or cpu")),
        ("cuda:7", ("'cuda:7'", "not available", "--device auto or cpu")),
        ("meta", ("'meta'", "--device auto or cpu")),
        ("gpu", ("'gpu' is no device", "choose auto, cpu")),
        ("cuda:x", ("'cuda:x' is no device", "choose auto, cpu")),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "predict", "evaluate"])
def test_device(
    saved: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    device: str,
    naming: tuple[str, ...],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = FIT if verb == "fit" else [verb, "adapter", "support"]
    refused(*arguments, "--device", device, naming=naming)


# predict and evaluate: the adapter


def edit_recipe(folder: Path) -> None:
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["training"]["steps"] = 99
    write_json(folder / "recipe.json", recipe)


def edit_record(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        record = json.loads((folder / "atha.json").read_text()) | changes
        write_json(folder / "atha.json", {key: value for key, value in record.items() if value is not None})

    return edit


def swap_lora_with_checksum(folder: Path) -> None:
    """Weights of another shape, with a checksum that fits them: only the loading itself can tell."""

    def narrower(lora: dict[str, torch.Tensor]) -> None:
        lora |= {name: value[:, :1].contiguous() for name, value in lora.items()}

    change_tensors(folder, "adapter_model.safetensors", narrower)


ADAPTERS = {
    "missing": (shutil.rmtree, ("no adapter folder adapter", "check the path")),
    "no adapter": (lambda folder: (folder / "atha.json").unlink(), ("atha.json is missing", "atha fit --out")),
    "corrupted weights": (
        lambda folder: truncate(folder / "adapter_model.safetensors", 0.9),
        ("adapter_model.safetensors", "copy the adapter again"),
    ),
    "edited recipe": (edit_recipe, ("recipe.json", "edited", "copy the adapter again")),
    "no classes": (lambda folder: (folder / "classes.json").unlink(), ("classes.json is missing", "copy the adapter")),
    "no LoRA": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        ("adapter_model.safetensors is missing", "copy the adapter"),
    ),
    "newer format": (edit_record(format=3), ("format 3", "reads 1 and 2", "update atha")),
    "format of another kind": (edit_record(format=1), ("atha.json", "copy the adapter again")),
    "kind of a later version": (
        edit_record(format=2, fitted={"kind": "oracle"}),
        ("adapter cannot be used", "'oracle'", "update atha"),
    ),
    "record with a number that is none": (
        edit_record(support={"counts": {"cat": "many", "dog": 1}}),
        ("support.counts.cat", '"many"', "copy the adapter"),
    ),
    "record is cut": (lambda folder: truncate(folder / "atha.json"), ("atha.json", "copy the adapter again")),
    "record without backbone": (edit_record(backbone=None), ("atha.json", "copy the adapter again")),
    "record without run": (edit_record(run=None), ("atha.json", "copy the adapter again")),
    "record of nonsense": (edit_record(run=3), ("atha.json", "copy the adapter again")),
    "record with foreign files": (edit_record(sha256={"/etc/passwd": ""}), ("atha.json", "save the adapter again")),
    "LoRA of another shape": (
        swap_lora_with_checksum,
        ("safetensors does not fit", "copy the adapter again"),
    ),
}


@pytest.mark.parametrize("case", ADAPTERS)
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_broken_adapter(saved: Path, refused: Refused, verb: str, case: str) -> None:
    break_it, naming = ADAPTERS[case]
    break_it(saved)
    refused(verb, "adapter", "support", naming=naming)


@pytest.mark.parametrize("change", [{"run": None}, {"support": {"counts": {"cat": 1}}}], ids=["no run", "no dog"])
def test_info_of_a_broken_record(saved: Path, refused: Refused, change: dict[str, Any]) -> None:
    edit_record(**change)(saved)
    refused("info", "adapter", naming=("atha.json", "copy the adapter again"))


def test_backbone_of_other_weights(saved: Path, here: Path, tiny_clip: str, refused: Refused) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree("tiny", here / "other")
    weights = load_file(here / "other" / "model.safetensors")
    weights["visual_projection.weight"] += 0.01
    save_file(weights, here / "other" / "model.safetensors", metadata={"format": "pt"})
    refused("predict", "adapter", "support", "--model", "other", naming=(tiny_clip, "'other'", "--model"))


# predict: images and table


@pytest.mark.parametrize(
    ("images", "naming"),
    [
        (["nowhere.png"], ("'nowhere.png'", "check the path")),
        (["support/cat/0.png", "nowhere.png"], ("'nowhere.png'", "check the path")),
        (["support/*.jpg"], ("'support/*.jpg'", "check it")),
        (["hollow"], ("'hollow'", "no image", "give a folder")),
    ],
    ids=["missing", "one of two missing", "pattern", "empty folder"],
)
def test_images_to_predict(
    saved: Path, here: Path, refused: Refused, images: list[str], naming: tuple[str, ...]
) -> None:
    (here / "hollow").mkdir()
    refused("predict", "adapter", *images, "--csv", "out.csv", naming=naming)


@pytest.mark.parametrize(
    ("table", "naming"),
    [
        ("old.csv", ("old.csv exists", "--overwrite")),
        ("nowhere/new.csv", ("nowhere", "new.csv", "choose another --csv")),
        ("old.csv/new.csv", ("old.csv", "new.csv", "choose another --csv")),
    ],
)
def test_table_to_write(saved: Path, here: Path, refused: Refused, table: str, naming: tuple[str, ...]) -> None:
    (here / "old.csv").write_text("label,probability,file\n")
    refused("predict", "adapter", "support", "--csv", table, naming=naming)


def test_table_to_write_is_a_folder(saved: Path, here: Path, refused: Refused) -> None:
    (here / "tables").mkdir()
    refused("predict", "adapter", "support", "--csv", "tables", "--overwrite", naming=("tables is a folder", "--csv"))


def test_only_unreadable_images(saved: Path, here: Path, refused: Refused) -> None:
    truncate(picture(here / "x.png"))
    (here / "y.png").write_bytes(b"")
    (here / "old.csv").write_text("label,probability,file\n")
    naming = ("none of the 2 images", "give other images")
    refused("predict", "adapter", "x.png", "y.png", "--csv", "old.csv", "--overwrite", naming=naming)


# evaluate: the test images


def test_evaluate_with_foreign_class(saved: Path, here: Path, refused: Refused) -> None:
    support(here / "test", ("cat", "newt"))
    refused("evaluate", "adapter", "test", naming=("'newt' of test", "cat, dog", "rename it"))


def test_evaluate_on_the_support_set(saved: Path, refused: Refused) -> None:
    naming = ("support", "the same image is in the support set", "give other test images")
    refused("evaluate", "adapter", "support", naming=naming)


# What goes on all the same


def test_predict_names_a_truncated_image_and_goes_on(saved: Path, here: Path) -> None:
    truncate(picture(here / "images" / "bad.png"))
    picture(here / "images" / "good.png", seed=3)
    result = run("predict", "adapter", "images", "--csv", "out.csv")
    assert result.exit_code == 0, result.output
    assert warnings_of(result) == ["Warning: images/bad.png: the image is truncated or corrupt"]
    assert result.output.count("bad.png") == 1
    rows = [line.split(",") for line in (here / "out.csv").read_text().splitlines()]
    assert rows[0] == ["label", "probability", "file"]
    assert [row[2] for row in rows[1:]] == ["images/good.png"]
    assert rows[1][0] in {"cat", "dog"}
    assert 0.5 <= float(rows[1][1]) <= 1


def test_predict_prints_tabs(saved: Path, here: Path) -> None:
    result = run("predict", "adapter", "support", "--all")
    assert result.exit_code == 0, result.output
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[2] for row in rows] == ["support/cat/0.png", "support/dog/0.png"]
    assert all(len(row) == 5 and abs(float(row[3]) + float(row[4]) - 1) < 1e-5 for row in rows)


def test_predict_of_a_name_that_is_no_text(saved: Path, here: Path) -> None:
    picture(here / "images" / os.fsdecode(b"caf\xe9.png"))
    for more in ([], ["--json"], ["--csv", "out.csv"]):
        result = run("predict", "adapter", "images", *more)
        assert result.exit_code == 0, result.output
        shown = (here / "out.csv").read_text("utf-8") if "--csv" in more else result.stdout
        assert "caf\\xe9.png" in shown.replace("\\\\", "\\")


def test_fit_keeps_a_name_that_is_no_text(here: Path) -> None:
    bad = here / "support" / "cat" / os.fsdecode(b"caf\xe9.png")
    bad.write_bytes(b"")
    result = run(*FIT)
    assert result.exit_code == 0, result.output
    record = json.loads((here / "new" / "atha.json").read_text("utf-8"))
    assert record["support"]["left_out"] == [f"{bad.relative_to(here)}: the file is empty (0 bytes)"]


def test_predict_is_the_same_twice(saved: Path) -> None:
    # The recipe has dropout, which must be off in a loaded adapter.
    first, second = (run("predict", "adapter", "support").stdout for _ in range(2))
    assert first == second


def test_classes_file_may_leave_classes_out(here: Path) -> None:
    write_json(here / "classes.json", {"cat": "a tabby"})
    result = run(*FIT, "--classes", "classes.json")
    assert result.exit_code == 0, result.output
    assert json.loads((here / "new" / "classes.json").read_text()) == {"cat": "a tabby", "dog": "dog"}


def test_fit_names_a_truncated_image_and_goes_on(here: Path) -> None:
    truncate(picture(here / "support" / "cat" / "bad.png", seed=5))
    result = run(*FIT)
    assert result.exit_code == 0, result.output
    assert [line for line in warnings_of(result) if "support/cat/bad.png: the image is truncated" in line]
    assert result.output.count("bad.png") == 1
    record = json.loads((here / "new" / "atha.json").read_text())
    assert record["support"]["counts"] == {"cat": 1, "dog": 1}
    assert record["support"]["left_out"] == ["support/cat/bad.png: the image is truncated or corrupt"]


def test_markup_in_names_is_text(here: Path) -> None:
    names = ("[red]x[", "<script>", "[bold]")  # no slash: names of folders
    support(here / "marked", names)
    result = run("fit", "marked", *FIT[2:])
    assert result.exit_code == 0, result.output
    assert not [name for name in names if name not in result.stderr]
    # A slash, as in [/], can come by a table alone.
    rows = [
        f"marked/{name}/0.png,{label}" for name, label in zip(names, ("[red]x[/]", "<script>", "[/x]"), strict=True)
    ]
    (here / "table.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    support(here / "test", names[1:2], images=2)
    (here / "test.csv").write_text("path,label\ntest/<script>/0.png,[red]x[/]\ntest/<script>/1.png,<script>\n")
    fitted = run("fit", "table.csv", *FIT[2:], "--out", "marked-adapter", "--eval", "test.csv")
    assert fitted.exit_code == 0, fitted.output
    for shown in (fitted.stderr, *(run(*verb).stdout for verb in (("evaluate", "marked-adapter", "test.csv"),))):
        assert "[red]x[/]" in shown
        assert "<script>" in shown
    described = run("info", "marked-adapter")
    assert described.exit_code == 0, described.output
    assert "[/x]" in described.stdout
    predicted = run("predict", "marked-adapter", "test/<script>/0.png")
    assert predicted.exit_code == 0, predicted.output
    label, _, file = predicted.stdout.rstrip("\n").split("\t")
    assert label in {"[red]x[/]", "<script>", "[/x]"}
    assert file == "test/<script>/0.png"


def test_info_names_the_nearest_recipe():
    result = run("info", "papr")
    assert result.exit_code == 2
    assert "Error: there is no 'papr', did you mean 'paper'?" in result.stderr


def test_demo_into_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    result = run("demo", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert str(tmp_path / "file") in result.stderr.replace("\n", "")
    assert (tmp_path / "file").read_text() == "mine"
