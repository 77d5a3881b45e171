"""JSON Lines, and folders of images with a table of them."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atha.data import Selection, read_labelled
from atha.errors import AthaWarning, DataError


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("a.png", "b.png", "sub/c.png", "unlisted.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    return tmp_path / "set"


def pairs(source: Path, **selection) -> str:
    found = read_labelled(source, Selection(**selection))
    return " ".join(f"{Path(sample.image).stem}={sample.label}" for sample in found.samples)


def refusal(source: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_labelled(source)
    return str(caught.value)


def lines(*objects: object) -> str:
    return "\n".join(map(json.dumps, objects))


ROWS = [
    {"file_name": "b.png", "label": 1, "boxes": [[1, 2]], "split": "train"},
    {"file_name": "a.png", "note": {"x": None}, "label": "nevus", "split": "train"},
    {"file_name": "sub\\c.png", "label": True, "split": "test"},
]


@pytest.mark.parametrize("name", ["metadata.jsonl", "labels.jsonl", "LABELS.NDJSON"])
def test_json_lines(folder, name):
    path = folder / name
    path.write_text("\ufeff" + lines(*ROWS) + "\n\n", "utf-8")
    assert pairs(path) == "b=1 c=True a=nevus"
    with pytest.warns(AthaWarning, match="rows of 'train'"):
        assert pairs(path, use="fit", image_column="file_name") == "b=1 a=nevus"


def test_a_folder_with_a_table(folder):
    (folder / "metadata.csv").write_text("file_name,label\nsub/c.png,x\na.png,y\n")
    assert pairs(folder) == "c=x a=y"
    (folder / "metadata.jsonl").write_text(lines(*ROWS))
    with pytest.warns(AthaWarning, match="rows of 'test'"):
        assert pairs(folder, use="test") == "c=True"
    assert pairs(folder, label_column="split") == "c=test a=train b=train"


@pytest.mark.parametrize("name", ["../b.png", "sub/../../b.png", "..\\b.png", "/b.png"])
def test_a_table_that_came_with_its_images_leads_nowhere_else(folder, name):
    (folder.parent / "b.png").touch()
    (folder / "metadata.jsonl").write_text(lines(ROWS[0], {"file_name": name, "label": "x"}))
    assert "row 2 names" in refusal(folder) and "which is not in its folder" in refusal(folder)


def test_class_folders_beside_a_table_without_labels_are_class_folders(folder):
    (folder / "more").mkdir()
    (folder / "more" / "d.png").touch()
    for text in ("file_name,camera\na.png,x\n", "path,label\na.png,x\n", '"file_name\n'):
        (folder / "metadata.csv").write_text(text)
        assert pairs(folder) == "d=more c=sub"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the table is empty"),
        ("{", "line 1 is not JSON"),
        ("[1]", "line 1 holds no table of keys"),
        (lines(ROWS[0]) + "\n{'file_name': 1}", "line 2 is not JSON"),
        (lines(ROWS[0], {"file_name": "a.png", "label": ["x"]}), "row 2 has no value in column 'label'"),
        (lines(ROWS[0], {"label": "x"}), "row 2 has no value in column 'file_name'"),
        (lines({"file_name": "a.png", "label": float("nan")}), "holds NaN"),
        (lines({"file_name": "z.png", "label": 1}), "none of its 1 images is there"),
        ("{}\n{}", "no image column"),
    ],
)
def test_bad_json_lines(folder, text, said):
    (folder / "t.jsonl").write_text(text)
    assert said in refusal(folder / "t.jsonl")


def test_a_table_that_is_damaged_is_named(folder):
    (folder / "sub" / "c.png").unlink()
    (folder / "sub").rmdir()
    (folder / "metadata.jsonl").write_text("{")
    assert "metadata.jsonl: line 1 is not JSON" in refusal(folder)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(["file_name", "label", "split", "a\nb"]), st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.just("a.png"),
    lambda inner: st.lists(inner, max_size=2))), max_size=4), st.text(max_size=3))  # fmt: skip
def test_any_objects_give_images_or_a_data_error(folder, objects, end):
    (folder / "t.jsonl").write_text(lines(*objects) + end, "utf-8", "surrogatepass")
    with contextlib.suppress(DataError):
        assert read_labelled(folder / "t.jsonl").samples
