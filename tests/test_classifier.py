"""The whole way on small images: what `fit` may see, repeatability, shapes, labels."""

import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import atha
from atha.data import read_labelled
from atha.devices import resolve_precision
from atha.errors import DataError, TrainingError
from atha.recipe import Recipe
from commands import run
from conftest import COLOURS, write_images

# By name: `auto` is bfloat16 on some processors, even where a test makes them compute as others do, slowly.
QUICK = Recipe.load("paper", ["training.steps=3", "training.lora.lr=1e-3", "training.precision=float32"])


@pytest.fixture(scope="module")
def backbone(tiny_clip):
    return atha.load_backbone(tiny_clip)


@pytest.fixture
def classifier(backbone):
    return atha.Classifier(backbone, recipe=QUICK)


def state(clf):
    return clf._fitted.adaptation.tuners.state()


@pytest.mark.numbers
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_fit_repeats_bit_for_bit(backbone, precision, support, test_folder):
    # The second step shows whether the first one's dropout and update repeat.
    quick = Recipe.load(QUICK, {"training.precision": precision, "training.steps": 2})
    # On sizes that are used, where they take no emulation.
    classifier = atha.Classifier(atha.load_backbone("nano") if precision == "float32" else backbone, recipe=quick)
    files = sorted(test_folder.glob("*/*.png"))[::3]
    torch.manual_seed(1)
    classifier.fit(support, seed=3)
    first, losses, probabilities = (
        {name: value.clone() for name, value in state(classifier).items()},
        classifier.history,
        classifier.predict_proba(files),
    )
    torch.manual_seed(2)  # what the caller's generator is at makes no difference
    after = torch.rand(1)
    torch.manual_seed(2)
    classifier.fit(support, seed=3)
    assert torch.equal(torch.rand(1), after)  # nor does fit disturb it
    assert classifier.history == losses
    assert all(torch.equal(first[name], value) for name, value in state(classifier).items())
    assert np.array_equal(classifier.predict_proba(files), probabilities)
    if precision == "float32":  # a third fit takes its time where bfloat16 is emulated
        classifier.fit(support, seed=4)
        assert classifier.history != losses


def test_order_of_the_support_set_makes_no_difference_to_classes(classifier, support):
    pairs = [(sample.image, sample.label) for sample in read_labelled(support).samples]
    assert classifier.fit(support).classes == classifier.fit(list(reversed(pairs))).classes


def test_fit_never_opens_a_test_image(tiny_clip, support, test_folder, tmp_path):
    """Every file that the process opens while training is watched; `--eval` images come after the adapter is saved."""

    out = tmp_path / "adapter"
    opened, watching = [], [True]

    def watch(event, arguments):
        if watching[0] and event == "open" and str(arguments[0]).startswith(str(test_folder)):
            opened.append((str(arguments[0]), (out / "atha.safetensors").is_file()))

    sys.addaudithook(watch)
    command = ["fit", str(support), "--model", tiny_clip, "--set", "training.steps=1", "--out", str(out)]
    run(*command, "--eval", test_folder, code=0)
    watching[0] = False
    tests = [saved for path, saved in opened if path.endswith(".png")]
    assert tests, "the test images were read at some time"
    assert all(tests), "none before the adapter was saved"
    # And the adapter does not depend on them.
    other = tmp_path / "other"
    run(*command[:-1], other, code=0)
    for name in ("adapter_model.safetensors", "atha.safetensors", "recipe.json"):
        assert (out / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.numbers
def test_predictions(classifier, support, test_folder):
    classifier.fit(support)
    files = sorted(test_folder.glob("*/*.png"))
    probabilities = classifier.predict_proba(files)
    assert probabilities.shape == (len(files), 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    labels = classifier.classes.labels
    assert classifier.predict(files) == [labels[index] for index in probabilities.argmax(axis=1)]
    assert classifier.class_texts == {"GreenThing": "Green Thing", "blue thing": "blue thing", "red_thing": "red thing"}
    assert classifier.predict_proba([]).shape == (0, 3)


@pytest.mark.numbers
def test_batches_and_kinds_of_input_change_nothing_but_rounding(classifier, support, test_folder):
    classifier.fit(support)
    files = sorted(test_folder.glob("*/*.png"))
    whole = classifier.predict_proba(files)
    parts = np.array([p.probabilities for p in classifier.stream(files, batch_size=5)])
    images = classifier.predict_proba([Image.open(file) for file in files])
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert np.array_equal(images, whole)


@pytest.fixture
def unfitted(backbone):
    return atha.Classifier(backbone, classes=["red thing", "blue thing"])


def test_images_come_from_anywhere(unfitted, test_folder, tmp_path):
    """Once or often, one or many; each row belongs to its image."""
    classifier, files = unfitted, sorted(test_folder.glob("*/*.png"))[::2]
    expected = classifier.predict_proba(files)
    arrays = np.stack([np.asarray(Image.open(file)) for file in files])
    buffer = np.empty_like(arrays[0])

    def frames():
        for array in arrays:
            buffer[:] = array
            yield buffer

    for several in (iter(files), map(str, files), (Image.open(file) for file in files), tuple(files), arrays, frames()):
        rows = list(classifier.stream(several, batch_size=5))
        assert np.array_equal([row.probabilities for row in rows], expected)
    rows = list(classifier.stream(iter([*files, tmp_path / "none.png"]), batch_size=5))
    assert [row.file for row in rows] == [*map(str, files), str(tmp_path / "none.png")]
    assert rows[-1].problem and not any(row.problem for row in rows[:-1])
    for one in (files[0], str(files[0]), Image.open(files[0]), arrays[0]):
        assert np.array_equal(classifier.predict_proba(one), expected[:1])


def test_frames_of_a_film(unfitted, tmp_path):
    """PIL gives all of them as one object."""
    photos = [Image.new("RGB", (20, 20), colour) for colour in ("red", "lime", "blue")]
    photos[0].save(tmp_path / "film.gif", save_all=True, append_images=photos[1:])
    with Image.open(tmp_path / "film.gif") as film:
        assert np.array_equal(unfitted.predict_proba(ImageSequence.Iterator(film)), unfitted.predict_proba(photos))


def test_what_is_no_image(unfitted):
    for value in (None, 3, np.float64(3), b"a.png", io.BytesIO()):
        with pytest.raises(DataError, match=f"of type {type(value).__name__}: give a path"):
            unfitted.predict(value)
        with pytest.raises(DataError, match="1 of 1 images cannot be read"):
            unfitted.predict([value])
    with pytest.raises(DataError, match="batch_size is 0"):
        list(unfitted.stream([], batch_size=0))


def test_zero_shot_before_fit(backbone, test_folder):
    clf = atha.Classifier(backbone, classes={"red_thing": "red", "GreenThing": "green", "blue thing": "blue"})
    assert not clf.fitted
    assert clf.evaluate(test_folder).probabilities.shape == (12, 3)


def test_classes_in_the_order_given(classifier, backbone, support):
    clf = atha.Classifier(backbone, classes=["red thing", "Blue Thing", "green thing"], recipe=QUICK)
    clf.fit(support)
    assert clf.classes.labels == ("red thing", "Blue Thing", "green thing")


def test_support_images_in_the_test_set_are_named_and_left_out(classifier, support, tmp_path):
    test = write_images(tmp_path, COLOURS, 1, seed=7)
    double = next((support / "red_thing").glob("*.png"))
    (test / "red_thing" / "double.png").write_bytes(double.read_bytes())
    with (test / "red_thing" / "endless.png").open("wb") as file:
        file.truncate(2**38)  # is not compared to its end, which would take minutes
    classifier.fit(support)
    with (
        pytest.warns(atha.AthaWarning, match=r"double\.png: the same image is in the support set"),
        pytest.warns(atha.AthaWarning, match=r"endless\.png: not an image"),
    ):
        result = classifier.evaluate(test)
    assert len(result.truth) == 3
    assert any("double.png" in sentence for sentence in result.left_out)


def test_unreadable_images_are_named_and_the_rest_is_used(classifier, tmp_path):
    root = write_images(tmp_path, COLOURS, 2)
    (root / "red_thing" / "0_1.png").write_bytes((root / "red_thing" / "0_1.png").read_bytes()[:200])
    with pytest.warns(atha.AthaWarning, match=r"0_1\.png"):
        classifier.fit(root)
    assert classifier.record.support.counts == {"GreenThing": 2, "blue thing": 2, "red_thing": 1}
    (root / "red_thing" / "0_0.png").write_bytes(b"")
    with (
        pytest.warns(atha.AthaWarning),
        pytest.raises(DataError, match="class 'red_thing' has no support image that can be read"),
    ):
        classifier.fit(root)


def test_one_image_in_two_classes(classifier, tmp_path):
    root = write_images(tmp_path, COLOURS, 1)
    (root / "GreenThing" / "x.png").write_bytes((root / "red_thing" / "0_0.png").read_bytes())
    with pytest.raises(DataError, match="the same image in two classes"):
        classifier.fit(root)


def test_loss_that_is_not_finite(backbone, support):
    clf = atha.Classifier(backbone, recipe=Recipe.load(QUICK, ["training.lora.lr=1e30", "training.steps=10"]))
    with pytest.raises(TrainingError, match=r"at step \d+ of 10: lower training.lora.lr"):
        clf.fit(support)
    assert not clf.fitted
    assert not any("lora_" in name for name in backbone.model.state_dict())  # the backbone is free again


@pytest.mark.parametrize(
    ("support_kind", "transform"),
    [("single", "processor"), ("five-view", "cdfsl"), ("random-crop", "processor"), ("random-crop", "cdfsl")],
)
def test_views(backbone, support, support_kind, transform):
    overrides = [f"views.support={support_kind}", f"views.transform={transform}", "training.batch_size=4"]
    clf = atha.Classifier(backbone, recipe=Recipe.load(QUICK, overrides)).fit(support)
    losses = clf.history
    assert clf.fit(support).history == losses


@pytest.mark.numbers
def test_bfloat16_follows_float32(backbone, support):
    """Master weights stay float32; losses follow at bfloat16's eight bits."""
    losses = {}
    for precision in ("float32", "bfloat16"):
        recipe = Recipe.load(QUICK, [f"training.precision={precision}", "lora.dropout=0"])
        clf = atha.Classifier(backbone, recipe=recipe).fit(support)
        losses[precision] = clf.history
        assert {value.dtype for value in state(clf).values()} == {torch.float32}
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.02)


def test_precision_is_chosen_by_hardware(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for capabilities, expected in (
        ({}, "float32"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": True}, "bfloat16"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert resolve_precision("auto", cpu) == expected
    for supported, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, found=supported: found)
        assert resolve_precision("auto", cuda) == expected
    assert resolve_precision("float16", cuda) == "float16"
    assert resolve_precision("auto", torch.device("mps")) == "float32"


def test_evaluation_figures():
    from sklearn.metrics import brier_score_loss, confusion_matrix

    from atha.evaluation import Evaluation

    rng = np.random.default_rng(0)
    truth, probabilities = rng.integers(0, 3, 200), rng.dirichlet([1, 1, 1], 200)
    result = Evaluation(("a", "b", "c"), truth, probabilities, [str(i) for i in range(200)])
    assert np.array_equal(result.confusion, confusion_matrix(truth, probabilities.argmax(1)))
    assert result.brier == pytest.approx(brier_score_loss(truth, probabilities, scale_by_half=False))
    low, high = result.interval
    assert low < result.accuracy < high
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.minus(result) == (0, 0)
    # All sure and all right: no calibration error; all sure and all wrong: 1.
    assert Evaluation(("a", "b"), np.array([0, 1]), np.eye(2), ["x", "y"]).calibration_error == 0
    assert Evaluation(("a", "b"), np.array([1, 0]), np.eye(2), ["x", "y"]).calibration_error == 1


def test_wilson_interval_against_its_formula():
    from atha.statistics import Share

    k, n, z = 83, 100, 1.959963984540054
    centre, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * (k * (n - k) / n + z * z / 4) ** 0.5
    assert Share(k, n).interval == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("eurosat", marks=pytest.mark.numbers),
        "chestx",
        "isic2018",
        "rsscn7_aerial_scenes",
        "corn_leaf_disease",
    ],
)
def test_real_images(name, real_images, backbone, tmp_path):
    """Fit, evaluate, predict, save, load, predict again on real photos, two per class."""
    samples = read_labelled(real_images(name)).samples
    by_class = {}
    for sample in samples:
        by_class.setdefault(sample.label, []).append(sample)
    support = [(sample.image, label) for label, group in by_class.items() for sample in group[:2]]
    test = [(sample.image, label) for label, group in by_class.items() for sample in group[2:4]]
    clf = atha.Classifier(backbone, recipe=QUICK).fit(support)
    result = clf.compare(test)
    assert {len(evaluation.truth) for evaluation in result.values()} == {len(test)}
    clf.save_pretrained(tmp_path / "adapter", result)
    files = [image for image, _ in test]
    again = atha.Classifier.from_pretrained(tmp_path / "adapter")
    assert np.array_equal(again.predict_proba(files), clf.predict_proba(files))
