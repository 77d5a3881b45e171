"""``atha data``: output, exit codes and lists."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from atha.data import check as checks
from atha.data.opening import open_pool
from atha.data.sources.cdfsl import benchmarks
from commands import run


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A EuroSAT of two images a class, one of them a copy of another class's, and a protocol that expects it."""
    monkeypatch.chdir(tmp_path)
    texts = benchmarks()["eurosat"].texts
    for row, label in enumerate(texts):
        for index in range(2):
            path = tmp_path / "eurosat" / "2750" / label / f"{label}_{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (row, index, 9)).save(path)
    copied = tmp_path / "eurosat" / "2750" / "Forest" / "Forest_0.png"
    (copied.parents[1] / "River" / "River_1.png").write_bytes(copied.read_bytes())
    small = dataclasses.replace(benchmarks()["eurosat"], total=20, counts=dict.fromkeys(texts, 2))
    monkeypatch.setattr(checks, "benchmarks", lambda: {**benchmarks(), "eurosat": small})
    return tmp_path


def test_list():
    shown = run("data", "list")
    assert shown.exit_code == 0
    assert all(text in shown.stdout for text in ("27,000", "43,456", "10,015", "about 25,847", "saroz014"))
    told = json.loads(run("data", "list", "--json").stdout)
    assert list(told) == ["eurosat", "cropdiseases", "isic2018", "chestx"]
    assert told["isic2018"]["classes"]["VASC"] == "Vascular Lesion"


def test_match_is_0_even_with_copies(here):
    result = run("data", "check", "eurosat", "--root", here)
    assert result.exit_code == 0, result.output
    assert "20 of 20 images" in result.stdout
    assert "Exact copies: 2 images in 1 groups, 1 with two labels." in result.stdout
    assert "Forest/Forest_0.png, River/River_1.png (labels: Forest, River)" in result.stdout
    assert "eurosat is as the protocol expects it." in result.stdout


def test_difference_is_1(here):
    (here / "eurosat" / "2750" / "Desert").mkdir()
    result = run("data", "check", "eurosat", "--root", here, "--no-duplicates")
    assert result.exit_code == 1
    assert "Problem: 1 folder is in" in result.stdout
    told = run("data", "check", "eurosat", "--root", here, "--json")
    assert told.exit_code == 1
    content = json.loads(told.stdout)
    assert (content["matches"], content["extra_folders"], content["expected"]) == (False, ["Desert"], 20)
    assert content["duplicates"]["exact"] == [
        {"ids": ["Forest/Forest_0.png", "River/River_1.png"], "labels": ["Forest", "River"]}
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eurosat"], "--root DIR"),
        (["eurosat", "--root", "nowhere"], "there is no folder 'nowhere'"),
        (["eurosta"], "did you mean 'eurosat'?"),
        (["eurosat", "--root", ".", "--write-list", "eurosat"], "is a folder"),
        (["eurosat", "--root", ".", "--write-list", "eurosat/2750/River/River_0.png"], "--overwrite"),
        (["eurosat", "--root", ".", "--write-list", "l.csv", "--no-duplicates"], "drop one"),
    ],
)
def test_mistakes_are_2(here, arguments, said):
    result = run("data", "check", *arguments)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert not result.stdout
    assert [path.name for path in here.iterdir()] == ["eurosat"]


def test_list_is_written_once_and_read_by_keep(here):
    place = here / "eurosat" / "2750"
    arguments = ("data", "check", place, "--write-list", "list.csv")
    assert run(*arguments).exit_code == 1  # of the user's own data, two labels are a problem
    content = (here / "list.csv").read_bytes()
    rows = list(csv.reader(content.decode().splitlines()))
    assert rows[0] == ["path", "label"] and len(rows) == 20
    assert ["River/River_1.png", "River"] not in rows
    pool = open_pool(str(place), keep=here / "list.csv")
    assert len(pool.ids) == 19
    again = run(*arguments)
    assert (again.exit_code, (here / "list.csv").read_bytes()) == (2, content)
    assert "--overwrite" in again.stderr
    (here / "list.csv").write_text("mine")
    assert run(*arguments, "--overwrite").exit_code == 1
    assert (here / "list.csv").read_bytes() == content
    assert sorted(path.name for path in here.iterdir()) == ["eurosat", "list.csv"]
