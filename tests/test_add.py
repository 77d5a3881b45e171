"""More images for a fitted blend: what fitting on all of them gives, and nothing is lost on the way."""

import json
import shutil

import numpy as np
import pytest

import atha
from atha.errors import AthaWarning, DataError
from atha.recipe import Recipe
from commands import run
from conftest import COLOURS, write_images

VIOLET = {"violet thing": (150, 60, 200)}


def pairs(folder):
    return [(file, file.parent.name) for file in sorted(folder.glob("*/*.png"))]


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """Of one class that the support set has, and of a new one."""
    red = {"red_thing": COLOURS["red_thing"]}
    return write_images(tmp_path_factory.mktemp("more"), red | VIOLET, 3, seed=5)


@pytest.fixture(scope="module")
def fit(tiny_clip):
    def fitted(images, recipe="probes", **settings):
        chosen = Recipe.load(recipe, [f"{key.replace('__', '.')}={value}" for key, value in settings.items()])
        return atha.Classifier.from_pretrained(tiny_clip, recipe=chosen, device="cpu").fit(images)

    return fitted


@pytest.fixture(scope="module")
def few(fit, support, tmp_path_factory):
    """An adapter of probes, fitted on the support set."""
    folder = tmp_path_factory.mktemp("few") / "adapter"
    fit(pairs(support)).save_pretrained(folder)
    return folder


@pytest.mark.numbers
@pytest.mark.parametrize("settings", [{}, {"blend__members": '["tip-adapter", "proker"]', "blend__views": '["flip"]'}])
def test_adding_is_fitting_on_all(settings, fit, few, support, more, test_folder, tmp_path):
    """Bit for bit: members, weights, views and probabilities, after saving and loading too."""
    at_once = fit(pairs(support) + pairs(more), **settings)
    if settings:
        fit(pairs(support), **settings).save_pretrained(few := tmp_path / "few")
    grown = atha.Classifier.from_pretrained(few).add(pairs(more))
    files = sorted(test_folder.glob("*/*.png"))
    assert grown.classes == at_once.classes and "violet thing" in grown.classes.labels
    assert np.array_equal(grown.predict_proba(files), at_once.predict_proba(files))
    assert grown.record.definition == at_once.record.definition
    assert grown.record.support == at_once.record.support
    assert grown.support.shown == at_once.support.shown and grown.support.pictures == at_once.support.pictures
    grown.save_pretrained(tmp_path / "many")
    again = atha.Classifier.from_pretrained(tmp_path / "many")
    assert np.array_equal(again.predict_proba(files), at_once.predict_proba(files))
    third = again.add([(file, "GreenThing") for file in files if file.parent.name == "GreenThing"])
    assert third.record.support.counts == {"red_thing": 5, "GreenThing": 6, "blue thing": 2, "violet thing": 3}


def test_what_is_adapted_stays(fit, support, test_folder):
    """And so do weights and views; probes learn from the new images."""
    clf = fit(pairs(support), "auto", training__steps=2, blend__views='["flip"]')
    before, weights = clf._fitted, {name: part.weight for name, part in clf._fitted.parts.items()}
    with pytest.raises(DataError, match="'violet thing' is new, and the adapted model was trained on"):
        clf.add([(file, "violet thing") for file, _ in pairs(test_folder)])
    assert clf._fitted is before, "what fails changes nothing"
    clf.add(pairs(test_folder))
    assert clf._fitted.parts["adapted"] is before.parts["adapted"]
    assert {name: part.weight for name, part in clf._fitted.parts.items()} == weights
    assert clf._fitted.aspects == before.aspects
    changed = [np.abs(clf._fitted.parts[name].fitted.weights - before.parts[name].fitted.weights).max()
               for name in ("prototypes", "gaussian")]  # fmt: skip
    assert min(changed) > 1e-3
    assert clf.history == before.losses and len(clf.support.labels) == len(pairs(support) + pairs(test_folder))


def test_images_that_are_there(few, support, more):
    clf = atha.Classifier.from_pretrained(few)
    file, label = pairs(support)[0]
    with pytest.warns(AthaWarning, match="is in the support set already"):
        clf.add([*pairs(more), (file, label)])
    assert sum(clf.record.support.counts.values()) == len(pairs(support) + pairs(more))
    with pytest.raises(DataError, match=f"is in the support set already, as {label}"):
        clf.add([(file, "violet thing")])
    with pytest.warns(AthaWarning), pytest.raises(DataError, match="no image to add"):
        clf.add([(file, label)])


def test_what_cannot_grow(fit, few, tiny_clip, support, more, tmp_path):
    with pytest.raises(DataError, match="call fit first"):
        atha.Classifier.from_pretrained(tiny_clip, recipe="probes").add(more)
    with pytest.raises(DataError, match="fits no blend"):
        fit(pairs(support), "lora", training__steps=1).add(more)
    clf = atha.Classifier.from_pretrained(few)
    with pytest.raises(DataError, match="a text is given for 'red_thing'"):
        clf.add(more, {"red_thing": "a ruby"})
    clf.save_pretrained(tmp_path / "bare", keep_support=False)
    with pytest.raises(DataError, match="not kept"):
        atha.Classifier.from_pretrained(tmp_path / "bare").add(more)


def test_command(few, more, test_folder, tmp_path):
    out = tmp_path / "adapter"
    shutil.copytree(few, out)
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps({"violet thing": "a plum"}))
    told = run("add", out, more, "--out", out, "--overwrite", "--classes", texts, "--eval", test_folder, code=0).output
    assert "Members of the blend" in told and "linear probe" in told
    assert json.loads((out / "classes.json").read_text())["violet thing"] == "a plum"
    assert "in the support set already" in run("add", out, more, "--out", tmp_path / "x", code=2).output
    assert not (tmp_path / "x").exists()
    refused = run("add", out, more, "--out", tmp_path / "x", "--classes", _listed(tmp_path), code=2)
    assert "give texts of new classes by label" in refused.output
    assert "there is no adapter folder" in run("add", tmp_path / "none", more, "--out", tmp_path / "x", code=2).output


def _listed(folder):
    (folder / "list.json").write_text('["a", "b"]')
    return folder / "list.json"
