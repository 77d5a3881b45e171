"""Data sets in the form of the hub, from local folders; needs the library ``datasets``."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atha.data import Selection, read_labelled
from atha.data.finding import find_images
from atha.data.opening import open_pool
from atha.errors import AthaWarning, DataError


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'atha\[datasets\]'"):
        open_pool("hf:org/name", tmp_path)


@pytest.fixture
def library(monkeypatch, tmp_path):
    made = pytest.importorskip("datasets")
    monkeypatch.setattr(made.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    made.disable_progress_bars()
    return made


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "dog & co"):
            for index in range(2):
                path = tmp_path / "pets" / split / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (9, 8, 3), np.uint8)).save(path)
    return tmp_path / "pets"


def saved(library, path: Path, features: dict, **columns) -> Path:
    """A data set as the library saves it to disk."""
    pyarrow = pytest.importorskip("pyarrow")
    made = library.Features(features)
    table = library.table.InMemoryTable(pyarrow.table(columns, schema=made.arrow_schema))
    data = library.Dataset(table, info=library.DatasetInfo(features=made), fingerprint=path.name)
    data.save_to_disk(str(path))
    return path


def test_image_folder(library, folder, tmp_path):
    pool = open_pool(f"hf:{folder}", tmp_path / "written")
    assert (pool.name, pool.labels) == ("pets@test", ("cat", "cat", "dog & co", "dog & co"))
    assert [file.read_bytes() for file in pool.files] == [
        (folder / "test" / label / f"{index}.png").read_bytes() for label in ("cat", "dog & co") for index in range(2)
    ]
    assert open_pool(f"hf:{folder}@test", tmp_path / "written") == pool
    assert open_pool(f"hf:{folder}@train", tmp_path / "written").labels_hash
    assert not [path for path in (tmp_path / "written").iterdir() if path.name.startswith(".new")]
    with pytest.raises(DataError, match="no split 'dev', only"):
        open_pool(f"hf:{folder}@dev", tmp_path / "written")


def test_saved_dataset_with_texts_as_labels(library, folder, tmp_path):
    photos = [{"bytes": path.read_bytes(), "path": None} for path in sorted((folder / "test").rglob("*.png"))]
    features = {"photo": library.Image(), "class": library.Value("string")}
    path = saved(library, tmp_path / "saved", features, **{"photo": photos, "class": ["../x", "..x", "..x", "y"]})
    pool = open_pool(f"hf:{path}", tmp_path / "written")
    assert pool.counts == {"../x": 1, "..x": 2, "y": 1}
    assert all((tmp_path / "written") in file.resolve().parents for file in pool.files)
    assert sorted(file.read_bytes() for file in pool.files) == sorted(photo["bytes"] for photo in photos)


def test_data_that_cannot_be_used(library, folder, tmp_path):
    texts = {"text": library.Value("string"), "label": library.Value("string")}
    path = saved(library, tmp_path / "texts", texts, text=["a"], label=["b"])
    with pytest.raises(DataError, match="no column of images"):
        open_pool(f"hf:{path}", tmp_path / "written")
    with pytest.raises(DataError, match="there is no folder"):
        open_pool(f"hf:{tmp_path / 'nothing'}", tmp_path / "written")
    photo = {"bytes": next(folder.rglob("*.png")).read_bytes(), "path": None}
    features = {"image": library.Image(), "label": library.ClassLabel(names=["a", "b"])}
    path = saved(library, tmp_path / "unlabelled", features, image=[photo, photo], label=[0, -1])
    with pytest.raises(DataError, match="row 1 of 'unlabelled@all' has no label"):
        open_pool(f"hf:{path}", tmp_path / "written")
    assert not list((tmp_path / "written").iterdir()), "nothing half-written is left"


def test_what_a_killed_process_left_is_removed(library, folder, tmp_path):
    cache = tmp_path / "written"
    for name in (".atha-saving-0123456789ab", ".somebody's", "other"):
        (cache / name).mkdir(parents=True)
        (cache / name / "a.png").write_bytes(b"x")
    pool = open_pool(f"hf:{folder}", cache)
    assert {path.name for path in cache.iterdir()} == {".somebody's", "other", pool.files[0].parents[1].name}


def test_hub_that_does_not_answer_is_asked_once(library, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(library, "get_dataset_split_names", lambda name: ["train"])
    with pytest.raises(DataError, match=r"the hub does not answer, and there is no copy of it in the cache"):
        open_pool("hf:org/name", tmp_path)
    (tmp_path / "org___name").mkdir()
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="no split 'test'"):
        open_pool("hf:org/name@test", tmp_path / "images")


def test_hub_that_cannot_be_reached(library, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(library.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"the data set 'org/name' cannot be had .* hf:FOLDER"):
        open_pool("hf:org/name@test", tmp_path / "written")


def test_each_use_takes_its_split(library, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "cache"))
    for use, split in (("fit", "train"), ("test", "test")):
        images = read_labelled(f"hf:{folder}", Selection(use))
        expected = read_labelled(folder / split)
        assert (images.source, images.labels) == (f"pets@{split}", ("cat", "dog & co"))
        assert [Path(one.image).read_bytes() for one in images.samples] == [
            Path(one.image).read_bytes() for one in expected.samples
        ]
    assert read_labelled(f"hf:{folder}@train", Selection("test")).source == "pets@train"
    assert read_labelled(f"hf:{folder}", Selection("test", split="train")).source == "pets@train"
    with pytest.raises(DataError, match="names a split, and so does --split"):
        read_labelled(f"hf:{folder}@train", Selection("fit", split="train"))
    with pytest.raises(DataError, match="--images is for tables"):
        read_labelled(f"hf:{folder}", Selection("fit", images=tmp_path))
    (folder / "test").rename(folder / "validation")
    with pytest.warns(AthaWarning, match="pets@validation is taken: there is no test split"):
        assert len(read_labelled(f"hf:{folder}", Selection("test")).samples) == 4
    shutil.rmtree(folder / "validation")
    with pytest.raises(DataError, match=r"has the splits 'train'; name one to test on as hf:.*@SPLIT"):
        read_labelled(f"hf:{folder}", Selection("test"))


def test_columns_that_are_named_and_images_without_labels(library, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "cache"))
    photos = [{"bytes": path.read_bytes(), "path": None} for path in sorted((folder / "test").rglob("*.png"))]
    features = {"photo": library.Image(), "kind": library.Value("string"), "number": library.Value("int32")}
    columns = {"photo": photos, "kind": list("xyxy"), "number": [1, 2, 3, 4]}
    name = f"hf:{saved(library, tmp_path / 'saved', features, **columns)}"
    assert len(find_images([name])) == 4
    with pytest.raises(DataError, match="none of them is known to be the classes: name it with --label-column"):
        read_labelled(name, Selection("fit"))
    assert read_labelled(name, Selection("fit", label_column="kind")).counts == {"x": 2, "y": 2}
    assert read_labelled(name, Selection("fit", label_column="number")).labels == ("1", "2", "3", "4")
    with pytest.raises(DataError, match="has no column 'knd', only 'photo', 'kind'"):
        read_labelled(name, Selection("fit", label_column="knd"))
    with pytest.raises(DataError, match="'kind' is no column of images of"):
        read_labelled(name, Selection("fit", "kind"))
