"""Adapters of fitted models that train nothing in the backbone: saved, loaded, and used by every verb."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from atha import Classifier, Recipe
from atha.adapter.record import LORA_FILES, RECORD, TENSORS
from atha.errors import AdapterError
from atha.methods import ByScores, Fitted, LinearScores, make_method, restore
from commands import run
from conftest import COLOURS, write_images
from saved_adapters import change_tensors

METHODS = {
    "zero-shot": "linear",
    "prototypes": "linear",
    "linear-probe": "linear",
    "tip-adapter": "tip-adapter",
    "tip-adapter-f": "tip-adapter",
}
VERBS = {
    "info": ["info", "adapter"],
    "predict": ["predict", "adapter", "test"],
    "evaluate": ["evaluate", "adapter", "test"],
    "explain": ["explain", "adapter", "test/blue thing/1_0.png"],
    "report": ["report", "adapter", "--test", "test", "--out", "new.html", "--mistakes", "1"],
}


@pytest.fixture(scope="module")
def place(tiny_clip: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Support and test images, and an adapter of each method; not to be changed."""
    root = tmp_path_factory.mktemp("kinds")
    write_images(root / "support", COLOURS, 2)
    write_images(root / "test", COLOURS, 3, seed=1)
    for name in METHODS:
        fit(tiny_clip, root / "support", name).save_pretrained(root / name)
    recipe = Recipe.load("paper", ["training.steps=1"])
    Classifier.from_pretrained(tiny_clip, recipe=recipe, device="cpu").fit(root / "support").save_pretrained(
        root / "atha"
    )
    return root


def fit(model: str, support: Path, name: str) -> Classifier:
    return Classifier.from_pretrained(model, device="cpu")._learn(support, make_method(name)[0].fit, 0)


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """The working directory, with an adapter and test images."""

    def enter(name: str) -> Path:
        (tmp_path / "adapter").symlink_to(place / name)
        (tmp_path / "test").symlink_to(place / "test")
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return enter


@pytest.mark.parametrize(("name", "kind"), METHODS.items())
def test_loaded_predicts_the_same_bits(tiny_clip: str, place: Path, name: str, kind: str) -> None:
    files = sorted((place / "test").rglob("*.png"))
    made, loaded = fit(tiny_clip, place / "support", name), Classifier.from_pretrained(place / name, device="cpu")
    assert np.array_equal(loaded.predict_proba(files), made.predict_proba(files))
    assert loaded.record.kind == loaded._fitted.kind == kind
    assert loaded.strengths is None
    assert loaded.history == []
    record = json.loads((place / name / RECORD).read_text())
    assert record["format"] == 2, "a version that knows what recipes train alone must refuse it"
    assert record["fitted"] == made._fitted.definition()
    assert not {*LORA_FILES} & {path.name for path in (place / name).iterdir()}


def test_saves_what_it_loaded(place: Path, tmp_path: Path) -> None:
    loaded = Classifier.from_pretrained(place / "linear-probe", device="cpu")
    result = loaded.compare(place / "test")
    assert np.array_equal(result["adapted"].probabilities, result["linear probe"].probabilities)
    loaded.save_pretrained(tmp_path / "again", result)
    assert (tmp_path / "again" / TENSORS).read_bytes() == (place / "linear-probe" / TENSORS).read_bytes()
    again = Classifier.from_pretrained(tmp_path / "again", device="cpu")
    assert again.record.evaluation.accuracy == result["adapted"].accuracy
    assert "(linear)" in (tmp_path / "again" / "README.md").read_text()


@pytest.mark.parametrize("name", ["linear-probe", "tip-adapter"])
@pytest.mark.parametrize("verb", VERBS)
def test_verbs(here: Callable[[str], Path], verb: str, name: str) -> None:
    folder = here(name)
    result = run(*VERBS[verb])
    assert result.exit_code == 0, result.output
    assert METHODS[name] in {
        "info": result.stdout,
        "report": (folder / "new.html").read_text() if verb == "report" else "",
    }.get(verb, METHODS[name])


def test_explain_shows_the_probabilities_that_are_predicted(place: Path) -> None:
    photo = next((place / "test").rglob("*.png"))
    loaded = Classifier.from_pretrained(place / "linear-probe", device="cpu")
    found = loaded.explain(photo)
    assert np.array_equal(found.after.probabilities, loaded.predict_proba([photo])[0])
    assert not np.array_equal(found.after.probabilities, found.before.probabilities)
    assert np.array_equal(found.after.similarity, found.before.similarity), "the tokens are the frozen model's"
    assert not found.after.moves
    assert "frozen" in found.after.anchors


@pytest.mark.parametrize(
    ("name", "change", "naming"),
    [
        ("linear-probe", lambda tensors: tensors.pop("weights"), "weights"),
        ("linear-probe", lambda tensors: tensors.update(weights=torch.zeros(3, 2)), "weights"),
        ("linear-probe", lambda tensors: tensors.update(bias=torch.zeros(2)), "bias"),
        ("linear-probe", lambda tensors: tensors.update(foreign=torch.zeros(1)), "foreign"),
        ("tip-adapter", lambda tensors: tensors.update(values=torch.zeros(6, 2)), "values"),
        ("tip-adapter", lambda tensors: tensors.update(foreign=torch.zeros(1)), "foreign"),
    ],
)
def test_tensors_that_do_not_fit(
    place: Path, tmp_path: Path, name: str, change: Callable[[dict[str, torch.Tensor]], None], naming: str
) -> None:
    folder = tmp_path / "adapter"
    Classifier.from_pretrained(place / name, device="cpu").save_pretrained(folder)
    change_tensors(folder, TENSORS, change)
    with pytest.raises(AdapterError, match="does not fit its own recipe") as caught:
        Classifier.from_pretrained(folder, device="cpu")
    assert naming in str(caught.value)


def test_a_function_cannot_be_saved(tiny_clip: str, place: Path) -> None:
    with pytest.raises(AdapterError, match=r"ByScores cannot be saved: give a fitted model of .*linear"):
        Classifier.from_pretrained(tiny_clip, device="cpu")._learn(place / "support", lambda asked: ByScores(len), 0)


def test_kinds_are_told_apart() -> None:
    with pytest.raises(TypeError, match="'linear' already"):

        class Other(LinearScores, kind="linear"):
            pass

    with pytest.raises(TypeError, match="Lost has the kind 'lost' and could be saved but not loaded"):

        class Lost(Fitted, kind="lost"):
            pass

    class Derived(LinearScores):
        pass

    with pytest.raises(AdapterError, match="Derived cannot be saved"):
        Derived(np.zeros((2, 3))).definition()
    with pytest.raises(AdapterError, match="'oracle' is not known"):
        restore({"kind": "oracle"}, {}, Recipe.load("paper"), None)


@pytest.mark.parametrize("name", ["atha", "linear-probe"])
@pytest.mark.parametrize("verb", VERBS)
def test_each_file_is_read_once(here: Callable[[str], Path], verb: str, name: str) -> None:
    here(name)
    opened, watching = [], [True]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching[0] and event == "open" and str(arguments[0]).startswith("adapter/"):
            opened.append(Path(str(arguments[0])).name)

    sys.addaudithook(watch)
    result = run(*VERBS[verb])
    watching[0] = False
    assert result.exit_code == 0, result.output
    assert {RECORD, TENSORS} <= set(opened)
    assert len(opened) == len(set(opened)), opened
