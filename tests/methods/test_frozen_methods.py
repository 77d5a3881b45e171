"""Methods on frozen features, against the same computed by hand, and what all methods must keep to."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from small_episode import FROZEN, QUERY, SHOT, WAY, Small, run

import atha
from adapting import encode_image, encode_text
from atha.data.cache import Cache
from atha.data.images import ImageProblem
from atha.errors import AthaWarning, DataError, RecipeError
from atha.methods import METHODS, Method, Options, make_method
from atha.methods.linear_probe import linear_probe
from atha.methods.tip_adapter import TipAdapter, TipAdapterF
from atha.models.frozen import FrozenModel, ImageFile
from atha.recipe import Recipe


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_clip):
    return Small(tmp_path_factory.mktemp("frozen"), atha.load_backbone(tiny_clip))


@pytest.fixture(scope="module")
def parts(small):
    return small.parts()


def unit(values):
    return values / np.sqrt((values.astype(np.float64) ** 2).sum(axis=1, keepdims=True))


def shares(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_registry():
    assert list(METHODS) == [
        "zero-shot",
        "prototypes",
        "gaussian",
        "linear-probe",
        "tip-adapter",
        "tip-adapter-f",
        "gda",
        "proker",
        "lp-plus-plus",
        "clap",
        "lora",
        "clip-lora",
        "atha",
    ]
    for name, kind in METHODS.items():
        assert issubclass(kind, Method)
        assert kind.summary, name
        assert "\n" not in kind.summary
    assert len({kind.summary for kind in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zero-shots", "no method is called 'zero-shots': did you mean 'zero-shot'"),
        ("xyz", "no method is called 'xyz': methods are zero-shot, prototypes"),
        ("", "no method is called ''"),
        ("zero-shot:paper", "takes nothing after a colon and got 'paper'"),
        ("lora:paper", "takes nothing after a colon and got 'paper'"),
        ("atha", "atha needs a recipe: write atha:auto"),
        ("atha:", "atha needs a recipe"),
    ],
)
def test_names_that_are_no_method(name, message):
    with pytest.raises(DataError, match=message):
        make_method(name)


def test_a_recipe_that_is_not_there():
    with pytest.raises(RecipeError, match="did you mean 'paper'"):
        make_method("atha:papre")
    with pytest.raises(RecipeError, match=r"the nearest is 'training\.steps'"):
        make_method("lora", Options(overrides=("training.step=1",)))


@pytest.mark.numbers
@pytest.mark.parametrize("name", FROZEN)
def test_rows_are_probabilities(parts, name):
    found = run(name, *parts)
    assert found.shape == (WAY * QUERY, WAY)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    assert found.std(axis=0).min() > 0  # images differ


@pytest.mark.numbers
def test_classes_are_learned(parts):
    """Colours are easy: whoever looks at the support images tells them apart."""
    support, query = parts
    truth = np.repeat(np.arange(WAY), QUERY)
    for name in ("prototypes", "linear-probe", "tip-adapter-f"):
        assert (run(name, support, query).argmax(axis=1) == truth).mean() > 0.8, name


@pytest.mark.numbers
def test_features_are_those_of_the_model_one_image_at_a_time(small, parts):
    support, _ = parts
    pixels = support.frozen.views().normalise(support.images.plain())
    with torch.no_grad():
        together = encode_image(small.backbone, pixels).numpy()
        texts = encode_text(small.backbone, small.backbone.prompts(support.texts, support.template)).final.numpy()
    assert support.images.features.dtype == np.float32
    np.testing.assert_allclose(support.images.features, together, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(support.text_features, texts, atol=1e-4, rtol=1e-4)


@pytest.mark.numbers
def test_prototypes_by_hand(small, parts):
    support, query = parts
    features = unit(support.images.features)
    own = [[SHOT * c + i for i in range(SHOT)] for c in range(WAY)]
    centre = np.mean([features[rows].mean(axis=0) for rows in own], axis=0)
    means = np.stack([unit(features[rows] - centre).mean(axis=0) for rows in own])
    expected = shares(small.backbone.logit_scale * (unit(query.features) - centre) @ unit(means).T)
    np.testing.assert_allclose(run("prototypes", support, query), expected, atol=1e-6)


@pytest.mark.numbers
def test_zero_shot_is_that_of_the_classifier(small, parts):
    support, query = parts
    recipe = Recipe.load("paper", {"views.transform": "cdfsl", "training.precision": "float32"})
    clf = atha.Classifier(small.backbone, classes=list(support.texts), recipe=recipe)
    expected = clf.predict_proba([file.path for file in query.files])
    np.testing.assert_allclose(run("zero-shot", support, query), expected, atol=1e-5)
    assert np.abs(expected - 1 / WAY).max() > 0.01


@pytest.mark.numbers
def test_zero_shot_follows_the_template(parts):
    support, query = parts
    plain = run("zero-shot", support, query)
    made, definition = make_method("zero-shot", Options(template="{} from space"))
    assert made.template == definition["template"] == "{} from space"
    other = type(support)(support.images, support.labels, support.texts, made.template, support.seed)
    assert not np.allclose(run(made, other, query), plain)


@pytest.mark.numbers
def test_linear_probe_is_the_function(parts):
    support, query = parts
    expected = linear_probe(support.images.features, support.labels, WAY).of_features(query.features)
    assert np.array_equal(run("linear-probe", support, query), expected)


@pytest.mark.numbers
def test_linear_probe_by_hand(parts):
    """Its two steps written out, the regression alone left to the library."""
    from sklearn.linear_model import LogisticRegression

    support, query = parts
    lengths = unit(support.images.features)
    mean, spread = lengths.mean(axis=0), lengths.std(axis=0)
    model = LogisticRegression(max_iter=1000).fit((lengths - mean) / spread, support.labels)
    expected = model.predict_proba((unit(query.features) - mean) / spread)
    np.testing.assert_allclose(run("linear-probe", support, query), expected, atol=1e-3)


@pytest.mark.numbers
def test_linear_probe_with_classes_that_have_no_images():
    features = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    found = linear_probe(features, np.array([2, 2, 0, 0]), 4).of_features(features)
    assert (found[:, [1, 3]] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    alone = linear_probe(features, np.array([1, 1, 1, 1]), 3).of_features(features)
    assert np.array_equal(alone, np.tile([0.0, 1.0, 0.0], (4, 1)))


def tip_logits(support, query, alpha, beta):
    f, keys, texts = unit(query.features), unit(support.images.features), unit(support.text_features)
    made = support.frozen.logit_scale * f @ texts.T
    for q in range(len(f)):
        for n, label in enumerate(support.labels):
            made[q, label] += alpha * np.exp(-beta * (1 - f[q] @ keys[n]))
    return made


@pytest.mark.numbers
def test_tip_adapter_by_hand(parts):
    support, query = parts
    expected = shares(tip_logits(support, query, 1.0, 5.5))
    np.testing.assert_allclose(run("tip-adapter", support, query), expected, atol=1e-5)
    made = TipAdapter()
    made.alpha, made.beta = 30.0, 0.7
    np.testing.assert_allclose(run(made, support, query), shares(tip_logits(support, query, 30.0, 0.7)), atol=1e-5)
    assert made.definition() != TipAdapter().definition()


@pytest.mark.numbers
def test_tip_adapter_without_its_cache_is_zero_shot(parts):
    support, query = parts
    made = TipAdapter()
    made.alpha = 0.0
    np.testing.assert_allclose(run(made, support, query), run("zero-shot", support, query), atol=1e-6)
    assert not np.allclose(run("tip-adapter", support, query), run("zero-shot", support, query), atol=1e-3)


@pytest.mark.numbers
def test_tip_adapter_f_learns_the_support_set(parts):
    support, query = parts
    loss = {
        kind: -np.log(run(kind(), support, support.images)[np.arange(WAY * SHOT), support.labels]).mean()
        for kind in (TipAdapter, TipAdapterF)
    }
    assert loss[TipAdapterF] < loss[TipAdapter] - 1e-4
    none = TipAdapterF()
    none.epochs = 0
    assert np.array_equal(run(none, support, query), run("tip-adapter", support, query))


@pytest.mark.numbers
def test_tip_adapter_f_by_hand(parts, monkeypatch):
    """Batches of one pass each, so that the order of the images cannot matter: AdamW and the cosine written out."""
    support, query = parts
    made = TipAdapterF()
    made.epochs = 3
    features = torch.from_numpy(unit(support.images.features)).double()
    texts = torch.from_numpy(unit(support.text_features)).double()
    keys = features.clone().requires_grad_()
    one_hot, labels = torch.eye(WAY, dtype=torch.float64)[support.labels], torch.from_numpy(support.labels)
    first, second = torch.zeros_like(keys), torch.zeros_like(keys)
    for step in range(3):
        logits = support.frozen.logit_scale * features @ texts.T
        logits = logits + torch.exp(-5.5 * (1 - features @ keys.T)) @ one_hot
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), keys)
        rate = 1e-3 * (1 + np.cos(np.pi * step / 3)) / 2
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        with torch.no_grad():
            keys *= 1 - rate * 0.01
            keys -= rate * (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + made.eps)
    f = torch.from_numpy(unit(query.features))
    logits = support.frozen.logit_scale * f @ texts.T + torch.exp(-5.5 * (1 - f @ keys.T)) @ one_hot
    np.testing.assert_allclose(run(made, support, query), shares(logits.detach().numpy()), atol=1e-5)


@pytest.mark.numbers
def test_the_cache_changes_no_bit(small, tmp_path, parts):
    file = tmp_path / "cache.db"
    expected = {name: run(name, *parts) for name in FROZEN}
    for _ in range(2):  # filled, and read
        cache = Cache(file)
        frozen = FrozenModel(small.backbone, "cdfsl", "float32", cache)
        support, query = small.parts(frozen)
        for name, values in expected.items():
            assert np.array_equal(run(name, support, query), values), name
        cache.close()


def test_the_cache_saves_the_work(small, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "cache.db")
    first = FrozenModel(small.backbone, "cdfsl", "float32", cache)
    files = list(small.setting.files.values())[:4]
    features, plain = first.image_features(files), first.plain(files)

    def never(*_):
        raise AssertionError("computed again")

    second = FrozenModel(small.backbone, "cdfsl", "float32", cache)
    monkeypatch.setattr("atha.models.frozen._decode", never)
    monkeypatch.setattr(second, "features", never)
    moved = [ImageFile(tmp_path / "elsewhere", file.digest) for file in files]  # by content, not by place
    assert np.array_equal(second.image_features(moved), features)
    assert torch.equal(second.plain(moved), plain)
    cache.close()


def test_what_changes_features_is_in_their_key(small, tmp_path):
    cache = Cache(tmp_path / "cache.db")
    files = list(small.setting.files.values())[:3]
    found = {
        (transform, precision): FrozenModel(small.backbone, transform, precision, cache).image_features(files)
        for transform in ("cdfsl", "processor")
        for precision in ("float32", "bfloat16")
    }
    without = {key: FrozenModel(small.backbone, *key, Cache(None)).image_features(files) for key in found}
    for key, values in found.items():
        assert np.array_equal(values, without[key]), key
        assert sum(np.array_equal(values, other) for other in found.values()) == 1
    frozen = FrozenModel(small.backbone, "cdfsl", "float32", cache)
    assert not torch.equal(frozen.plain(files), frozen.plain(files, squeeze_to_size=True))
    cache.close()


@pytest.mark.parametrize("value", [b"", b"abc", bytes(8)], ids=["nothing", "no number", "too short"])
def test_damaged_values_in_the_cache_are_made_again(small, tmp_path, value):
    """Whatever goes wrong with the file costs time, and never a result."""
    file = tmp_path / "cache.db"
    files = list(small.setting.files.values())[:3]
    cache = Cache(file)
    expected = FrozenModel(small.backbone, "cdfsl", "float32", cache).image_features(files)
    cache.close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE entries SET value = ?", [value])
    connection.close()
    cache = Cache(file)
    found = FrozenModel(small.backbone, "cdfsl", "float32", cache).image_features(files)
    assert np.array_equal(found, expected)
    cache.close()


def test_a_cache_that_breaks_costs_no_result(small, tmp_path):
    cache = Cache(tmp_path / "cache.db")
    frozen = FrozenModel(small.backbone, "cdfsl", "float32", cache)
    with sqlite3.connect(tmp_path / "cache.db") as connection:
        connection.execute("DROP TABLE entries")
    connection.close()
    support, query = small.parts(frozen)
    with pytest.warns(AthaWarning, match="is not used"):
        found = run("prototypes", support, query)
    assert np.array_equal(found, run("prototypes", *small.parts()))


def test_images_kept_in_memory_are_bounded(small, monkeypatch):
    files = list(small.setting.files.values())
    frozen = FrozenModel(small.backbone, "cdfsl", "float32", Cache(None))
    expected = [frozen.plain([file]) for file in files]
    size = expected[0].numel()
    monkeypatch.setattr("atha.models.frozen._MEMORY", 4 * size)
    monkeypatch.setattr("atha.models.frozen._FEATURES", 4)
    fresh = FrozenModel(small.backbone, "cdfsl", "float32", Cache(None))
    assert torch.equal(fresh.plain(files), torch.cat(expected))  # more at once than are kept
    assert len(fresh._plain) <= 4
    assert fresh._plain_bytes == len(fresh._plain) * size
    assert torch.equal(fresh.plain(files[::-1]), torch.cat(expected[::-1]))
    assert np.array_equal(fresh.image_features(files), frozen.image_features(files))
    assert len(fresh._features) <= 4
    assert np.array_equal(fresh.image_features([files[0], files[0]]), frozen.image_features([files[0], files[0]]))


def test_prepared_images_are_those_made_at_once(small, tmp_path):
    files = list(small.setting.files.values())[:4]
    plain = FrozenModel(small.backbone, "cdfsl", "float32", Cache(None)).plain(files)
    for cache in (Cache(None), Cache(tmp_path / "a.db"), Cache(tmp_path / "a.db")):
        frozen = FrozenModel(small.backbone, "cdfsl", "float32", cache)
        frozen.prepare(files[:3])
        frozen.prepare(files[1:])
        assert torch.equal(frozen.plain(files), plain)
        frozen.close()
        cache.close()


def test_what_is_wrong_with_a_prepared_image_is_said_when_it_is_asked_for(small):
    frozen = FrozenModel(small.backbone, "cdfsl", "float32", Cache(None))
    missing = ImageFile(Path("nowhere.png"), "0")
    good = next(iter(small.setting.files.values()))
    frozen.prepare([good, missing])
    assert len(frozen.plain([good])) == 1
    with pytest.raises(ImageProblem, match="nowhere"):
        frozen.plain([missing])
    frozen.close()
