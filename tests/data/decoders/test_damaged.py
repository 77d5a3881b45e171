"""Damaged files of every kind: an image, or one sentence; whatever a library makes of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import making
from atha.data.deciding import decide_reading
from atha.data.images import ImageReader
from attacks import read_image


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return making.of_every_kind(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "image"


def damaged(content: bytes, keep: float, changes: list[tuple[float, int]]) -> bytes:
    made = bytearray(content[: round(len(content) * keep)])
    for where, value in changes:
        if made:
            made[int(where * len(made))] = value
    return bytes(made)


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)
BANDS = st.sampled_from([None, (1,), (3, 2, 1), (2, 2, 2)])
#: A change of the header does more than one of the pixels.
FRONT = st.lists(st.tuples(st.floats(0, 0.15), st.sampled_from([0, 1, 2, 4, 16, 127, 255])), max_size=4)


@settings(max_examples=120, deadline=None)
@given(number=st.integers(0, 30), keep=st.sampled_from([1.0, 1.0, 0.9, 0.4]), changes=CHANGES, front=FRONT, bands=BANDS)
def test_damaged_files_give_only_image_problems(kinds, scratch, number, keep, changes, front, bands):
    scratch.write_bytes(damaged(kinds[number], keep, changes + front))
    read_image(scratch, bands)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(number=st.integers(0, 30), keep=st.sampled_from([1.0, 1.0, 0.9, 0.4]), changes=CHANGES, front=FRONT, bands=BANDS)
def test_many_damaged_files(kinds, scratch, number, keep, changes, front, bands):
    scratch.write_bytes(damaged(kinds[number], keep, changes + front))
    read_image(scratch, bands)


def test_whole_files_are_images(kinds, scratch):
    for content in kinds:
        scratch.write_bytes(content)
        rule = decide_reading([scratch], (1, 2, 3) if content is kinds[3] else None)
        assert ImageReader(rule).open(scratch).mode == "RGB"
