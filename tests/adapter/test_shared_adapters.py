"""Adapters on the model hub: what is sent, what comes back, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_hub import FakeHub, fake_hub
from PIL import Image

import atha
from atha.adapter import hub as hub_module
from atha.adapter.files import read_adapter
from atha.adapter.hub import FILES, parse
from atha.errors import AdapterError
from commands import run
from conftest import COLOURS, write_images

NAME = "some-org/leaves"
PLACE = f"hub:{NAME}"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, support: Path) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "adapter"
    clf = atha.Classifier.from_pretrained("nano", recipe="prototypes", device="cpu").fit(support)
    clf.save_pretrained(folder)
    return folder


@pytest.fixture
def one_each(tmp_path: Path) -> Path:
    """A test image of each class."""
    return write_images(tmp_path / "test", COLOURS, 1, seed=1)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as made:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", made.address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            made.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield made


def test_sent_and_used(hub: FakeHub, adapter: Path, one_each: Path) -> None:
    refused = run("push", adapter, NAME)
    assert refused.exit_code == 2 and "nothing was sent" in refused.stderr and NAME not in hub.private
    assert "atha.safetensors" in refused.stdout and "support.safetensors" in refused.stderr
    for said in ("where the images come from", "how good it is"):
        assert said in refused.stderr
    sent = run("push", adapter, NAME, "--yes")
    assert sent.exit_code == 0, sent.output
    commit, files = hub.repositories[NAME][-1]
    assert hub.private[NAME] is True and commit in sent.stdout
    assert files.keys() == {"README.md", "atha.json", "atha.safetensors", "classes.json", "recipe.json"}
    told = json.loads(files["atha.json"])
    assert told["backbone"]["path"] is None and told["support"]["kept"] is False
    card = files["README.md"].decode()
    assert PLACE in card and "support.safetensors" not in card

    hub.commit(NAME, files | {"pytorch_model.bin": b"pickle", "setup.py": b"raise SystemExit"})
    local = [line.split("\t")[:2] for line in run("predict", adapter, one_each).stdout.splitlines()]
    for place in (PLACE, f"{PLACE}@{commit}", f"{PLACE}@main"):
        far = run("predict", place, one_each)
        assert [line.split("\t")[:2] for line in far.stdout.splitlines()] == local, far.output
    assert not [path for path in hub.asked if path.endswith((".bin", ".py"))]
    classifier = atha.Classifier.from_pretrained(PLACE, device="cpu")
    assert classifier.support is None
    assert np.isfinite(classifier.predict_proba([Image.new("RGB", (9, 9))])).all()
    assert run("evaluate", PLACE, one_each).exit_code == 0
    assert json.loads(run("info", PLACE, "--json").stdout)["backbone"]["name"] == "nano"
    onto = run("add", PLACE, one_each, "--out", PLACE)
    assert onto.exit_code == 2 and "is on the model hub" in onto.stderr


def test_support_goes_when_it_is_asked_for_and_leaves_when_it_is_not(hub: FakeHub, adapter: Path) -> None:
    assert run("push", adapter, NAME, "--yes", "--support", "--public").exit_code == 0
    assert "support.safetensors" in hub.repositories[NAME][-1][1] and hub.private[NAME] is False
    assert read_adapter(PLACE).support is not None
    shy = run("push", adapter, NAME, "--yes")
    assert shy.exit_code == 2 and "public already" in shy.stderr
    assert run("push", adapter, NAME, "--yes", "--public").exit_code == 0
    assert "support.safetensors" not in hub.repositories[NAME][-1][1]
    assert read_adapter(PLACE).support is None


def test_a_commit_that_is_here_is_not_asked_for(hub: FakeHub, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.commit(NAME, {path.name: path.read_bytes() for path in adapter.iterdir()})
    read_adapter(f"{PLACE}@{commit}")
    hub.asked.clear()
    read_adapter(f"{PLACE}@{commit}")
    assert hub.asked == []
    gone = "0" * 40
    with pytest.raises(AdapterError, match=f"has the revision {gone}"):
        read_adapter(f"{PLACE}@{gone}")
    assert not [path for path in hub.asked if path.endswith("main")], "no other revision is tried"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    read_adapter(f"{PLACE}@{commit}")
    with pytest.raises(AdapterError, match="HF_HUB_OFFLINE"):
        read_adapter("hub:some-org/other")
    assert hub.asked == []


def test_what_comes_is_checked(hub: FakeHub, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: path.read_bytes() for path in adapter.iterdir()}
    hub.commit("o/none", {"README.md": b"x"})
    with pytest.raises(AdapterError, match=r"no adapter, atha\.json is missing"):
        read_adapter("hub:o/none")
    hub.commit("o/changed", files | {"atha.safetensors": files["atha.safetensors"][:-1] + b"\0"})
    with pytest.raises(AdapterError, match="not the file that was saved"):
        read_adapter("hub:o/changed")
    monkeypatch.setitem(FILES, "recipe.json", 10)
    hub.commit("o/large", files)
    hub.asked.clear()
    with pytest.raises(AdapterError, match="the most that is fetched is 10"):
        read_adapter("hub:o/large")
    assert not [path for path in hub.asked if "resolve" in path], "sizes are looked at before anything is fetched"
    with pytest.raises(AdapterError, match="if it is private"):
        read_adapter("hub:o/nothing")


def test_no_network(adapter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(AdapterError, match=r"cannot be had from the model hub .*check the network"):
        read_adapter(PLACE)
    refused = run("push", adapter, NAME, "--yes")
    assert refused.exit_code == 2 and "cannot be sent to" in refused.stderr


@pytest.mark.parametrize("place", ["hub:", "hub:a", "hub:a/b/c", "hub:a/b@", "hub:../b", "hub:a/b@x y", "hub:/a/b"])
def test_names_of_nothing(place: str) -> None:
    with pytest.raises(AdapterError, match="write it as hub:ORG/NAME"):
        parse(place)
    assert hub_module.is_named(place)
