"""Readers of the four benchmarks, on small trees built like the real archives."""

import hashlib
from pathlib import Path

import pytest

from atha.data.sources.cdfsl import benchmarks, differences, read, survey
from atha.data.sources.cdfsl_layouts import CHESTX_LABELS, CHESTX_OTHER_LABELS, ISIC_IMAGES, ISIC_LABELS, ISIC_LESIONS
from atha.errors import DataError

ISIC_COLUMNS = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
CHESTX_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"image")
    return path


def folders(place: Path, name: str, suffix: str) -> Path:
    for label in benchmarks()[name].texts:
        for index in range(2):
            touch(place / label / f"{label}_{index}{suffix}")
    return place


def isic(place: Path, columns=None, labels=("MEL", "NV", "DF", "AKIEC"), end="\n", bom=False, lesions=False) -> Path:
    columns = columns or ISIC_COLUMNS
    rows = [",".join(["image", *columns])]
    for index, label in enumerate(labels):
        rows.append(",".join([f"ISIC_{index:07}", *("1.0" if column == label else "0.0" for column in columns)]))
        touch(place / ISIC_IMAGES / f"ISIC_{index:07}.jpg")
    (place / ISIC_LABELS).write_bytes((b"\xef\xbb\xbf" if bom else b"") + (end.join(rows) + end).encode())
    touch(place / ISIC_IMAGES / "ATTRIBUTION.txt")
    if lesions:
        text = "".join(f"ISIC_{index:07},HAM_{index // 2},histopathology\n" for index in range(len(labels)))
        (place / ISIC_LESIONS).write_text(f"image,lesion_id,diagnosis_confirm_type\n{text}")
    return place


def chestx(place: Path, rows=None, labels=CHESTX_LABELS, spread=True) -> Path:
    findings = list(benchmarks()["chestx"].texts)
    rows = rows or [(f"{index // 2 + 1:08}_{index % 2:03}.png", findings[index % 7]) for index in range(24)]
    lines = [CHESTX_HEADER]
    for index, (name, finding) in enumerate(rows):
        lines.append(f"{name},{finding},0,{int(name[:8])},58,M,PA,2682,2749,0.143,0.143,")
        touch(place / f"images_{index % 12 + 1:03}" / "images" / name if spread else place / "images" / name)
    place.mkdir(exist_ok=True)
    (place / labels).write_text("\n".join(lines) + "\n")
    return place


def refusal(name: str, root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(benchmarks()[name], root)
    return str(caught.value)


def test_what_is_expected():
    four = benchmarks()
    assert {name: (one.total, one.approximate, len(one.texts)) for name, one in four.items()} == {
        "eurosat": (27_000, False, 10),
        "cropdiseases": (43_456, False, 38),
        "isic2018": (10_015, False, 7),
        "chestx": (25_847, True, 7),
    }
    assert list(four["isic2018"].texts) == ISIC_COLUMNS
    assert four["isic2018"].texts["AKIEC"] == "Actinic Keratosis"
    assert four["eurosat"].texts["SeaLake"] == "Sea or Lake"
    crops = four["cropdiseases"].texts
    assert list(crops) == sorted(crops)
    assert crops["Pepper,_bell___Bacterial_spot"] == "Pepper, bell   Bacterial spot"
    for one in four.values():
        assert not one.counts or (sum(one.counts.values()) == one.total and list(one.counts) == list(one.texts))


@pytest.mark.parametrize("place", ["EuroSAT/2750", "eurosat/2750", "2750", "EuroSAT", "."])
@pytest.mark.parametrize("deeper", ["", "parent"])
def test_places_of_eurosat(tmp_path, place, deeper):
    folders(tmp_path / deeper / place, "eurosat", ".jpg")
    pool = read(benchmarks()["eurosat"], tmp_path / deeper)
    assert (len(pool.ids), pool.ids[0]) == (20, "AnnualCrop/AnnualCrop_0.jpg")
    assert pool.classes == tuple(benchmarks()["eurosat"].texts)
    assert "there are 20 images and the protocol has 27,000" in pool.notes


def test_inner_folder_as_root_gives_the_same_pool(tmp_path):
    place = folders(tmp_path / "EuroSAT" / "2750", "eurosat", ".jpg")
    touch(place / ".DS_Store")
    touch(place / "River" / "._River_0.jpg")
    touch(place / "River" / "Thumbs.db")
    touch(place / "River" / "readme.txt")
    touch(place / "more.txt")
    pools = [read(benchmarks()["eurosat"], root) for root in (tmp_path, place.parent, place)]
    assert pools[0] == pools[1] == pools[2]
    assert len(pools[0].ids) == 20
    assert [note for note in pools[0].notes if "more.txt" in note]
    assert [note for note in pools[0].notes if note.startswith("1 file is in the class folders")]


def test_crop_diseases_in_the_order_of_python(tmp_path):
    place = folders(tmp_path / "CropDiseases" / "dataset" / "train", "cropdiseases", ".JPG")
    folders(tmp_path / "CropDiseases" / "dataset" / "test", "cropdiseases", ".JPG")
    pool = read(benchmarks()["cropdiseases"], tmp_path)
    assert len(pool.ids) == 76
    assert list(dict.fromkeys(pool.labels)) == sorted(path.name for path in place.iterdir())
    assert all("/train/" in file.as_posix() for file in pool.files)


def test_class_folders_missing_extra_or_empty(tmp_path):
    place = folders(tmp_path / "2750", "eurosat", ".jpg")
    touch(place / "Desert" / "a.jpg")
    assert "1 folder is" in refusal("eurosat", tmp_path)
    assert "'Desert'" in refusal("eurosat", tmp_path)
    (place / "Desert").rename(place / "River2")
    for file in (place / "River").iterdir():
        file.unlink()
    (place / "Forest").rename(tmp_path / "elsewhere")
    found = survey(benchmarks()["eurosat"], tmp_path)
    assert (found.missing_folders, found.extra_folders) == (("Forest",), ("River2",))
    assert len(found.problems) == 3
    assert "2 more" in refusal("eurosat", tmp_path)


def test_nothing_there_names_the_places(tmp_path):
    text = refusal("eurosat", tmp_path)
    assert all(str(tmp_path / place) in text for place in ("EuroSAT/2750", "EuroSAT", "2750"))
    assert "there is no folder" in refusal("isic2018", tmp_path / "nothing")


@pytest.mark.parametrize("columns", [ISIC_COLUMNS, sorted(ISIC_COLUMNS), ISIC_COLUMNS[::-1]])
@pytest.mark.parametrize(("end", "bom"), [("\n", False), ("\r\n", True)])
def test_isic_labels_go_by_name(tmp_path, columns, end, bom):
    place = isic(tmp_path / "ISIC2018", columns, end=end, bom=bom)
    pool = read(benchmarks()["isic2018"], tmp_path)
    assert dict(zip(pool.ids, pool.labels, strict=True)) == {
        "ISIC_0000000.jpg": "MEL",
        "ISIC_0000001.jpg": "NV",
        "ISIC_0000002.jpg": "DF",
        "ISIC_0000003.jpg": "AKIEC",
    }
    assert pool.labels == ("MEL", "NV", "AKIEC", "DF"), "in the order of the classes"
    assert pool.texts["DF"] == "Dermatofibroma"
    assert pool.labels_hash == hashlib.sha256((place / ISIC_LABELS).read_bytes()).hexdigest()
    assert pool.groups is None
    assert [note for note in pool.notes if "may share a lesion" in note]


def test_isic_lesions_and_label_file_in_its_own_folder(tmp_path):
    place = isic(tmp_path, lesions=True)
    (place / "ISIC2018_Task3_Training_GroundTruth").mkdir()
    (place / ISIC_LABELS).rename(place / "ISIC2018_Task3_Training_GroundTruth" / ISIC_LABELS)
    pool = read(benchmarks()["isic2018"], tmp_path)
    assert (pool.groups, pool.group_kind) == (("HAM_0", "HAM_0", "HAM_1", "HAM_1"), "lesion")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("ISIC_1,1,1,0,0,0,0,0", "row 2 ('ISIC_1') has 1 1 0 0 0 0 0"),
        ("ISIC_1,0,0,0,0,0,0,0", "row 2 ('ISIC_1')"),
        ("ISIC_1,0.7,0,0,0,0,0,0.3", "row 2"),
        ("ISIC_1,1,0,0,,0,0,0", "row 2"),
        ("../ISIC_1,1,0,0,0,0,0,0", "'../ISIC_1'"),
        ("/etc/x,1,0,0,0,0,0,0", "'/etc/x'"),
        ("a\\b,1,0,0,0,0,0,0", "'a\\b'"),
    ],
)
def test_isic_rows_that_are_refused(tmp_path, row, said):
    isic(tmp_path)
    (tmp_path / ISIC_LABELS).write_text(f"image,{','.join(ISIC_COLUMNS)}\n{row}\n")
    assert said in refusal("isic2018", tmp_path)


def test_isic_missing_image_column_and_repeated_row(tmp_path):
    isic(tmp_path)
    (tmp_path / ISIC_IMAGES / "ISIC_0000002.jpg").unlink()
    assert "1 image is" in refusal("isic2018", tmp_path)
    assert "'ISIC_0000002.jpg'" in refusal("isic2018", tmp_path)
    assert survey(benchmarks()["isic2018"], tmp_path).missing == ("ISIC_0000002.jpg",)
    text = (tmp_path / ISIC_LABELS).read_text()
    (tmp_path / ISIC_LABELS).write_text(text + text.splitlines()[1] + "\n")
    touch(tmp_path / ISIC_IMAGES / "ISIC_0000002.jpg")
    assert "more than once, the first is 'ISIC_0000000.jpg'" in refusal("isic2018", tmp_path)
    (tmp_path / ISIC_LABELS).write_text(text.replace("VASC", "VASCULAR"))
    assert "no column 'VASC'" in refusal("isic2018", tmp_path)


@pytest.mark.parametrize("spread", [True, False])
def test_chestx(tmp_path, spread):
    rows = [
        ("00000001_000.png", "Cardiomegaly"),
        ("00000001_001.png", "Cardiomegaly|Emphysema"),
        ("00000002_000.png", "No Finding"),
        ("00000003_000.png", "Pneumonia"),
        ("00000004_000.png", "Mass"),
        ("00000001_002.png", "Atelectasis"),
        ("00000005_000.png", "Pleural_Thickening"),
    ]
    place = chestx(tmp_path / "ChestX", rows, spread=spread)
    pool = read(benchmarks()["chestx"], tmp_path)
    assert pool.ids == ("00000001_002.png", "00000001_000.png", "00000004_000.png")
    assert pool.labels == ("Atelectasis", "Cardiomegaly", "Mass")
    assert (pool.groups, pool.group_kind) == (("1", "1", "4"), "patient")
    assert all(file.is_file() for file in pool.files)
    assert "rows passed over: 2 with another finding, 1 with no finding, 1 with several findings" in pool.notes
    assert pool.labels_hash == hashlib.sha256((place / CHESTX_LABELS).read_bytes()).hexdigest()


def test_chestx_over_twelve_folders_and_images_too(tmp_path):
    chestx(tmp_path)
    (tmp_path / "images_003" / "images").rename(tmp_path / "images")
    pool = read(benchmarks()["chestx"], tmp_path)
    assert (len(pool.ids), len({file.parent for file in pool.files})) == (24, 12)
    next((tmp_path / "images").iterdir()).unlink()
    assert "1 image is" in refusal("chestx", tmp_path)


def test_chestx_without_patients_goes_by_file_name(tmp_path):
    chestx(tmp_path, [("00000012_000.png", "Mass"), ("00000012_001.png", "Nodule")])
    (tmp_path / CHESTX_LABELS).write_text(
        "Finding Labels,Image Index\nMass,00000012_000.png\nNodule,00000012_001.png\n"
    )
    assert read(benchmarks()["chestx"], tmp_path).groups == ("00000012", "00000012")


def test_chestx_other_labelling(tmp_path):
    chestx(tmp_path)
    (tmp_path / CHESTX_OTHER_LABELS).write_text("Image Index,Finding Labels\n")
    assert [note for note in read(benchmarks()["chestx"], tmp_path).notes if CHESTX_OTHER_LABELS in note]
    (tmp_path / CHESTX_LABELS).rename(tmp_path / CHESTX_OTHER_LABELS)
    text = refusal("chestx", tmp_path)
    assert CHESTX_OTHER_LABELS in text and "get Data_Entry_2017.csv" in text


def test_chestx_paths_stay_inside(tmp_path):
    chestx(tmp_path, [("00000001_000.png", "Mass")])
    (tmp_path / CHESTX_LABELS).write_text("Image Index,Finding Labels\n../00000001_000.png,Mass\n")
    assert "'../00000001_000.png'" in refusal("chestx", tmp_path)


def test_differences():
    isic2018, chest = benchmarks()["isic2018"], benchmarks()["chestx"]
    assert differences(isic2018, isic2018.counts) == []
    swapped = {**isic2018.counts, "MEL": isic2018.counts["NV"], "NV": isic2018.counts["MEL"]}
    assert ["MEL 6,705 (1,113)" in said for said in differences(isic2018, swapped)] == [True]
    assert differences(chest, {"Mass": 25_700}) == []
    assert len(differences(chest, {"Mass": 25_500})) == 1
