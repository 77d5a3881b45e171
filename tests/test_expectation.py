"""What is said of a fit to many images, and that it changes nothing."""

import numpy as np
import pytest

import atha
from atha.methods.tuned import planned
from atha.recipe import Recipe
from conftest import write_images

QUICK = Recipe.load("paper", ["training.steps=1", "training.precision=float32", "lora=none"])


def test_many_images(tmp_path, monkeypatch):
    support = write_images(tmp_path, {"red": (200, 60, 60), "blue": (60, 60, 200)}, 2)
    clf = atha.Classifier.from_pretrained("nano", recipe=QUICK).fit(support, seed=1)
    losses, tensors = clf.history, clf._fitted.state()
    monkeypatch.setattr("atha.fitting.MANY", 1)
    said = r"there are 4 support images, 2 of the largest class: fitting them will take \d+ seconds? to \d+ seconds?"
    with pytest.warns(atha.AthaWarning, match=said):
        clf.fit(support, seed=1)
    assert clf.history == losses
    assert all(np.array_equal(value, tensors[name]) for name, value in clf._fitted.state().items())


def test_images_that_cannot_be_read_are_no_measure(tmp_path, monkeypatch):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"no image")
    monkeypatch.setattr("atha.fitting.MANY", 0)
    clf = atha.Classifier.from_pretrained("nano", recipe="prototypes")
    with pytest.warns(atha.AthaWarning, match="which will take long"), pytest.raises(atha.AthaError, match="'cat'"):
        clf.fit(tmp_path)


@pytest.fixture(scope="module")
def backbone():
    return atha.load_backbone("nano")


def test_planned(backbone):
    labels = np.repeat([0, 1], [4, 2])
    assert planned(Recipe.load("paper", ["training.steps=8"]), labels, 0, backbone) == [(8, 6)]
    assert planned(Recipe.load("paper", ["training.steps=8", "training.batch_size=4"]), labels, 0, backbone) == [(8, 4)]
    assert planned(Recipe.load("auto", ["training.steps=8"]), labels, 0, backbone) == [(8, 6), (6, 6)]
    small = Recipe.load("auto", ["training.steps=8", "training.batch_size=2"])
    assert planned(small, labels, 0, backbone) == [(8, 2), (6, 4)]


def test_halves_that_are_not_alike_are_planned_one_after_the_other(backbone):
    labels = np.repeat([0, 1], [3, 2])
    assert planned(Recipe.load("auto", ["training.steps=8"]), labels, 0, backbone) == [(8, 5), (6, 2), (6, 3)]
    anywhere = Recipe.load("auto", ["training.steps=8", 'lora.projections=["v", "out"]'])
    assert planned(anywhere, np.repeat([0, 1], [4, 2]), 0, backbone) == [(8, 6), (6, 3), (6, 3)]
