"""One rule for a data set: decided on the images that are learned from, the same for all that are classified."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from atha.data.cache import Cache
from atha.data.deciding import Looked, decide_reading, decide_reading_of_files
from atha.data.digests import digests
from atha.data.images import ImageReader, open_image
from atha.data.reading import AS_BEFORE, Reading, Stretch, check_bands, parse_bands
from atha.errors import AthaWarning, DataError

PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def grey_file(path, values):
    Image.fromarray(np.asarray(values, np.uint16)).save(path)
    return path


def only(reading: Reading) -> Stretch:
    (stretch,) = reading.stretches
    return stretch


def test_eight_bit_images_say_nothing(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    Image.fromarray(PHOTO).convert("RGBA").save(tmp_path / "b.png")
    rule = decide_reading([tmp_path / "a.png", tmp_path / "b.png", tmp_path / "none.png", PHOTO])
    assert rule == Reading() and rule.plain and rule.describe() == []


def test_said_once_and_for_all():
    rule = decide_reading([PHOTO.astype(np.uint16) * 12])
    assert rule.describe() == ["16-bit colour, stretched from 0..3,060."]
    rule = decide_reading([PHOTO.astype(np.float32) / 1000, PHOTO[..., 0].astype(np.int32) * 1000, PHOTO])
    assert rule.describe() == [
        "32-bit grey, stretched from 0..255,000.",
        "floating-point colour, stretched from 0..0.255.",
    ]


def test_a_dark_image_stays_darker_than_a_bright_one():
    dark, bright = PHOTO.astype(np.uint16), PHOTO.astype(np.uint16) * 12
    rule = decide_reading([dark, bright])
    assert np.asarray(open_image(bright, rule)).mean() > 11 * np.asarray(open_image(dark, rule)).mean()
    assert np.array_equal(open_image(bright, rule), PHOTO)
    assert np.asarray(open_image(bright * 10, rule)).max() == 255, "what lies beyond is white"


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (np.arange(3061), 0, 3060),
        ([*np.arange(3061)] * 100 + [20_000] * 50, 0, pytest.approx(3060, abs=20)),  # roofs, clouds
        (np.arange(4000), 0, 4095),  # nearly 12 bits
        (np.arange(200), 0, 255),  # 8-bit values in a deeper file
        (np.arange(40_000), 0, 65535),  # more than half of what the file may hold
        (np.arange(29_000, 31_000), 29_000, 30_999),  # temperatures
        (np.full(9, 500), 500, 501),
        (np.zeros(9, int), 0, 255),
        (np.arange(-100, 300), -100, 299),
        (np.array([-30_000] + [*np.arange(-100, 300)] * 9), pytest.approx(-100, abs=4), 299),
        (np.linspace(0, 0.31, 999), 0, 0.31),  # reflectance
        (np.linspace(0, 0.95, 999), 0, 1),
        (np.linspace(0, 250.0, 999), 0, 255),
        (np.linspace(-1.0, 1.0, 999), -1, 1),
    ],
)
def test_which_values_are_black_and_white(values, low, high):
    values = np.asarray(values)
    kind = values.dtype if values.dtype.kind == "f" else np.int16 if values.min() < 0 else np.uint16
    found = only(decide_reading([values.astype(kind)[None]]))
    assert (found.low, found.high) == (low, high)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=40),
    st.sampled_from([np.int16, np.uint16, np.int32, np.float32, np.float64]),
)
def test_any_values_keep_their_order(numbers, kind):
    array = np.asarray(numbers).astype(kind)[None]
    rule = decide_reading([array])
    stretch = only(rule)
    assert stretch.low < stretch.high
    shown = np.asarray(open_image(array, rule))[0, :, 0].astype(int)
    order = np.argsort(array[0], kind="stable")
    assert (np.diff(shown[order]) >= 0).all()
    assert Reading.model_validate(json.loads(rule.model_dump_json())) == rule


def test_images_unlike_those_learned_from_are_told_of_once():
    deep = PHOTO.astype(np.uint16) * 16
    reader = ImageReader(decide_reading([PHOTO]))
    with pytest.warns(AthaWarning, match="no image in deep colour to learn from: each is stretched by itself") as told:
        first, second = reader.open(deep), reader.open(deep)
    assert len(told) == 1
    assert first == second and np.abs(np.asarray(first, int) - PHOTO).max() <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(deep)
        ImageReader(decide_reading([deep])).open(deep)
        ImageReader(AS_BEFORE).open(deep)


def test_adapters_without_a_rule_read_deep_colour_by_its_full_range():
    full = PHOTO.astype(np.uint16) * 257
    assert np.array_equal(open_image(full, AS_BEFORE), PHOTO)
    assert np.asarray(open_image(full // 16, AS_BEFORE)).max() <= 16
    grey = (full[..., 0] // 16).astype(np.uint16)
    assert np.asarray(open_image(grey, AS_BEFORE)).max() == 255, "grey by its own depth"


@pytest.mark.parametrize("given", ["4,3,2", " 4, 3 ,2", "1", "3,3,3"])
def test_bands_from_text(given):
    assert parse_bands(given) == tuple(int(part) for part in given.split(","))


@pytest.mark.parametrize("given", ["", "a", "0", "1,2", "1,2,3,4", "-1", "1.5", "1,,2", "99999999", "²", "70000"])
def test_what_are_no_bands(given):
    with pytest.raises(DataError, match="bands"):
        parse_bands(given)


@pytest.mark.parametrize("given", [(True,), (0, 1, 2), ("1",), (1, 2), (1.0,)])
def test_what_are_no_bands_in_python(given):
    with pytest.raises(DataError, match="bands are"):
        check_bands(given)


def test_bands_that_no_image_has():
    with pytest.raises(DataError, match=r"has 3 bands, and band 4 is wanted"):
        decide_reading([PHOTO, PHOTO], (4, 3, 2))
    many = np.concatenate([PHOTO, PHOTO], axis=2)
    assert decide_reading([PHOTO, many], (4, 5, 6)).bands == (4, 5, 6), "one that has them is enough"
    with pytest.raises(DataError, match=r"has 6 bands and does not say"):
        decide_reading([many])


@pytest.mark.parametrize(
    "changed",
    [
        {"bands": [1, 2]},
        {"bands": [0, 1, 2]},
        {"bands": "123"},
        {"stretches": [{"colour": True, "floating": False, "bits": 16, "low": 5.0, "high": 5.0}]},
        {"stretches": [{"colour": True, "floating": False, "bits": 16, "low": 0.0, "high": float("inf")}]},
        {"stretches": [{"colour": True, "floating": False, "bits": 16, "low": float("nan"), "high": 1.0}]},
        {"stretches": [{"colour": 1, "floating": False, "bits": 16, "low": 0.0, "high": 1.0}]},
        {"stretches": [{"colour": True, "floating": False, "bits": 16, "low": 0.0, "high": 1.0}] * 2},
        {"alpha": "yes"},
        [],
    ],
)
def test_what_is_no_rule(changed):
    with pytest.raises(ValidationError):
        Reading.model_validate(changed)


def test_files_are_looked_at_once(tmp_path, monkeypatch):
    files = [grey_file(tmp_path / f"{number}.png", [np.arange(3061) + number]) for number in range(3)]
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    files.append(tmp_path / "a.png")
    cache = Cache(tmp_path / "cache.db")
    content = digests(files, cache)
    first = decide_reading_of_files(files, content, cache)
    assert first == decide_reading(files) and only(first).high == 3062
    monkeypatch.setattr("atha.data.deciding._look", None)
    assert decide_reading_of_files(files, content, cache) == first


def test_what_was_found_survives_the_cache():
    from atha.data.deciding import _look, _reader

    for image in (PHOTO, PHOTO.astype(np.float32), np.concatenate([PHOTO, PHOTO], axis=2)):
        found = _look(_reader(None, 10_000), image)
        again = Looked.from_bytes(found.to_bytes())
        assert again.to_bytes() == found.to_bytes()
        assert (again.unmarked, again.problem, again.opacity) == (found.unmarked, found.problem, found.opacity)
    assert Looked().to_bytes() == b""
