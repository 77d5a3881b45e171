"""Class texts."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atha.errors import DataError
from atha.prompts import clean_class_name, name_classes, read_classes_file, tells_nothing


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AnnualCrop", "Annual Crop"),
        ("HerbaceousVegetation", "Herbaceous Vegetation"),
        ("HTMLPage", "HTML Page"),
        ("MEL", "MEL"),
        ("Apple___Apple_scab", "Apple Apple scab"),
        ("SeaLake", "Sea Lake"),
        ("already  clean\tname ", "already clean name"),
        ("_nevus_", "nevus"),
        ("ABCd", "AB Cd"),
        ("aB", "a B"),
        ("T1Weighted", "T1Weighted"),
        ("Corn_(maize)___healthy", "Corn (maize) healthy"),
        ("ÉcoleÉlémentaire", "École Élémentaire"),
        ("ЗолотаяРыбка", "Золотая Рыбка"),
        ("黑色素瘤", "黑色素瘤"),
        ("Me\u0301nie\u0300re", "Ménière"),
        ("7", "7"),
    ],
)
def test_clean_class_name(name, expected):
    assert clean_class_name(name) == expected


WORDLESS = "0 7 01 1.0 A z - ? true No class_3 Class3 label-4 GroupA ID_7 c0 k9 n03891332 n_02085620 3f9a2b1c0d"
WORDS = (
    "cat MEL 747-400 A320 T1 F16 é 黑色素瘤 type_2_diabetes no_tumor facade decade 2_cats n02085620-Chihuahua id_card"
)


@pytest.mark.parametrize(("names", "nothing"), [(WORDLESS, True), (WORDS, False)])
def test_texts_that_tell_nothing(names, nothing):
    for name in names.split():
        assert tells_nothing(clean_class_name(name)) == nothing, name


@pytest.mark.parametrize("name", ["_", "____", "", " ", " _ "])
def test_name_without_words(name):
    with pytest.raises(DataError) as caught:
        clean_class_name(name)
    assert f"'{name}'" in str(caught.value) and "rename it" in str(caught.value)


@given(st.one_of(st.text(), st.text("aBÉé_ \u0301\u03343ǅß", max_size=12)))
def test_cleaning_is_idempotent_and_collapsed(name):
    if not name.replace("_", " ").strip():
        with pytest.raises(DataError):
            clean_class_name(name)
        return
    text = clean_class_name(name)
    assert clean_class_name(text) == text
    assert "_" not in text
    assert text == " ".join(text.split()) != ""
    # Nothing but spaces is added or lost.
    letters = unicodedata.normalize("NFC", name)
    assert re.sub(r"\s", "", text) == re.sub(r"\s", "", letters.replace("_", ""))


LABELS = ["AnnualCrop", "sea_lake", "MEL"]


def test_labels_are_cleaned_in_order():
    named = name_classes(LABELS)
    assert list(named.items()) == [("AnnualCrop", "Annual Crop"), ("sea_lake", "sea lake"), ("MEL", "MEL")]
    assert name_classes(LABELS, {}) == named
    assert name_classes([]) == {}


@pytest.mark.parametrize("key", ["MEL", "mel", "Mel", " MEL "])
def test_mapping_overrides_some(key):
    named = name_classes(LABELS, {key: "melanoma"})
    assert list(named.items()) == [("AnnualCrop", "Annual Crop"), ("sea_lake", "sea lake"), ("MEL", "melanoma")]


@pytest.mark.parametrize("key", ["AnnualCrop", "Annual Crop", "annual_crop", "ANNUAL CROP"])
def test_mapping_keys_match_after_cleaning(key):
    assert name_classes(LABELS, {key: "a field of_crops"})["AnnualCrop"] == "a field of_crops"


def test_raw_label_wins_over_cleaned():
    overrides = {"a_b": "first", "a b": "second"}
    assert name_classes(["a_b", "a b"], overrides) == {"a_b": "first", "a b": "second"}


def test_override_gives_words_to_a_label_without_any():
    assert name_classes(["_", "x"], {"_": "background"}) == {"_": "background", "x": "x"}
    assert name_classes(["0", "1"], {0: "no", 1: "yes"}) == {"0": "no", "1": "yes"}


def test_sequence_gives_texts_and_order():
    named = name_classes(LABELS, ["mel", "sea_lake", "annual crop"])
    assert list(named.items()) == [("MEL", "mel"), ("sea_lake", "sea_lake"), ("AnnualCrop", "annual crop")]
    assert name_classes(LABELS, ("MEL", "Sea Lake", "AnnualCrop"))["AnnualCrop"] == "AnnualCrop"


def test_many_classes_are_matched_quickly():
    labels = [f"Class_{i}_ofMany" for i in range(5000)]
    named = name_classes(labels, [f"class {i} of many" for i in reversed(range(5000))])
    assert next(iter(named.items())) == ("Class_4999_ofMany", "class 4999 of many")


@pytest.mark.parametrize(
    ("labels", "overrides", "parts"),
    [
        (LABELS, {"MELL": "melanoma"}, ["'MELL'", "did you mean 'MEL'", "'AnnualCrop', 'sea_lake', 'MEL'"]),
        (LABELS, {"zzz": "melanoma"}, ["no label is called 'zzz'", "the labels are"]),
        (LABELS, {"MEL": ""}, ["'MEL'", "''", "not empty"]),
        (LABELS, {"MEL": "  "}, ["'MEL'", "not empty"]),
        (LABELS, {"MEL": 3}, ["'MEL'", "3", "give a string"]),
        (LABELS, {"MEL": "a", "mel": "b"}, ["'MEL'", "'mel'", "keep one"]),
        (["aB", "a_B"], {"a b": "x"}, ["'a b'", "'aB', 'a_B'", "the label itself"]),
        (
            LABELS,
            ["MEL", "sea lake", "anual crop"],
            ["'anual crop'", "did you mean 'AnnualCrop'", '{"AnnualCrop": "anual crop"}'],
        ),
        (LABELS, ["MEL", "sea lake"], ["no class name", "'AnnualCrop'", "one name per label"]),
        (LABELS, [], ["'AnnualCrop', 'sea_lake', 'MEL'"]),
        (LABELS, [*LABELS, "more"], ["no label reads as 'more'", "one name per label"]),
        (LABELS, [*LABELS, "mel"], ["'MEL'", "'mel'", "keep one"]),
        (LABELS, ["MEL", None], ["position 1", "None"]),
        (LABELS, "MEL", ["'MEL'", "list of names"]),
        (LABELS, 3, ["3", "list of names"]),
        (["sea_lake", "SeaLake"], None, ["'sea_lake'", "'SeaLake'", "'Sea Lake'", "--classes classes.json"]),
        (["a", "b"], {"a": "x", "b": "X "}, ["'a'", "'b'", "--classes classes.json"]),
        (["a", "a"], None, ["'a'", "twice", "once"]),
        (["___"], None, ["'___'", "rename it"]),
        ("MEL", None, ["'MEL'", "list of names"]),
    ],
)
def test_bad_names(labels, overrides, parts):
    with pytest.raises(DataError) as caught:
        name_classes(labels, overrides)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"b": "two", "a": "one"}', {"b": "two", "a": "one"}),
        ('["b", "a"]', ["b", "a"]),
        ('\ufeff{"é": "Ménière"}', {"é": "Ménière"}),
    ],
)
def test_classes_file(tmp_path, content, expected):
    path = tmp_path / "classes.json"
    path.write_bytes(content.encode())
    read = read_classes_file(path)
    assert read == expected and list(read) == list(expected)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["not JSON", "line 1, column 1"]),
        ('{\n  "a": "x",\n}', ["not JSON", "line 3, column 1"]),
        ("3", ["holds 3", "list of strings"]),
        ("{}", ["no class names"]),
        ("[]", ["no class names"]),
        ('{"a": 1}', ["'a'", "1", "give a string"]),
        ('["a", null]', ["at 1", "None", "give a string"]),
        ('{"a": "x", "b": "y", "a": "z"}', ["'a'", "twice", "keep one"]),
        ("[" * 100_000, ["nested more than 64 deep"]),
        ("[" + "1" * 5000 + "]", ["the number 111", "too large"]),
        (b'{"a": "M\xe9n"}', ["not UTF-8", "byte 8", "as UTF-8"]),
    ],
)
def test_bad_classes_files(tmp_path, content, parts):
    path = tmp_path / "classes.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_classes_file(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_classes_file_that_is_missing_or_a_folder(tmp_path):
    for path in (tmp_path / "no.json", tmp_path):
        with pytest.raises(DataError) as caught:
            read_classes_file(path)
        assert str(path) in str(caught.value) and "check the path" in str(caught.value)
