"""Parquet files: tables of paths, and of the images themselves."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atha.data import Selection, read_labelled
from atha.data.finding import find_images
from atha.data.opening import open_pool
from atha.data.sources import parquet
from atha.errors import AthaWarning, DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
parquet_files = pytest.importorskip("atha.data.sources.parquet_files")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def photos(tmp_path, monkeypatch) -> list[Path]:
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "cache"))
    made = [tmp_path / "photos" / f"{name}.png" for name in "dacb"]
    made[0].parent.mkdir()
    for number, path in enumerate(made):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(path)
    return made


@pytest.fixture
def here(monkeypatch):
    """Files are converted in this process: a new one for each takes long."""
    monkeypatch.setattr(parquet, "ask", lambda module, wanted, seconds: (parquet_files.convert(wanted), b""))


def write(file: Path, features: str | None = None, **columns) -> Path:
    table = pa.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": features})
    file.parent.mkdir(exist_ok=True)
    pq.write_table(table, file, row_group_size=2, compression="zstd")
    return file


def embedded(photos, named: bool = True) -> pa.Array:
    rows = [{"bytes": photo.read_bytes(), "path": f"x/{photo.name}" if named else None} for photo in photos]
    return pa.array(rows, IMAGE)


def pairs(source: Path, **selection) -> list[tuple[bytes, str]]:
    return [(Path(one.image).read_bytes(), one.label) for one in read_labelled(source, Selection(**selection)).samples]


NAMES = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
FEATURES = json.dumps({"info": {"features": NAMES}})


def test_images_and_names_of_classes(tmp_path, photos, here):
    path = write(tmp_path / "t.parquet", image=embedded(photos), label=[0, 1, 1, 0], features=FEATURES)
    b, a, c, d = (photos[index].read_bytes() for index in (3, 1, 2, 0))
    assert pairs(path) == [(b, "cat"), (d, "cat"), (a, "dog"), (c, "dog")], "by class and then by name"
    images = read_labelled(path)
    assert (images.source, images.ignored) == (str(path), ())
    assert open_pool(str(path)).ids == ("images/000/b.png", "images/000/d.png", "images/000/a.png", "images/000/c.png")
    assert len(find_images([path])) == 4
    numbers = write(tmp_path / "n.parquet", image=embedded(photos), label=[0, 1, 1, 0])
    assert [label for _, label in pairs(numbers)] == ["0", "0", "1", "1"]


def test_bytes_alone_and_images_of_one_name(tmp_path, photos, here):
    content = [photo.read_bytes() for photo in photos]
    path = write(tmp_path / "t.parquet", picture=content, kind=["x", "y", "x", "y"], age=[1.5, None, 2, 3])
    with pytest.raises(DataError, match="no label column"):
        read_labelled(path)
    assert pairs(path, label_column="kind") == [(content[i], "xyxy"[i]) for i in (0, 2, 1, 3)]
    same = pa.array([{"bytes": one, "path": "same.png"} for one in content], IMAGE)
    assert len(set(pairs(write(tmp_path / "s.parquet", image=same, label=list("xyxy"))))) == 4


def test_a_table_of_paths(tmp_path, photos, here):
    path = write(tmp_path / "t.parquet", path=[f"photos/{photo.stem}" for photo in photos], label=pa.array(
        ["x", "y", "x", "y"]).dictionary_encode(), split=["train", "train", "test", "test"])  # fmt: skip
    with pytest.warns(AthaWarning, match="rows of 'train'"):
        assert [label for _, label in pairs(path, use="fit")] == ["x", "y"]
    path = write(tmp_path / "t.parquet", id=["d", "a"], MEL=[True, False], NV=[0, 1])
    assert [label for _, label in pairs(path, images=tmp_path / "photos")] == ["NV", "MEL"][::-1]


def test_a_folder_of_files(tmp_path, photos, here):
    parts = {"train-00000-of-00002": photos[:1], "train-00001-of-00002": photos[1:3], "test-0": photos[3:]}
    for name, part in parts.items():
        write(tmp_path / "set" / f"{name}.parquet", image=embedded(part), label=["x"] * len(part))
    with pytest.warns(AthaWarning, match=r"rows of 'train' \(3\)"):
        assert len(pairs(tmp_path / "set", use="fit")) == 3
    with pytest.warns(AthaWarning, match=r"rows of 'test' \(1\)"):
        assert pairs(tmp_path / "set", use="test") == [(photos[3].read_bytes(), "x")]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"image": [b"x"], "photo": [b"x"], "label": ["y"]}, ""),
        (
            {"scan": [b"x"], "photo": [b"x"], "label": ["y"]},
            "'scan', 'photo' hold images; name one with --image-column",
        ),
        ({"image": [None, b"x"], "label": ["y", "z"]}, "row 1 has no value in column 'image'"),
        ({"image": [b"x", b"y"], "label": [1, 7], "features": FEATURES}, "row 2 has no value in column 'label'"),
        ({"image": [b"x"], "label": [0], "features": '{"info": {"features": {"label": 3}}}'}, ""),
        ({"image": [b"x"], "label": [0], "features": "["}, ""),
        ({"path": ["nowhere.png"], "label": [0]}, "none of its 1 images is there"),
        ({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}, "no rows"),
        ({"image": [bytes(1 << 16)] * 3, "label": [0, 0, 0]}, "stands for far more than its size"),
    ],
)
def test_tables_that_are_odd(tmp_path, here, monkeypatch, columns, said):
    monkeypatch.setattr(parquet_files, "_BESIDE", 10_000)
    path = write(tmp_path / "t.parquet", **columns)
    if not said:
        assert len(pairs(path)) == 1
        return
    with pytest.raises(DataError, match=said):
        read_labelled(path)


def test_a_reader_that_breaks_off_or_takes_too_long(tmp_path, photos, monkeypatch):
    path = write(tmp_path / "t.parquet", image=embedded(photos), label=[0, 1, 1, 0])
    monkeypatch.setattr(parquet, "_SECONDS", 0.01)
    with pytest.raises(DataError, match=r"takes more than 0\.01 s to read"):
        read_labelled(path)
    monkeypatch.setattr(parquet, "_SECONDS", 20)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(DataError, match=r"is no Parquet that can be read .its reader broke off"):
        read_labelled(path)
    assert not list((tmp_path / "cache" / "parquet").iterdir()), "nothing half-written is left"


def damaged(path: Path, count: int) -> int:
    """How many of some damaged copies are refused, each with a sentence."""
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(count):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(whole))] if rng.random() < 0.2 else content)
        try:
            read_labelled(path)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    return refused


def test_damaged_files_are_a_sentence(tmp_path, photos):
    assert damaged(write(tmp_path / "t.parquet", image=embedded(photos), label=[0, 1, 1, 0], features=FEATURES), 1)


@pytest.mark.slow
def test_many_damaged_files_are_a_sentence(tmp_path, photos):
    path = write(tmp_path / "t.parquet", image=embedded(photos), label=[0, 1, 1, 0], features=FEATURES)
    assert damaged(path, 300) > 30


def test_without_the_library(tmp_path, photos, monkeypatch):
    path = write(tmp_path / "t.parquet", image=embedded(photos), label=[0, 1, 1, 0])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"extra 'parquet': pip install 'atha\[parquet\]'"):
        read_labelled(path)


def test_what_does_not_begin_as_parquet_is_not_gone_through(tmp_path):
    path = tmp_path / "a.parquet"
    for begin in (b"PAR1", b"text"):
        with path.open("wb") as file:
            file.write(begin)
            file.truncate(1 << 33)
        with pytest.raises(DataError, match="does not begin and end as one"):
            read_labelled(path)
