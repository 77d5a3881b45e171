"""The study of the tail: its variants, its resuming, and its sentences on results made by hand."""

import json
import re

import numpy as np
import pytest

from atha.backbones.clip import ClipBackbone
from atha.bench.executors import run_here
from atha.data.opening import open_pool
from atha.documents import figures
from atha.documents.page import Figure, Warn
from atha.episodes import draw_episodes
from atha.errors import BackboneError, DataError
from atha.recipe import Recipe
from atha.reports.study import study_page, verdict, write_study
from atha.statistics import mean_interval
from atha.study import inside as inside_module
from atha.study.inside import PRETRAINED, remembered
from atha.study.tail import Design, Found, Point, look_inside, prepare, run_accuracy, source_episodes, to_dict
from atha.study.variants import NONE, PUSH_ONLY, states, variants
from browser import WIDTHS, chromium, look
from conftest import COLOURS, write_images

PAPER = Recipe.load("paper")


def test_variants_differ_in_the_alignment_alone():
    made = variants(PAPER, [-0.1, 0.0, 0.1], [0.1, 0.5], 0.1)
    assert len({one.name for one in made}) == len(made) == len({one.recipe.digest() for one in made})
    for one in made:
        assert one.recipe.model_copy(update={"alignment": PAPER.alignment, "name": PAPER.name}) == PAPER
    by_name = {one.name: one for one in made}
    assert by_name[NONE].recipe.alignment is None
    fixed = [one for one in made if one.name not in (NONE, "paper")]
    assert all(not one.recipe.alignment.learn for one in fixed)
    assert by_name["tail pulled 0.1"].recipe.alignment.push == -0.1
    assert by_name["tail pulled 0.1"].recipe.alignment.strengths(4) == ([0.0] * 4, [-0.1] * 4)
    every = by_name["every token pulled 0.1"].recipe.alignment
    assert (every.head_ratio, every.tail_ratio, every.strengths(3)) == (1.0, 0.0, ([0.1] * 3, [0.0] * 3))
    # At the recipe's own ratio one variant is on both axes, and is run once.
    shared = by_name["10% of tokens pushed 0.1"]
    assert shared.x == {"ratio": 0.1, "push": 0.1}
    axis = sorted(one.x["ratio"] for one in made if "ratio" in one.x)
    assert axis == [-1, 0, 0.1, 0.5]


def test_states_are_fine_tuned_push_only_and_full():
    made = {one.name: one.recipe for one in states(PAPER)}
    assert list(made) == [NONE, PUSH_ONLY, "paper"]
    assert made[PUSH_ONLY].alignment.learn
    assert made[PUSH_ONLY].alignment.strengths(2) == ([0.0, 0.0], [0.01, 0.01])


@pytest.mark.parametrize(
    ("base", "ratios", "strength", "words"),
    [("lora", [0.1], 0.1, "has none"), ("paper", [1.5], 0.1, "at most 1"), ("paper", [0.1], 0.0, "above 0")],
)
def test_what_cannot_be_studied_is_refused(base, ratios, strength, words):
    with pytest.raises(DataError, match=words):
        variants(Recipe.load(base), [0.1], ratios, strength)


@pytest.fixture(scope="module")
def small(tiny_clip, tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    target = open_pool(str(write_images(root / "<script>", COLOURS, 4)))
    source = open_pool(str(write_images(root / "source", COLOURS, 5, seed=3)))
    base = Recipe.load("paper", ["training.steps=2", "training.lora.lr=1e-3"])
    design = Design(base, (-0.1,), (0.1,), 0.1, inside=1)
    sources = [(target, draw_episodes(target, 2, 1, 2, 2, seed=1))]
    out = root / "out"

    def study():
        plan, backbone = prepare(design, sources, tiny_clip, out, precision="float32", device="cpu")
        found = run_accuracy(design, plan, out / "study.db", lambda plan, jobs: run_here(plan, jobs, backbone))
        look_inside(design, found, plan, backbone, source, out / "inside")
        return found

    return design, out, study, study(), source, sources


def test_a_model_without_tokens_is_refused_before_anything_is_written(small, tiny_clip, tmp_path, monkeypatch):
    design, *_, sources = small
    monkeypatch.setattr(ClipBackbone, "unalignable", "has no patch tokens")
    with pytest.raises(BackboneError, match=rf"{re.escape(tiny_clip)} has no patch tokens"):
        prepare(design, sources, tiny_clip, tmp_path / "out", cache=tmp_path / "out" / "cache.db")
    assert not (tmp_path / "out").exists()


def test_every_variant_has_every_episode_and_differences_are_paired(small):
    design, _, _, (found,), *_ = small
    assert [point.variant.name for point in found.points] == [one.name for one in design.variants]
    assert all(point.accuracy.n == 2 for point in found.points)
    assert [point.difference is None for point in found.points] == [one.name == NONE for one in design.variants]
    assert [x for x, _ in found.series("push")] == [-0.1, 0, 0.1]


def test_a_second_run_computes_nothing(small, monkeypatch):
    _, out, study, (first,), *_ = small
    before = {path: path.stat().st_mtime_ns for path in (out / "inside").iterdir()}
    assert len(before) == 4

    def never(*args, **kwargs):
        raise AssertionError("measured again")

    monkeypatch.setattr("atha.study.tail.inside", never)
    monkeypatch.setattr("atha.methods.tuned.adapt", never)
    (again,) = study()
    assert again.inside == first.inside
    assert [point.accuracy for point in again.points] == [point.accuracy for point in first.points]
    assert {path: path.stat().st_mtime_ns for path in (out / "inside").iterdir()} == before


def test_measurements_are_of_the_state_they_are_called_by(small):
    _, _, _, (found,), *_ = small
    assert list(found.inside) == [PRETRAINED, NONE, PUSH_ONLY, "paper+"]
    pretrained, plain, pushed, full = (rows[0] for rows in found.inside.values())
    assert pretrained["strengths"]["step"] == plain["strengths"]["step"] == []
    assert full["strengths"]["step"] == pushed["strengths"]["step"] == [1, 2]
    assert max(np.abs(pushed["strengths"]["pull"]).max(axis=0)) < 0.01 < max(full["strengths"]["pull"][0])
    for row in (pretrained, plain, pushed, full):
        for side in ("source", "target", "support"):
            curves = np.array(row["curves"][side])
            assert curves.shape == (3, 16)
            assert (np.diff(curves, axis=1) >= 0).all()
        assert 0 <= row["gap"] <= 2
        assert row["cka"]["source and target"] <= 1 + 1e-9
    assert "before and after, target" in full["cka"]
    assert "before and after, target" not in pretrained["cka"]
    # The input of the first block is the same whatever was trained behind it; that of the last is not.
    assert pretrained["curves"]["target"][-1] != plain["curves"]["target"][-1]


def test_writes_pages_figures_and_numbers_with_names_as_text(small):
    design, _, _, found, *_ = small
    _, out, *_ = small
    files = write_study(design, found, out)
    names = [path.relative_to(out).as_posix() for path in files]
    assert names[:2] == ["study.html", "study.md"]
    assert len(names) == 2 + 8
    html, text = ((out / name).read_text("utf-8") for name in names[:2])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in text
    assert all(f"(<{name}>)" in text for name in names[2:])
    for words in ("only 2 episodes", "only 1 episodes", "CKA between source and target", "Modality gap"):
        assert words in html
    json.dumps(to_dict(design, found), allow_nan=False)


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_in_a_browser(small, tmp_path, width, dark):
    design, _, _, found, *_ = small
    page = write_study(design, found, tmp_path)[0]
    seen = look(page, width, dark)
    assert seen.errors == seen.requests == seen.missing == seen.wider_than_page == seen.barriers == []
    assert (seen.overflow, seen.without_alt, seen.dialogs, seen.elements["script"]) == (0, 0, 0, 0)


def test_without_source_images_there_is_no_cka_and_it_is_said(small):
    design, _, _, (found,), *_ = small
    bare = Found(found.title, found.dataset, found.points, found.inside, with_source=False)
    with figures.style():
        page = study_page(design, [bare])
    items = page.sections[-1].items
    assert any("No source images were given" in item.text for item in items if isinstance(item, Warn))
    assert not any("CKA" in item.title for item in items if isinstance(item, Figure))
    assert not any("CKA" in sentence for sentence in items[-1].items)


def test_a_source_that_is_too_small_is_refused(small, tmp_path):
    *_, sources = small
    pool = open_pool(str(write_images(tmp_path / "tiny", COLOURS, 2)))
    with pytest.raises(DataError, match="2 images in the smallest"):
        source_episodes(pool, sources)


def test_a_damaged_measurement_is_named_and_not_used(tmp_path):
    first, known = remembered(tmp_path, {"a": 1}, lambda: {"x": 1.0})
    assert (first, known) == ({"x": 1.0}, False)
    assert remembered(tmp_path, {"a": 1}, dict) == ({"x": 1.0}, True)
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    with pytest.raises(DataError, match="delete it"):
        remembered(tmp_path, {"a": 1}, dict)
    assert inside_module.VERSION


class Difference:
    """As much of a comparison as a verdict is made of."""

    def __init__(self, mean, verdict):
        self.difference = type("Paired", (), {"mean": mean, "half": 0.01})()
        self.verdict, self.p_holm = verdict, 0.04


@pytest.mark.parametrize(
    ("pushed", "pulled", "words"),
    [
        ("better", "not resolved", "the finding holds: "),
        ("better", "worse", "the finding holds: "),
        ("better", "better", "holds in part"),
        ("worse", "not resolved", "does not hold"),
        ("not resolved", "worse", "is not seen"),
    ],
)
def test_verdicts(pushed, pulled, words):
    made = {one.name: one for one in variants(PAPER, [-0.1, 0.1], [0.5], 0.2)}
    points = [
        Point(made[NONE], mean_interval([0.5, 0.6]), None),
        Point(made["tail pushed 0.1"], mean_interval([0.5, 0.6]), Difference(0.02, pushed)),
        Point(made["tail pulled 0.1"], mean_interval([0.5, 0.6]), Difference(-0.02, pulled)),
    ]
    assert words in verdict(Found("t", "d", points))
