"""Sets of labels and unknown images: what is promised, on made features, and what a classifier does of it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atha
from atha.adapter.record import HeldOutRecord
from atha.conformal import enough, label_sets, needed, rejection_threshold
from atha.doubt import held_out_strangeness, strangeness
from atha.errors import AthaWarning, DataError
from atha.rejection import Rejection
from commands import run
from conftest import COLOURS, write_images


def test_thresholds_are_those_of_the_definition():
    scores = list(range(1, 20))  # 19 of them divide what comes into 20 parts
    assert rejection_threshold(scores, 0.05) == 19 and rejection_threshold(scores, 0.1) == 18
    assert rejection_threshold(scores, 0.075) == pytest.approx(18.5)
    assert rejection_threshold(scores[:18], 0.05) == math.inf
    assert [needed(0.05), needed(0.1), needed(1 - 0.9)] == [19, 9, 9]
    assert enough(9, 1 - 0.9) and not enough(8, 1 - 0.9)
    with pytest.raises(DataError, match="rejections is 1, give a share"):
        rejection_threshold(scores, 1)
    logits = np.array([[3.0, 1.0, -np.inf], [0.0, 0.0, 0.0]])
    assert label_sets(logits, [0.5] * 9, 0.9).tolist() == [[True, False, False], [True] * 3]
    assert label_sets(logits, [2.0] * 9, 0.9).tolist() == [[True, True, False], [True] * 3]
    assert label_sets(logits, [0.5] * 8, 0.9).all()


def test_sets_hold_what_they_promise():
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        truth = rng.integers(4, size=60)
        logits = rng.normal(size=(60, 4)) + 1.5 * np.eye(4)[truth]
        misfit = logits.max(1) - logits[np.arange(60), truth]
        held.append(label_sets(logits[40:], misfit[:40].tolist(), 0.9)[np.arange(20), truth[40:]].mean())
    assert abs(np.mean(held) - 0.9) < 0.02


def test_rejections_are_as_many_as_allowed_and_strangers_are_found():
    rng = np.random.default_rng(0)
    false, found = [], []
    for seed in range(40):
        centres = rng.normal(size=(5, 24))

        def draw(labels: np.ndarray) -> np.ndarray:
            return centres[labels] + 0.5 * rng.normal(size=(len(labels), 24)) * np.linspace(0.2, 2, 24)  # noqa: B023

        labels = np.repeat(np.arange(4), 8)
        support = draw(labels)
        threshold = rejection_threshold(held_out_strangeness(support, labels, seed), 0.1)
        measure = strangeness(support, labels, seed)
        false.append((measure.score(draw(np.repeat(np.arange(4), 50))) > threshold).mean())
        found.append((measure.score(draw(np.full(50, 4))) > threshold).mean())
    assert abs(np.mean(false) - 0.1) < 0.03
    assert np.mean(found) > 0.6


def test_figures_of_rejection():
    one = Rejection(np.arange(100.0), np.array([200.0, 50.0, 10.0, 97.0]), 98.0, 0.01)
    assert one.auroc == pytest.approx((1 + 0.505 + 0.105 + 0.975) / 4)
    assert one.interval[0] < one.auroc < one.interval[1] <= 1
    assert (one.false_rejections.successes, one.found.successes, one.accepted_at_95.successes) == (1, 1, 2)
    assert Rejection(np.zeros(3), np.zeros(3), 1.0, 0.05).auroc == 0.5


@pytest.fixture(scope="module")
def places(tiny_clip, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("doubt")
    write_images(root / "support", COLOURS, 7)
    write_images(root / "test", COLOURS, 4, seed=1)
    write_images(root / "others", {"white": (250, 250, 250), "black": (5, 5, 5)}, 3, seed=2)
    made = run("fit", root / "support", "--out", root / "adapter", "--model", tiny_clip, "--recipe", "probes")
    assert made.exit_code == 0, made.output
    return root


def test_predictions_with_and_without(places):
    command = ["predict", places / "adapter", places / "test", places / "others"]
    plain = [line.split("\t") for line in run(*command).stdout.splitlines()]
    asked = [line.split("\t") for line in run(*command, "--sets", 0.9, "--unknown", 0.05).stdout.splitlines()]
    assert [row[1:] for row in plain] == [row[1:3] for row in asked]
    assert all(row[3].split("|")[0] == before[0] for row, before in zip(asked, plain, strict=True))
    assert [row[0] == "unknown" for row in asked[12:]].count(True) >= 5
    assert [row[0] == "unknown" for row in asked[:12]].count(True) <= 2
    told = [json.loads(line) for line in run(*command, "--sets", 0.9, "--unknown", 0.05, "--json").stdout.splitlines()]
    assert all(row["set"] and ("nearest" in row) == (row["label"] == "unknown") for row in told)
    csv = places / "out.csv"
    assert run(*command, "--sets", 0.9, "--all", "--csv", csv).exit_code == 0
    assert csv.read_text().splitlines()[0].split(",")[-1] == "set"
    refused = run(*command, "--sets", 0.9, "--plain")
    assert refused.exit_code == 2 and "leave --plain" in refused.stderr


def test_evaluation_with_an_unknown_set(places):
    command = ["evaluate", places / "adapter", places / "test", "--unknown-set", places / "others", "--sets", 0.9]
    told = json.loads(run(*command, "--json").stdout)
    assert told["unknown"]["auroc"] > 0.9 and told["unknown"]["found"]["images"] == 6
    assert told["sets"]["promised"] == 0.9 and told["sets"]["coverage"] >= 0.8
    said = run(*command).stdout
    assert "of pairs (AUROC" in said and "Sets for 90% hold the right label" in said
    assert "unknown" not in json.loads(run("evaluate", places / "adapter", places / "test", "--json").stdout)


def test_an_unknown_set_holds_no_image_that_is_known(places, tmp_path):
    """Told by its content, wherever its file is and whether it has one."""
    command = ["evaluate", places / "adapter", places / "test"]
    refused = run(*command, "--unknown", 0.1)
    assert refused.exit_code == 2 and "give --unknown-set, too" in refused.stderr
    for known, why in (("support", "the same image is in the support set"), ("test", "it is one of the test images")):
        refused = run(*command, "--unknown-set", places / known)
        assert refused.exit_code == 2 and "no image of the unknown set can be used" in refused.stderr
        assert why in " ".join(refused.stderr.split())
    one = next((places / "support").glob("*/*.png"))
    (tmp_path / "renamed.png").write_bytes(one.read_bytes())
    told = run(*command, "--unknown-set", places / "others", "--unknown-set", tmp_path / "renamed.png", "--json")
    assert json.loads(told.stdout)["unknown"]["found"]["images"] == 6 and "renamed.png" in told.stderr


def test_images_in_memory_are_not_known_by_their_names(places):
    loaded = atha.Classifier.from_pretrained(places / "adapter")
    test = [
        (np.asarray(Image.open(file).convert("RGB")), file.parent.name)
        for file in sorted((places / "test").glob("*/*.png"))
    ]
    others = [np.asarray(Image.open(file).convert("RGB")) for file in sorted((places / "others").rglob("*.png"))]
    assert {one.shape for one in others} == {one.shape for one, _ in test}
    _, rejection = loaded.evaluate_unknown(test, others)
    assert len(rejection.unknown) == len(others) == 6
    with pytest.warns(AthaWarning, match="it is one of the test images"):
        _, rejection = loaded.evaluate_unknown(test, [*others, test[0][0]])
    assert len(rejection.unknown) == 6


def test_shares_are_checked_before_a_model_is_loaded(places, monkeypatch):
    monkeypatch.setattr(atha.Classifier, "from_saved", None)
    one = next((places / "support").glob("*/*.png"))
    for command in (["predict", places / "adapter", one], ["evaluate", places / "adapter", places / "test"]):
        more = ["--unknown-set", places / "others"] if command[0] == "evaluate" else []
        for option, such_as in (("--unknown", 0.05), ("--sets", 0.9)):
            refused = run(*command, *more, option, 2)
            assert refused.exit_code == 2
            assert f"between 0 and 1, such as {such_as}" in " ".join(refused.stderr.split())


def test_in_python_before_and_after_saving(places, tiny_clip):
    loaded = atha.Classifier.from_pretrained(places / "adapter")
    images = sorted((places / "test").glob("*/*.png"))
    sets = loaded.predict_sets(images, 0.8)
    assert [one[0] for one in sets] == loaded.predict(images)
    scores = loaded.unknown_scores(images)
    assert scores.shape == (12,) and (scores > loaded.unknown_threshold(0.05)).mean() < 0.3
    fresh = atha.Classifier.from_pretrained(tiny_clip, recipe="probes").fit(places / "support")
    assert fresh.predict_sets(images, 0.8) == sets and np.array_equal(fresh.unknown_scores(images), scores)
    assert fresh.record.held_out == loaded.record.held_out
    assert len(loaded.record.held_out.misfits) == len(loaded.record.held_out.strangeness) == 21


def test_what_cannot_be_promised(places, tiny_clip, tmp_path):
    loaded = atha.Classifier.from_pretrained(places / "adapter")
    image = next((places / "test").glob("*/*.png"))
    with pytest.warns(AthaWarning, match="21 support images with held-out answers are too few to promise 99%"):
        assert len(loaded.predict_sets([image], 0.99)[0]) == 3
    with pytest.warns(AthaWarning, match="too few for 1% false rejections: no image is rejected; give 99"):
        assert loaded.unknown_threshold(0.01) == math.inf
    with pytest.raises(DataError, match="coverage of sets is 2"):
        loaded.predict_sets([image], 2)
    old = json.loads((places / "adapter" / "atha.json").read_text())
    del old["held_out"]
    older = tmp_path / "older"
    older.mkdir()
    for file in (places / "adapter").iterdir():
        (older / file.name).write_bytes(file.read_bytes())
    (older / "atha.json").write_text(json.dumps(old))
    before = atha.Classifier.from_pretrained(older)
    assert np.array_equal(before.predict_proba([image]), loaded.predict_proba([image]))
    with pytest.raises(DataError, match="no held-out scores"):
        before.predict_sets([image])
    single = atha.Classifier.from_pretrained(tiny_clip, recipe="probes")
    single.fit([(next((places / "support" / name).glob("*")), name) for name in COLOURS])
    assert single.record.held_out == HeldOutRecord()
    with pytest.raises(DataError, match="no held-out answers"):
        single.predict_sets([image])
