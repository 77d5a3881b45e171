"""Checks against what is expected."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from atha.data import read_labelled
from atha.data.check import check
from atha.data.images import ImageReader
from atha.data.sources.cdfsl import benchmarks
from atha.data.support import decode_support
from atha.data.survey import Benchmark
from atha.errors import DataError


@pytest.fixture
def small() -> Benchmark:
    """EuroSAT, if it had two images of each class."""
    return dataclasses.replace(
        benchmarks()["eurosat"], total=20, counts=dict.fromkeys(benchmarks()["eurosat"].texts, 2)
    )


@pytest.fixture
def root(tmp_path) -> Path:
    for row, label in enumerate(benchmarks()["eurosat"].texts):
        for index in range(2):
            path = tmp_path / "EuroSAT" / "2750" / label / f"{label}_{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64), (row, index, 9)).save(path)
    return tmp_path


def test_all_matches(root, small):
    found = check("eurosat", root, benchmark=small)
    assert (found.problems, found.home) == ((), root / "EuroSAT" / "2750")
    assert found.describe()["matches"]
    assert found.describe()["duplicates"]["flat"] == 20
    assert len(found.kept) == 20
    json.dumps(found.describe())


def test_all_that_differs_is_collected(root, small):
    place = root / "EuroSAT" / "2750"
    (place / "Forest").rename(place / "Wood")
    (place / "River" / "River_1.png").unlink()
    (place / "SeaLake" / "SeaLake_0.png").write_bytes(b"no image")
    found = check("eurosat", root, benchmark=small)
    told = found.describe()
    assert not told["matches"]
    assert (told["missing_folders"], told["extra_folders"]) == (["Forest"], ["Wood"])
    assert (told["counts"]["River"], told["expected_counts"]["River"]) == (1, 2)
    assert [problem for problem in found.problems if "there are 17 images and the protocol has 20" in problem]
    assert [problem for problem in found.problems if "'SeaLake/SeaLake_0.png'" in problem]
    assert "SeaLake/SeaLake_0.png" not in dict(found.kept)


def test_nothing_there(tmp_path):
    found = check("isic2018", tmp_path)
    assert len(found.problems) == 1 and str(tmp_path) in found.problems[0]
    assert found.describe()["images"] == 0
    with pytest.raises(DataError, match="there is no folder"):
        check("isic2018", tmp_path / "nowhere")
    with pytest.raises(DataError, match="--root"):
        check("isic2018")


def test_total_that_is_known_roughly(tmp_path):
    expected = dataclasses.replace(benchmarks()["chestx"], total=201)
    (tmp_path / "images").mkdir()
    rows = ["Image Index,Finding Labels,Patient ID"]
    for index in range(200):
        (tmp_path / "images" / f"{index:08}_000.png").write_bytes(b"x")
        rows.append(f"{index:08}_000.png,Mass,{index}")
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join(rows))
    found = check("chestx", tmp_path, benchmark=expected, duplicates=False)
    assert (found.problems, found.label_file) == ((), tmp_path / "Data_Entry_2017.csv")
    assert [note for note in found.notes if "within 1%" in note]
    assert found.describe()["groups"] == {"kind": "patient", "count": 200}
    far = check("chestx", tmp_path, benchmark=dataclasses.replace(expected, total=210), duplicates=False)
    assert far.problems == ("there are 200 images and the protocol has about 210",)
    (tmp_path / "Data_Entry_2017.csv").rename(tmp_path / "Data_Entry_2017_v2020.csv")
    (tmp_path / "images" / "00000007_000.png").unlink()
    other = check("chestx", tmp_path, benchmark=expected, duplicates=False)
    assert [problem for problem in other.problems if "Data_Entry_2017_v2020.csv and no" in problem]
    assert other.missing == ("00000007_000.png",)
    assert other.pool.labels_hash == found.pool.labels_hash


def test_own_data(root):
    found = check(str(root / "EuroSAT" / "2750"), duplicates=True)
    assert (found.dataset, found.benchmark, found.problems) == ("2750", None, ())
    (root / "EuroSAT" / "2750" / "Empty").mkdir()
    assert "holds no image" in check(str(root / "EuroSAT" / "2750")).problems[0]
    with pytest.raises(DataError, match="there is no data set"):
        check(str(root / "nothing"))


def test_own_data_are_refused_as_fit_refuses_them(root):
    place = root / "EuroSAT" / "2750"
    (place / "River" / "twin.png").write_bytes((place / "Forest" / "Forest_0.png").read_bytes())
    (problem,) = check(str(place)).problems
    assert problem == (
        "Forest/Forest_0.png (Forest) and River/twin.png (River) are the same image in two classes: remove one"
    )
    with pytest.raises(DataError, match=r"Forest_0.png \(Forest\) are the same image in two classes: remove one"):
        decode_support(read_labelled(place), ImageReader(), lambda image: None)
    assert check(str(place), duplicates=False).problems == ()
    for label in benchmarks()["eurosat"].texts:
        if label != "Forest":
            shutil.rmtree(place / label)
    assert "only 'Forest'" in check(str(place)).problems[0]
