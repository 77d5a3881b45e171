"""What the wheel holds: the package, its data and its licences, and nothing else."""

import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    made = next(builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel"))))
    with zipfile.ZipFile(made) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.endswith("METADATA")} | {
            name: b"" for name in archive.namelist() if not name.endswith("METADATA")
        }


def test_holds_the_package_whole(wheel):
    kinds = {".py", ".toml", ".json", ".safetensors", ".typed", ".md", ".txt", ".html", ".js", ".css", ".j2"}
    there = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "atha").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    own = {name for name in wheel if name.startswith("atha/")}
    assert own == there
    assert {Path(name).suffix for name in own} <= kinds | {""}
    assert {"atha/py.typed", "atha/presets/auto.toml", "atha/backbones/nano/model.safetensors"} <= own


def test_holds_nothing_else(wheel):
    rest = {name.split("/", 1)[1] for name in wheel if not name.startswith("atha/")}
    assert {name.split("/", 1)[0] for name in wheel} == {
        "atha",
        next(n for n in wheel if "dist-info" in n).split("/")[0],
    }
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt"} <= rest
    assert {"licenses/LICENSE", "licenses/src/atha/backbones/nano/LICENSE"} <= rest


def test_says_under_what_terms(wheel):
    (metadata,) = (content.decode() for name, content in wheel.items() if name.endswith("METADATA"))
    assert "License-Expression: Apache-2.0 AND LicenseRef-ImageNet-non-commercial" in metadata
    assert "Requires-Python: >=3.11" in metadata
