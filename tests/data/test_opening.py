"""Opening pools: names, folders, tables, groups, lists."""

from pathlib import Path

import pytest

from atha.data import Selection
from atha.data.opening import open_pool
from atha.data.sources.cdfsl import benchmarks
from atha.errors import DataError


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b/p1_2.jpg", "b/p1_1.jpg", "a_class/p2_1.jpg", "a_class/sub/p3_1.jpg"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def refusal(*arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        open_pool(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(("dataset", "root"), [("mine", None), ("./mine/", None), ("mine", "."), ("mine/../mine", ".")])
def test_class_folders(here, dataset, root):
    pool = open_pool(dataset, Path(root) if root else None)
    assert pool.name == "mine"
    assert pool.ids == ("a_class/p2_1.jpg", "a_class/sub/p3_1.jpg", "b/p1_1.jpg", "b/p1_2.jpg")
    assert pool.texts == {"a_class": "a class", "b": "b"}
    assert pool.labels == ("a_class", "a_class", "b", "b")
    assert pool.groups is None
    assert pool.labels_hash == open_pool(str(here / "mine")).labels_hash


def test_class_texts(here):
    assert open_pool("mine", classes={"b": "bee"}).texts == {"a_class": "a class", "b": "bee"}
    turned = open_pool("mine", classes=["b", "a class"])
    assert (turned.classes, turned.labels[0], turned.texts_source) == (("b", "a_class"), "b", "the user")
    assert "'c'" in refusal("mine", classes={"c": "x"})


@pytest.mark.parametrize(
    ("column", "kind"), [("group", "group"), ("Patient_ID", "patient"), ("lesion", "lesion"), ("site", "")]
)
def test_table(here, column, kind):
    (here / "t.csv").write_text(
        f"path,label,{column}\nmine/b/p1_2.jpg,Zed,7\n./mine/b/p1_1.jpg,Zed,7\nmine/a_class/p2_1.jpg,Ay,8\n"
    )
    pool = open_pool("t.csv")
    assert pool.ids == ("mine/a_class/p2_1.jpg", "mine/b/p1_1.jpg", "mine/b/p1_2.jpg")
    assert (pool.name, pool.labels, pool.group_kind) == ("t", ("Ay", "Zed", "Zed"), kind)
    assert pool.groups == (("8", "7", "7") if kind else None)
    assert open_pool("t.csv", ignore_groups=True).groups is None
    assert open_pool(str(here / "t.csv")).ids == pool.ids


def test_table_without_a_group_in_a_row(here):
    (here / "mine" / "t.csv").write_text("path,label,patient,lesion\nb/p1_1.jpg,x,1,2\nb/p1_2.jpg,y,,3\n")
    assert "row 3 has no value in column 'patient'" in refusal("mine/t.csv")
    (here / "mine" / "t.csv").write_text("path,label,patient,lesion\nb/p1_1.jpg,x,1,2\nb/p1_2.jpg,y,2,3\n")
    assert [note for note in open_pool("mine/t.csv").notes if "'lesion' could have been meant" in note]


def test_one_image_in_two_spellings(here):
    (here / "t.csv").write_text(f"path,label\nmine/b/p1_1.jpg,bee\n{here}/mine/b/p1_1.jpg,bee\nmine/b/p1_2.jpg,ant\n")
    for path in ("t.csv", str(here / "t.csv")):
        assert open_pool(path).ids == ("mine/b/p1_2.jpg", "mine/b/p1_1.jpg")
        assert open_pool(path).notes[0] == "1 row repeats an earlier one and is not used: row 3"


def test_images_of_a_table_that_are_not_there_stay_to_be_found_out(here):
    (here / "t.csv").write_text("path,label\nmine/b/p1_1.jpg,x\nmine/b/gone.jpg,y\n")
    assert open_pool("t.csv").ids == ("mine/b/p1_1.jpg", "mine/b/gone.jpg")


def test_group_pattern(here):
    assert open_pool("mine", group_pattern=r"^(p\d+)_").groups == ("p2", "p3", "p1", "p1")
    assert open_pool("mine", group_pattern=r"p\d").groups == ("p2", "p3", "p1", "p1")
    hashes = {open_pool("mine", group_pattern=pattern).labels_hash for pattern in (r"^(p\d+)_", r"p\d", r"\d\.jpg")}
    assert len(hashes) == 2, "it is the groups that count, not how they are found"
    assert open_pool("mine", group_pattern=r"p\d", ignore_groups=True) == open_pool("mine")
    assert "finds no group in the file name of 'a_class/p2_1.jpg'" in refusal("mine", group_pattern="(p1)")
    assert "is no regular expression" in refusal("mine", group_pattern="(p1")
    assert "finds no group" in refusal("mine", group_pattern="x?")


def test_without_and_keep(here):
    (here / "mine" / "c").mkdir()
    (here / "mine" / "c" / "x.jpg").write_bytes(b"x")
    assert open_pool("mine", without=["b"]).classes == ("a_class", "c")
    (here / "keep.csv").write_text("path,label\na_class/p2_1.jpg,a_class\nb/p1_1.jpg,b\n")
    cut = open_pool("mine", keep=here / "keep.csv", without=["c"])
    assert cut.ids == ("a_class/p2_1.jpg", "b/p1_1.jpg")
    assert cut.labels_hash != open_pool("mine").labels_hash
    (here / "keep.csv").write_text("path,label\na_class/p2_1.jpg,b\n")
    assert "the label 'b' and mine has 'a_class'" in refusal("mine", keep=here / "keep.csv")
    (here / "keep.csv").write_text("path,label\na_class/other.jpg,b\n")
    assert "'a_class/other.jpg'" in refusal("mine", keep=here / "keep.csv")
    assert "there is no list" in refusal("mine", keep=here / "kep.csv")
    (here / "keep.csv").write_text("a_class/p2_1.jpg,b\n")
    assert "has no columns 'path' and 'label'" in refusal("mine", keep=here / "keep.csv")


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("eurosta", "did you mean 'eurosat'?"),
        ("ISIC2018", "did you mean 'isic2018'?"),
        ("mines", "did you mean 'mine'?"),
        ("", "there is no data set ''"),
        ("eurosat", "--root DIR"),
        ("hf:", "names no data set"),
    ],
)
def test_names_that_are_wrong(here, dataset, said):
    if dataset == "hf:":
        pytest.importorskip("datasets")
    assert said in refusal(dataset)


def test_benchmark_texts(tmp_path):
    for label in benchmarks()["eurosat"].texts:
        (tmp_path / "2750" / label).mkdir(parents=True)
        (tmp_path / "2750" / label / "1.jpg").write_bytes(b"x")
    pool = open_pool("eurosat", tmp_path)
    assert pool.texts["SeaLake"] == "Sea or Lake"
    changed = open_pool("eurosat", tmp_path, classes={"SeaLake": "water", "AnnualCrop": "Annual Crop"})
    assert changed.texts == {**pool.texts, "SeaLake": "water", "AnnualCrop": "Annual Crop"}
    assert (changed.texts_source, changed.labels_hash) == ("the user", pool.labels_hash)
    assert "both read" in refusal("eurosat", tmp_path, classes={"SeaLake": "River"})


def test_rows_and_columns_of_a_table_that_are_named(here):
    rows = [f"{name},{label},{part}" for name, label, part in
            (("p1_1", "bee", "a"), ("p1_2", "bee", "b"), ("p2_1", "ant", "a"), ("p3_1", "ant", "b"))]  # fmt: skip
    (here / "t.csv").write_text("\n".join(["id,insect,part", *rows]))
    options = {"label_column": "insect", "images": here / "mine"}
    pool = open_pool("t.csv", selection=Selection(**options))
    assert (pool.labels, [file.stem for file in pool.files]) == (
        ("ant", "ant", "bee", "bee"),
        ["p2_1", "p3_1", "p1_1", "p1_2"],
    )
    (here / "t.csv").write_text((here / "t.csv").read_text().replace("part", "fold"))
    some = open_pool("t.csv", selection=Selection(**options, split="a"))
    assert [file.stem for file in some.files] == ["p2_1", "p1_1"]
    assert some.labels_hash != open_pool("t.csv", selection=Selection(**options)).labels_hash
    with pytest.raises(DataError, match="--label-column is for tables, and eurosat is a benchmark"):
        open_pool("eurosat", here, selection=Selection(**options))
