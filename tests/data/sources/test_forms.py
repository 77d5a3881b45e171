"""The same images in every form in which labelled images are read."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest

import atha
from atha.data import Selection, read_labelled


@pytest.fixture(scope="module")
def flat(support, tmp_path_factory) -> tuple[Path, list[tuple[str, str, str]]]:
    """A folder of all images, and in any order the name, the path as class folders have it, and the label of each."""
    root, rows = tmp_path_factory.mktemp("flat"), []
    for path in support.glob("*/*.png"):
        label = path.parent.name
        (root / f"{label} {path.name}").write_bytes(path.read_bytes())
        rows.append((f"{label} {path.name}", str(path.relative_to(support)), label))
    random.Random(0).shuffle(rows)
    return root, rows


def table(path: Path, *rows: list[str], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def forms(flat, support, folder: Path) -> dict[str, tuple[Path, Selection]]:
    """Each form by name, with what is to be said of it."""
    root, rows = flat
    labels = sorted({label for _, _, label in rows})
    hot = [[name.removesuffix(".png"), *(f"{float(label == one)}" for one in labels)] for name, _, label in rows]
    bare = [[name.removesuffix(".png"), label] for name, _, label in rows]
    windows = [["C:\\data\\" + path.replace("/", "\\"), label] for _, path, label in rows]
    (folder / "lines.jsonl").write_text("\n".join(json.dumps({"img": n, "class": label}) for n, _, label in rows))
    table(root / "metadata.csv", ["file_name", "label"], *([name, label] for name, _, label in rows))
    there, elsewhere = Selection("fit", images=root), Selection("fit", images=support)
    return {
        "class folders": (support, Selection("fit")),
        "one-hot": (table(folder / "hot.csv", ["image", *labels], *hot), there),
        "ids": (table(folder / "ids.csv", ["id", "diagnosis"], *bare, delimiter=";", encoding="utf-16"), there),
        "no header": (table(root / "bare.tsv", *bare, delimiter="\t"), Selection("fit", "1", "2")),
        "backslashes": (table(folder / "win.csv", ["path", "label"], *windows, encoding="utf-8-sig"), elsewhere),
        "JSON Lines": (folder / "lines.jsonl", there),
        "metadata": (root, Selection("fit")),
    }


def content(source: Path, selection: Selection) -> list[tuple[bytes, str]]:
    return [(Path(one.image).read_bytes(), one.label) for one in read_labelled(source, selection).samples]


def test_all_forms_give_the_same_images_in_the_same_order(flat, support, tmp_path):
    found = {name: content(*form) for name, form in forms(flat, support, tmp_path).items()}
    assert len(found["class folders"]) == 6
    for name, images in found.items():
        assert images == found["class folders"], name


def test_parquet_gives_the_same(flat, support, tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "cache"))
    root, rows = flat
    images = [{"bytes": (root / name).read_bytes(), "path": name} for name, _, _ in rows]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {"image": pyarrow.array(images, kind), "label": [label for _, _, label in rows]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    assert content(tmp_path / "t.parquet", Selection("fit")) == content(support, Selection("fit"))


def test_what_is_learned_of_two_forms_is_the_same(flat, support, test_folder, tmp_path):
    made = forms(flat, support, tmp_path)
    backbone = atha.load_backbone("nano")
    recipe = atha.Recipe.load("prototypes")  # sums of features, whose last bits are those of their order
    found = []
    for name in ("class folders", "one-hot"):
        classifier = atha.Classifier(backbone, recipe=recipe).fit(read_labelled(*made[name]))
        found.append(classifier.predict_proba(sorted(test_folder.glob("*/*_0.png"))))
    assert np.array_equal(*found)
