"""`Classifier` as scikit-learn and its users take it."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score

import atha
from atha.errors import AthaError, DataError
from atha.recipe import Recipe


@pytest.fixture(scope="module")
def backbone(tiny_clip):
    return atha.load_backbone(tiny_clip)


@pytest.fixture
def classifier(backbone):
    return atha.Classifier(backbone, recipe="prototypes")


@pytest.fixture(scope="module")
def images(test_folder):
    files = sorted(test_folder.glob("*/*.png"))
    return files, [file.parent.name for file in files]


def test_images_and_labels_are_a_folder(classifier, images, test_folder):
    files, labels = images
    fitted = classifier.fit(files, labels).predict_proba(files)
    assert np.array_equal(fitted, classifier.fit(test_folder).predict_proba(files))
    assert classifier.score(files, labels) == classifier.score(test_folder) > 0.9


def test_it_is_cross_validated_searched_and_cloned(classifier, images):
    assert is_classifier(classifier)
    scores = cross_val_score(classifier, *images, cv=2, error_score="raise")
    assert scores.shape == (2,) and scores.mean() > 0.8
    assert not classifier.fitted  # each part was fitted by a clone
    search = GridSearchCV(classifier, {"recipe": ["prototypes", "gaussian"]}, cv=2, error_score="raise").fit(*images)
    assert search.best_estimator_.classes_.tolist() == sorted(set(images[1]))
    made = clone(classifier.fit(*images))
    assert made.backbone is classifier.backbone and not made.fitted and made.recipe == classifier.recipe


def test_parameters(classifier, images):
    with pytest.raises(AttributeError, match="call fit"):
        _ = classifier.classes_
    classifier.set_params(recipe="lora", recipe__training__steps=7)
    assert classifier.recipe == Recipe.load("lora", ["training.steps=7"])
    assert classifier.get_params()["recipe"] is classifier.recipe
    with pytest.raises(DataError, match="shots"):
        classifier.set_params(shots=3)
    with pytest.raises(AthaError, match=r"training\.steps"):
        classifier.set_params(recipe__training__step=3)


def test_whole_numbers_keep_their_order(backbone, images):
    numbers = [{"red_thing": 2, "GreenThing": 10, "blue thing": 1}[label] for label in images[1]]
    clf = atha.Classifier(backbone, recipe="prototypes")
    with pytest.warns(atha.AthaWarning, match="tell the model nothing"):
        clf.fit(images[0], np.array(numbers))
    assert clf.classes_.tolist() == ["1", "2", "10"]
    assert clf.score(images[0], numbers) > 0.9


def test_labels_that_do_not_fit(classifier, images, test_folder):
    with pytest.raises(DataError, match="12 images and 11 labels"):
        classifier.fit(images[0], images[1][:-1])
    with pytest.raises(DataError, match="no list of images"):
        classifier.fit(str(test_folder), images[1])
    assert not classifier.fitted


def test_features_are_of_one_space(classifier, images):
    found, texts = classifier.embed(images[0]), classifier.embed_texts(["red", "a photo of a cat."])
    assert found.shape == (12, texts.shape[1]) and found.dtype == texts.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.array_equal(classifier.embed_texts(["cat"], "a photo of a {}.")[0], texts[1])
    assert np.array_equal(classifier.fit(*images).embed(images[0][3])[0], found[3])
    assert classifier.embed([]).shape == (0, texts.shape[1])
    with pytest.raises(DataError, match="leave it out"):
        classifier.embed([images[0][0].parent / "none.png"])


def test_a_callback_ends_training(backbone, images):
    class Enough(Exception):
        pass

    def until(now):
        if now.step == 2:
            raise Enough

    clf = atha.Classifier(backbone, recipe=Recipe.load("lora", ["training.steps=4", "training.precision=float32"]))
    with pytest.raises(Enough):
        clf.fit(*images, callbacks=[until])
    assert not clf.fitted
    assert "lora_A" not in "".join(backbone.model.state_dict())


def test_a_seed_that_is_none(backbone, images):
    with pytest.raises(DataError, match="the seed is -1: give one that is not negative"):
        atha.Classifier(backbone, recipe="prototypes").fit(*images, seed=-1)


def test_callbacks_are_told_of_every_step(backbone, images):
    told, again = [], []
    recipe = Recipe.load(
        "auto", ["training.steps=4", "training.precision=float32", 'blend.members=["text", "adapted"]']
    )
    clf = atha.Classifier(backbone, recipe=recipe).fit(*images, callbacks=[told.append, again.append])
    assert told == again
    assert [now.step for now in told] == list(range(1, told[0].steps + 1))
    assert [now.loss for now in told if not now.half] == clf.history
    # Both halves, three quarters of the steps, go together.
    assert sum(now.half for now in told) == told[0].steps - 4 == 3
    told.clear()
    atha.Classifier(backbone, recipe="prototypes").fit(*images, callbacks=[told.append])
    assert told == []


@pytest.mark.parametrize(("given", "mend"), [(print, r"a list of functions, \[print\]"), ([print, 3], "holds 3")])
def test_callbacks_that_are_none_are_refused_before_training(backbone, images, given, mend):
    with pytest.raises(DataError, match=mend):
        atha.Classifier(backbone, recipe="lora").fit(*images, callbacks=given)
