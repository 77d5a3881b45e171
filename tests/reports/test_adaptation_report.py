"""The report on an adaptation: complete, escaped, small, honest about what it does not have."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atha
from atha.errors import DataError
from atha.reports.adaptation import adaptation_report
from browser import WIDTHS, chromium, look
from conftest import write_images
from parsed_page import Parsed

COLOURS = {
    "<script>alert(1)</script>".replace("/", "|"): (200, 60, 60),
    "$x_1$ & <b>": (60, 200, 60),
    "blue": (60, 60, 200),
}
EVIL_FILE = '"><img onerror=alert(1)>.png'
LIMIT = 5_000_000


@pytest.fixture(scope="module")
def place(tiny_clip, tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    write_images(root / "support", COLOURS, 2)
    test = write_images(root / "test", COLOURS, 5, seed=1)
    rng = np.random.default_rng(0)
    for name in COLOURS:  # noise of no class: a mistake for most of them
        Image.fromarray(rng.integers(0, 255, (40, 90, 3), dtype=np.uint8)).save(test / name / EVIL_FILE)
    (test / "blue" / "broken.png").write_bytes(b"not an image")
    recipe = atha.Recipe.load("paper", ["training.steps=2", "training.precision=float32"])
    clf = atha.Classifier.from_pretrained(tiny_clip, recipe=recipe).fit(root / "support")
    clf.save_pretrained(root / "adapter")
    clf.save_pretrained(root / "bare", keep_support=False)
    return root


@pytest.fixture(scope="module")
def report(place):
    return adaptation_report(atha.Classifier.from_pretrained(place / "adapter"), place / "test", EVIL_FILE)


def test_all_is_there(report):
    words = "".join(Parsed(report).words)
    for part in (
        "What was asked",
        "The data",
        "How good it is",
        "Where it goes wrong",
        "Most confident mistakes",
        "What training did",
        "What to do next",
        "linear probe",
        "zero-shot",
        "95% interval",
        "Reliability",
        "Confusion",
        "Alignment strengths",
        "Training",
        '"tail_ratio"',
        "broken.png",
    ):
        assert part in words, part  # fmt: skip
    assert re.search(r"Adapted minus linear probe, image by image: [+-][\d.]+ ± [\d.]+ points", words)
    assert "Warning" in words  # 17 test images are few
    assert len(report.encode()) < LIMIT


def test_names_of_classes_and_files_are_text(report):
    parsed = Parsed(report)
    tags = [tag for tag, _ in parsed.tags]
    assert "script" not in tags
    assert "b" not in tags
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    words = "".join(parsed.words)
    assert "<script>alert(1)<|script>" in words
    assert EVIL_FILE in words
    assert all(attributes.get("alt") for tag, attributes in parsed.tags if tag == "img")


def test_numbers_are_those_of_the_evaluation(place, report):
    clf = atha.Classifier.from_pretrained(place / "adapter")
    with pytest.warns(atha.AthaWarning, match="not evaluated"):
        results = clf.compare(place / "test")
    assert list(results) == ["zero-shot", "linear probe", "adapted"]
    words = "".join(Parsed(report).words)
    for result in results.values():
        assert str(result.share) in words


def test_a_loaded_adapter_has_the_baselines_of_the_fitted_one(place, tiny_clip):
    recipe = atha.Recipe.load("paper", ["training.steps=1", "training.precision=float32"])
    fitted = atha.Classifier.from_pretrained(tiny_clip, recipe=recipe).fit(place / "support")
    loaded = atha.Classifier.from_pretrained(place / "adapter")
    assert np.array_equal(fitted.support.features, loaded.support.features)
    assert np.array_equal(fitted.support.labels, loaded.support.labels)
    assert fitted.support.pictures == loaded.support.pictures
    few = [(path, path.parent.name) for path in sorted((place / "test").rglob("1_0.png"))]
    one, other = (clf.compare(few)["linear probe"] for clf in (fitted, loaded))
    assert np.array_equal(one.probabilities, other.probabilities)


def test_without_a_record_of_the_support_set_the_reason_is_given(place):
    clf = atha.Classifier.from_pretrained(place / "bare")
    assert clf.support is None
    words = "".join(Parsed(adaptation_report(clf, place / "test", mistakes=0)).words)
    assert "There is no linear probe to compare with" in words
    assert "Pictures of the support images are not shown" in words
    assert "zero-shot" in words


def test_pictures_of_the_support_set_are_small_and_kept_whole(place):
    support = atha.Classifier.from_pretrained(place / "adapter").support
    assert support.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert support.shown == (0, 1, 2, 3, 4, 5)
    assert all(content.startswith(b"\xff\xd8") for content in support.pictures)
    assert (place / "adapter" / "support.safetensors").stat().st_size < 60_000


def test_a_damaged_record_of_the_support_set_is_named(place, tmp_path):
    shutil.copytree(place / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter" / "support.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(atha.AthaError, match=r"support\.safetensors is not the file that was saved"):
        atha.Classifier.from_pretrained(tmp_path / "adapter")


def test_no_adaptation_no_report(tiny_clip):
    with pytest.raises(DataError, match="no adaptation to report on"):
        adaptation_report(atha.Classifier.from_pretrained(tiny_clip, classes=["a", "b"]), [])


def run_cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "MPL", "ATHA_"))}
    environment |= {"HOME": str(home), "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "atha", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_nothing_is_written_but_the_file(place, tmp_path):
    for arguments in (
        ("report", str(place / "adapter"), "--test", str(place / "test"), "--out", "report.html"),
        ("explain", str(place / "adapter"), str(place / "test" / "blue" / EVIL_FILE), "--out", "photo.png"),
    ):
        done = run_cli(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
    made = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert made == ["photo.png", "report.html"]
    again = run_cli(tmp_path, "report", str(place / "adapter"), "--test", str(place / "test"), "--out", "report.html")
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.slow
def test_a_thousand_images_take_seconds_beyond_the_models_own_time(place, tmp_path):
    test = write_images(tmp_path / "test", COLOURS, 334, seed=7)
    clf = atha.Classifier.from_pretrained(place / "adapter")
    started = time.process_time()
    clf.compare(test)
    own = time.process_time() - started
    started = time.process_time()
    html = adaptation_report(clf, test)
    assert time.process_time() - started - own < 10
    assert len(html.encode()) < LIMIT


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser(report, tmp_path, width, dark):
    path = tmp_path / "report.html"
    path.write_text(report, "utf-8")
    seen = look(path, width, dark)
    assert seen.errors == seen.requests == seen.missing == seen.wider_than_page == seen.barriers == []
    assert (seen.overflow, seen.without_alt, seen.dialogs) == (0, 0, 0)
    assert seen.elements["script"] == seen.elements["img[onerror]"] == 0
    assert seen.elements["figure > svg"] >= 6
    assert "<script>alert(1)<|script>" in seen.text
    assert EVIL_FILE in seen.text
