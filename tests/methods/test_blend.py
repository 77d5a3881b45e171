"""Evidence and blends: against formulas written another way, their own laws, and real saving and loading."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support_sets import task

import atha
from atha.data.aspects import ASPECTS, aspects_of
from atha.errors import RecipeError
from atha.methods import automatic, make_method, tuned
from atha.methods.base import unit
from atha.methods.blend import ADAPTED, Blend
from atha.methods.evidence import above_chance, folds, held_out, log_likelihood, weigh
from atha.methods.probes import PROBES
from atha.methods.scores import centred
from atha.probability import softmax
from atha.recipe import Recipe, presets

COUNTS = st.lists(st.integers(1, 20), min_size=2, max_size=6)


@given(counts=COUNTS, count=st.integers(2, 5), seed=st.integers(0, 99))
def test_folds_empty_no_class(counts, count, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    where = folds(labels, count, seed)
    for label, images in enumerate(counts):
        own = where[labels == label]
        assert (own == -1).all() if images == 1 else (own >= 0).all()
        for fold in range(count):
            assert (own != fold).any()
            assert (own == fold).sum() <= -(-images // count)


def test_held_out_answers_know_nothing_of_their_fold():
    examples, _ = task([4, 4, 1])
    where, asked = folds(examples.labels, 2, 0), []

    def fit(known):
        asked.append({tuple(row) for row in known.features})
        return lambda other: np.array([[tuple(row) in asked[-1]] * known.classes for row in other], float)

    found = held_out(fit, examples, where)
    assert (found[where >= 0] == 0).all()
    assert np.isnan(found[where < 0]).all()


@pytest.mark.parametrize("together", [0.0, 0.7])
def test_weights_are_the_best_by_a_grid(together):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 60)
    scores = np.stack([2 * np.eye(4)[labels] + rng.normal(size=(60, 4)), rng.normal(size=(60, 4))])
    found = weigh(scores, labels, [1.0, 1.0], [0.5, 2.0], together)
    spread = np.array([0.5, 2.0])

    def losses(weights):
        # Independent weights around a common shift, which is the likeliest for given weights.
        shift = ((weights - 1) / spread**2).sum(axis=1) / ((1 / spread**2).sum() + 1 / together**2) if together else 0.0
        away = (weights - 1 - np.reshape(shift, (-1, 1))) / spread
        prior = (away**2).sum(axis=1) + ((shift / together) ** 2 if together else 0.0)
        joint = np.tensordot(weights, scores, 1).reshape(-1, 4)
        likely = log_likelihood(joint, np.tile(labels, len(weights))).reshape(len(weights), -1)
        return prior / 2 - likely.sum(axis=1)

    grid = np.stack(np.meshgrid(np.linspace(0, 2, 41), np.linspace(0, 2, 41)), axis=-1).reshape(-1, 2)
    assert losses(np.array([found]))[0] <= losses(grid).min() + 1e-9
    assert found[0] > 0.8 and found[1] < 0.3, "who knows the classes is trusted, who knows nothing is not"
    few = weigh(scores[:, :1], labels[:1], [1.0, 1.0], [0.1, 0.1])
    np.testing.assert_allclose(few, 1, atol=0.05)


def test_how_sure_a_blend_is_says_nothing_of_one_member_beside_another():
    """Both give the same answers, of which too many are wrong to be as sure."""
    labels = np.tile(np.arange(4), 5)
    scores = np.repeat(3 * np.eye(4)[(labels + (np.arange(20) % 3 == 0)) % 4][None], 2, axis=0)
    alone = weigh(scores, labels, [1.0, 0.5], [0.2, 0.2])
    found = weigh(scores, labels, [1.0, 0.5], [0.2, 0.2], 10.0)
    assert alone.sum() < 1.2 and found.sum() < 1.2
    np.testing.assert_allclose(found[0] / found[1], 2, rtol=0.02)
    assert alone[0] / alone[1] > 3, "by themselves they lose the same, and the smaller one loses more of itself"


def test_above_chance():
    labels = np.array([0, 1, 2, 3])
    assert above_chance(np.eye(4), labels) == 1
    assert above_chance(-np.eye(4), labels) == 0
    assert above_chance(np.eye(4)[[0, 0, 0, 0]] + 0.0, labels) == 0


def test_aspects():
    """Turned four times, mirrored twice, an image is itself; a nearer one shows its middle."""
    images = (255 * np.random.default_rng(0).random((2, 3, 20, 20))).astype(np.uint8)
    import torch

    plain = torch.from_numpy(images)
    again = plain
    for _ in range(4):
        again = ASPECTS["turn-90"](again)
    assert torch.equal(again, plain) and torch.equal(ASPECTS["flip"](ASPECTS["flip"](plain)), plain)
    assert torch.equal(ASPECTS["turn-270"](ASPECTS["turn-90"](plain)), plain)
    ramp = torch.arange(20, dtype=torch.uint8).mul(12).expand(1, 3, 20, 20)
    near = ASPECTS["nearer"](ramp)
    assert near.shape == ramp.shape
    assert near[0, 0, 0, 0] > ramp[0, 0, 0, 0] and near[0, 0, 0, -1] < ramp[0, 0, 0, -1]
    assert aspects_of(["quarter-turns", "flip", "scales"]) == tuple(ASPECTS)
    assert aspects_of(["flip"]) == ("plain", "flip")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Classes of 1, 3 and 6 noisy images of a colour."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, colour, count in (
        ("red thing", (200, 30, 30), 1),
        ("green", (30, 200, 30), 3),
        ("blue", (30, 30, 200), 6),
    ):
        (folder / name).mkdir()
        for number in range(count):
            noise = rng.integers(-30, 30, (48, 64, 3))
            Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(
                folder / name / f"{number}.png"
            )
    return folder


def fit(model, recipe, photos, **changes):
    return atha.Classifier.from_pretrained(model, recipe=Recipe.load(recipe, changes)).fit(photos)


@pytest.fixture(scope="module")
def fitted(tiny_clip, photos):
    """A function from a recipe and changes of it to a classifier, which is fitted once."""
    made = {}

    def get(recipe, **changes):
        key = recipe, str(changes)
        if key not in made:
            made[key] = fit(tiny_clip, recipe, photos, **changes)
        return made[key]

    return get


@pytest.fixture(scope="module")
def files(photos):
    """Of each class an image."""
    found = sorted(photos.glob("*/*.png"))[::3]
    assert len({file.parent for file in found}) == 3
    return found


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("auto", {"training.steps": 2}),
        ("auto", {"training.steps": 2, "blend.members": ["adapted"]}),
        ("probes", {}),
        ("prototypes", {}),
        ("gaussian", {}),
        ("probes", {"blend.members": ["tip-adapter", "gda", "proker", "lp-plus-plus", "clap"]}),
        ("probes", {"blend.members": ["text"]}),
        ("probes", {"blend.views": ["quarter-turns"], "blend.weights": {"text": 0.5, "prototypes": 1, "gaussian": 2}}),
    ],
)
def test_uneven_support_sets_are_fitted_saved_and_loaded(recipe, changes, fitted, files, tmp_path):
    clf = fitted(recipe, **changes)
    found = clf.predict_proba(files)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12, rtol=0)
    clf.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").exists() == (recipe == "auto")
    again = atha.Classifier.from_pretrained(tmp_path / "adapter")
    assert np.array_equal(again.predict_proba(files), found)
    # An image's answer depends on no other, and on no batch.
    assert np.array_equal(np.concatenate([again.predict_proba([file]) for file in files]), found)
    assert again._fitted.definition() == clf._fitted.definition()


def test_scores_are_the_weighted_sum(fitted, files):
    clf = fitted("auto", **{"training.steps": 2})
    blend = clf._fitted
    assert isinstance(blend, Blend) and list(blend.parts) == ["text", ADAPTED, "prototypes", "gaussian"]
    views = [clf._views.plain(Image.open(file)) for file in files]
    images = clf._now.predictor().viewed(views)
    votes = blend.votes(images)
    assert votes.keys() == blend.parts.keys()
    joint = softmax(sum(np.log(rows.clip(1e-300)) for rows in votes.values()))
    np.testing.assert_allclose(blend.probabilities(images), joint, atol=1e-9)
    plain = blend.plain()
    assert plain.aspects == ("plain",) and len(blend.aspects) > 1
    assert not np.array_equal(plain.probabilities(images), blend.probabilities(images))


def test_weights_follow_held_out_answers(fitted):
    """Classes of one image cannot be held out: they are counted in no accuracy."""
    parts = fitted("probes")._fitted.parts
    assert {part.images for part in parts.values()} == {9}
    assert all(part.accuracy is not None for part in parts.values())


def known_by(features, labels, texts, scale=10.0):
    """A support set, of features of the plain aspect alone."""
    one = {"plain": unit(np.asarray(features, float))}
    return automatic._Task(one, np.asarray(labels), unit(np.asarray(texts, float)), scale, 0)


@pytest.mark.parametrize("right", [True, False])
def test_class_texts_have_to_earn_their_place_where_others_can_be_asked(right):
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), 3)
    ways = np.eye(8)
    features = ways[labels] + 0.3 * rng.normal(size=(12, 8))
    texts = ways[:4] if right else ways[4:] + 0.3 * rng.normal(size=(4, 8))
    known = known_by(features, labels, texts)
    asked = centred(known.features["plain"] @ known.texts.T)
    asked /= asked.std(axis=1).mean()
    found = automatic._decide(known, ("plain",), ["prototypes"], asked)
    assert found["text"].images == found["prototypes"].images == 12
    if right:
        assert found["text"].weight > 1 and found["text"].accuracy == 1
    else:
        assert found["text"].weight == 0 and "too little" in found["text"].why
        without = automatic._decide(known, ("plain",), ["prototypes"], None)
        assert found["prototypes"].weight == without["prototypes"].weight
        one = automatic._decide(known_by(features[::3], labels[::3], texts), ("plain",), ["prototypes"], -asked[::3])
        assert "support images" in one["text"].why, "at one image a class, it is taken for what it says"


def test_training_has_most_to_find_where_class_texts_are_sure_and_wrong():
    """None where they say nothing, and none where they are right."""
    ways = np.eye(8)
    labels = np.repeat(np.arange(4), 2)
    features = ways[labels] + 0.05
    found = {
        name: automatic._to_find(known_by(features, labels, texts, scale), ("plain",))
        for name, texts, scale in (
            ("right", ways[:4], 10.0),
            ("wrong", np.roll(ways[:4], 1, axis=0), 10.0),
            ("vague", np.roll(ways[:4], 1, axis=0), 0.1),
            ("half right", ways[[0, 1, 3, 2]], 10.0),
        )
    }
    all_alike = known_by(ways[labels] + 30 * ways[1], labels, np.roll(ways[:4], 1, axis=0))
    assert above_chance(10 * all_alike.features["plain"] @ all_alike.texts.T, labels) == 0
    assert automatic._to_find(all_alike, ("plain",)) == 0, "they are sure of one class, whatever the image"
    assert found["right"] == 0 and found["vague"] == 0 and found["wrong"] == 1
    np.testing.assert_allclose(found["half right"], 1 - (0.5 - 0.25) / 0.75)


def test_one_image_a_class_says_nothing_of_probes(tiny_clip, photos):
    one = [(file, file.parent.name) for file in sorted(photos.glob("*/0.png"))]
    clf = atha.Classifier.from_pretrained(tiny_clip, recipe="probes").fit(one)
    parts = clf._fitted.parts
    assert parts["prototypes"].accuracy is None and "cannot be asked" in parts["prototypes"].why
    assert parts["text"].images == 3


def test_queries_are_never_learned_from(fitted, files):
    """Inductive: the same answer whatever else is asked, before or beside."""
    clf = fitted("probes")
    alone = clf.predict_proba(files[:1])
    clf.predict_proba(files)
    assert np.array_equal(clf.predict_proba(files[:1]), alone)


def test_recipes_of_blends():
    assert {"auto", "probes", *PROBES} <= set(presets())
    probes = Recipe.load("probes")
    assert not probes.trains and probes.lora is None
    assert "blend" not in Recipe.load("paper").model_dump(mode="json")
    assert Recipe.check(probes.model_dump(mode="json")) == probes
    for wrong, words in (
        ({"blend.members": ["text", "text"]}, "differ"),
        ({"blend.members": ["forest"]}, "blend.members"),
        ({"blend.weights": {"text": 1}}, "one number for each"),
        ({"blend.weights": {"text": 0, "prototypes": 0, "gaussian": 0}}, "not all be 0"),
        ({"blend.views": ["upside-down"]}, "blend.views"),
    ):
        with pytest.raises(RecipeError, match=words):
            Recipe.load("probes", wrong)


@pytest.mark.parametrize("shot", [1, 4])
def test_prior_of_what_is_adapted(shot):
    """It grows with the images, and with what training may find."""
    ways = np.eye(8)
    labels = np.repeat(np.arange(4), shot)
    features = ways[labels] + 0.05
    right, wrong = (
        automatic._beside_each_other(known_by(features, labels, texts), ("plain",))
        for texts in (ways[:4], np.roll(ways[:4], 1, axis=0))
    )
    np.testing.assert_allclose(right, [0.75, 0.5 * shot**0.3])
    np.testing.assert_allclose(wrong, [0.15, 0.5 * shot**0.3 + 1.25])


def test_results_of_another_rule_are_other_results(tmp_path):
    """Where something is decided; what a recipe says in full is defined by itself."""
    numbers = {"blend.weights": {"text": 1, "prototypes": 1, "gaussian": 1}, "blend.views": ["plain"]}
    (tmp_path / "said.json").write_text(Recipe.load("probes", numbers).model_dump_json(), "utf-8")
    for name, decides in (("auto", True), ("probes", True), (tmp_path / "said.json", False), ("paper", False)):
        _, definition = make_method(f"atha:{name}")
        assert definition.get("rule") == (automatic.RULE if decides else None)


def test_halves_trained_in_one_pass_say_what_they_say_one_after_the_other(tiny_clip, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    for name, colour in (("red", (200, 60, 60)), ("green", (60, 200, 60)), ("blue", (60, 60, 200))):
        (tmp_path / name).mkdir()
        for number in range(2):
            noisy = (np.array(colour) + rng.integers(-60, 60, (48, 64, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / name / f"{number}.png")
    changes = {"training.steps": 8, "training.precision": "float32"}
    passes = []
    real = tuned.adapt_together
    monkeypatch.setattr(tuned, "adapt_together", lambda *args: passes.append(len(args[3])) or real(*args))
    once = fit(tiny_clip, "auto", tmp_path, **changes)
    monkeypatch.setattr(tuned, "can_stack", lambda *_: False)
    twice = fit(tiny_clip, "auto", tmp_path, **changes)
    assert passes == [2]
    rounded = 100 * float(np.finfo(np.float32).eps)  # in the six steps of the halves
    for name, part in once._fitted.parts.items():
        other = twice._fitted.parts[name]
        assert part.weight == pytest.approx(other.weight, rel=rounded) and part.accuracy == other.accuracy
    np.testing.assert_allclose(once._fitted.answers, twice._fitted.answers, rtol=rounded, atol=rounded)
    assert once.history == twice.history


def test_weights_of_what_is_adapted(tiny_clip, photos, monkeypatch):
    """Halves are trained for fewer steps, each on the images that it is not asked about."""
    seen = []
    real = automatic._decide_adapted

    def spy(task, seen_features, others, asked, support, train):
        def watched(supports, *, on_halves):
            seen.extend((len(half.labels), on_halves) for half in supports)
            return train(supports, on_halves=on_halves)

        return real(task, seen_features, others, asked, support, watched)

    monkeypatch.setattr(automatic, "_decide_adapted", spy)
    clf = fit(tiny_clip, "auto", photos, **{"training.steps": 4})
    assert [half for _, half in seen] == [True, True]
    # The class of one image is in both halves.
    assert sorted(count for count, _ in seen) == [5, 6]
    assert clf._fitted.parts[ADAPTED].images == 9
    assert len(clf.history) == 4
