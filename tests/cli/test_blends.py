"""What the verbs say of blends: what was decided and why, alike everywhere, and nothing that is not so."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import atha
from atha.adapter.files import read_adapter
from atha.adapter.members import members_table
from atha.documents.tables import to_markdown
from commands import run
from conftest import COLOURS, write_images
from parsed_page import Parsed

OPTIONS = {
    "auto": ["--set", "training.steps=3"],
    "probes": [],
    "gaussian": [],
}
TUNED = {"auto"}


def words(text: str) -> str:
    """Without lines of tables and breaks."""
    return re.sub(r"[\s│┃]+", " ", text)


@pytest.fixture(scope="module")
def place(tiny_clip: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of each recipe from 1, 3 and 6 images, one of two classes, and what fit printed."""
    root = tmp_path_factory.mktemp("blends")
    for (name, colour), count in zip(COLOURS.items(), (1, 3, 6), strict=True):
        write_images(root / "support", {name: colour}, count)
    two = dict(list(COLOURS.items())[1:])
    write_images(root / "two", two, 2)
    write_images(root / "test", two, 2, seed=1)
    for name, support, recipe in [*((name, "support", name) for name in OPTIONS), ("pair", "two", "probes")]:
        asked = ["--model", tiny_clip, "--recipe", recipe, *OPTIONS[recipe], "--device", "cpu"]
        done = run("fit", root / support, "--out", root / name, "--eval", root / "test", *asked, code=0)
        (root / f"{name}.txt").write_text(done.output)
    return root


@pytest.fixture(params=[*OPTIONS, "pair"])
def adapter(request: pytest.FixtureRequest, place: Path) -> Path:
    return place / request.param


def test_the_same_table_is_shown_by_all(adapter: Path, place: Path, tmp_path: Path) -> None:
    record = read_adapter(adapter).record
    table = members_table(record)
    assert table is not None and record.blend is not None
    run("report", adapter, "--test", place / "test", "--out", tmp_path / "report.html", "--mistakes", 1, code=0)
    shown = {
        "fit": words((place / f"{adapter.name}.txt").read_text()),
        "info": words(run("info", adapter, code=0).stdout),
        "report": words(" ".join(Parsed((tmp_path / "report.html").read_text()).words)),
    }
    for name, text in shown.items():
        for row in table.rows:
            for cell in row:
                assert cell in text, name
        assert table.notes[0] in text, name
        assert "LoRA in 0" not in text and "lora_layers │ 0" not in text
        assert ("LoRA" in text) == (adapter.name in TUNED) or name == "info", name
    card = (adapter / "README.md").read_text()
    assert to_markdown(table) in card
    assert f"({record.blend and read_adapter(adapter).recipe.name})" in card
    assert ("LoRA" in card, "library_name: peft" in card) == (adapter.name in TUNED,) * 2
    assert "members.text" not in shown["info"], "the definition is a table"


def test_programs_get_the_definition(adapter: Path, place: Path, tiny_clip: str, tmp_path: Path) -> None:
    definition = read_adapter(adapter).record.definition
    assert json.loads(run("info", adapter, "--json", code=0).stdout)["fitted"] == definition
    if adapter.name == "gaussian":
        asked = ["--model", tiny_clip, "--recipe", "gaussian", "--device", "cpu", "--json"]
        found = json.loads(run("fit", place / "support", "--out", tmp_path / "new", *asked, code=0).stdout)
        assert found["fitted"] == definition


def test_fit_says_what_was_trained(adapter: Path, place: Path) -> None:
    told = (place / f"{adapter.name}.txt").read_text()
    if adapter.name in TUNED:
        assert re.search(r"Trained LoRA in \d+ layers .*; loss [\d.]+ at the first step, [\d.]+ at the last of 3", told)
    else:
        assert "Trained nothing in the backbone; " in told and "loss" not in told
    assert "blend minus linear probe" in told and "adapted minus" not in told


def test_explain_shows_the_votes(adapter: Path, place: Path) -> None:
    photo = next((place / "test").rglob("*.png"))
    classifier = atha.Classifier.from_pretrained(adapter, device="cpu")
    members = list(read_adapter(adapter).record.definition["members"])
    found = json.loads(run("explain", adapter, photo, "--json", "--device", "cpu", code=0).stdout)
    assert list(found["votes"]) == members
    joint = np.prod([list(vote.values()) for vote in found["votes"].values()], axis=0)
    np.testing.assert_allclose(joint / joint.sum(), classifier.predict_proba([photo])[0], atol=1e-6)
    printed = run("explain", adapter, photo, code=0).stdout
    assert "Votes of the members" in printed
    assert all(re.search(rf"│ {name} +│", printed) for name in members)


def test_a_model_without_members_has_no_votes(place: Path, tiny_clip: str) -> None:
    photo = next((place / "test").rglob("*.png"))
    classifier = atha.Classifier.from_pretrained(tiny_clip, ["red", "green"], device="cpu")
    assert classifier.explain(photo).to_dict()["votes"] == {}


def test_plain_looks_at_the_plain_view_alone(place: Path) -> None:
    files = sorted((place / "test").rglob("*.png"))
    classifier = atha.Classifier.from_pretrained(place / "probes", device="cpu")
    full, plain = classifier.predict_proba(files), classifier.predict_proba(files, plain=True)
    assert not np.array_equal(full, plain)
    predictor = classifier._now.predictor(plain=True)
    views = [classifier.reader.make(file, classifier._views.plain) for file in files]
    assert np.array_equal(plain, predictor.fitted.probabilities(predictor.viewed(views)))
    assert np.array_equal(classifier.predict_proba(files), full), "nothing stays set"
    assert np.array_equal(classifier.evaluate(place / "test", plain=True).probabilities, plain)
    assert np.array_equal(classifier.compare(place / "test", plain=True)["adapted"].probabilities, plain)
    for asked, wanted in ((["--plain"], plain), ([], full)):
        lines = run("predict", place / "probes", place / "test", *asked, "--device", "cpu", code=0).stdout.splitlines()
        assert [line.split("\t")[1] for line in lines] == [f"{row.max():.6f}" for row in wanted]
        found = json.loads(run("evaluate", place / "probes", place / "test", *asked, "--json", code=0).stdout)
        brier = classifier.evaluate(place / "test", plain=bool(asked)).brier
        assert found["brier"] == pytest.approx(brier, abs=1e-9)


def test_plain_is_no_matter_where_there_is_no_blend(place: Path, tiny_clip: str) -> None:
    files = sorted((place / "test").rglob("*.png"))
    classifier = atha.Classifier.from_pretrained(tiny_clip, ["red", "green"], device="cpu")
    assert np.array_equal(classifier.predict_proba(files, plain=True), classifier.predict_proba(files))
    assert classifier.predict(files, plain=True) == classifier.predict(files)


def test_a_damaged_blend_is_named(place: Path, tmp_path: Path) -> None:
    record = json.loads((place / "gaussian" / "atha.json").read_text())
    (tmp_path / "adapter").mkdir()
    for file in (place / "gaussian").iterdir():
        (tmp_path / "adapter" / file.name).write_bytes(file.read_bytes())
    del record["fitted"]["members"]["gaussian"]["weight"]
    (tmp_path / "adapter" / "atha.json").write_text(json.dumps(record))
    with pytest.raises(atha.AthaError, match="incomplete"):
        read_adapter(tmp_path / "adapter")
