"""Damaged files of every kind: an image, or one sentence; whatever a library makes of them."""

import io
import warnings

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from making import dicom, grey, picture
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from atha.data.deciding import decide_reading
from atha.data.images import ImageProblem, ImageReader
from atha.data.reading import Reading
from atha.errors import DataError

SMALL = (24, 20)
RGB, GREY = picture(SMALL), grey(SMALL)
DEEP = RGB.astype(np.uint16) * 12
FOUR = np.dstack([RGB, GREY])


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heic() -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(RGB)).save(buffer, quality=50)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    window = {"WindowCenter": [2048, 9], "WindowWidth": [4096, 9], "RescaleSlope": "2.5", "RescaleIntercept": "-3"}
    image = Image.fromarray(RGB)
    return [
        tiff(DEEP, photometric="rgb"),
        tiff(DEEP, photometric="rgb", compression="lzw", tile=(16, 16), predictor=True),
        tiff(np.moveaxis(DEEP, 2, 0), photometric="rgb", planarconfig="separate", compression="deflate"),
        tiff(np.dstack([DEEP] * 3), photometric="minisblack", planarconfig="contig", byteorder=">"),
        tiff(FOUR, photometric="rgb", extrasamples=[1]),
        tiff(FOUR.astype(np.float32), photometric="rgb", extrasamples=[2], bigtiff=True),
        tiff(np.stack([GREY, GREY, GREY]), photometric="minisblack"),
        tiff(GREY / 7, extratags=[(42113, "s", 0, "3", True)]),
        imagecodecs.png_encode(DEEP),
        imagecodecs.png_encode(np.dstack([DEEP, DEEP[..., 0]])),
        imagecodecs.jpeg2k_encode(DEEP, level=0, reversible=True),
        b"P6 24 20 3060\n" + DEEP.astype(">u2").tobytes(),
        b"P5 24 20 100\n" + bytes(480),
        dicom(root / "a", GREY).read_bytes(),
        dicom(root / "b", DEEP[..., 0], BitsStored=12, PhotometricInterpretation="MONOCHROME1", **window).read_bytes(),
        dicom(root / "c", RGB, syntax=DeflatedExplicitVRLittleEndian).read_bytes(),
        dicom(root / "d", np.stack([GREY, GREY]), NumberOfFrames=2, PixelPaddingValue=3).read_bytes(),
        heic(),
        saved(image, "JPEG", progressive=True),
        saved(image, "JPEG2000"),
        saved(image, "AVIF"),
        saved(image, "ICO"),
        saved(image.convert("P"), "BMP"),
        saved(image, "TGA"),
        saved(image.convert("CMYK"), "TIFF", compression="tiff_lzw"),
    ]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "image"


def damaged(content: bytes, keep: float, changes: list[tuple[float, int]]) -> bytes:
    made = bytearray(content[: round(len(content) * keep)])
    for where, value in changes:
        if made:
            made[int(where * len(made))] = value
    return bytes(made)


def attempt(path, content: bytes, bands: tuple[int, ...] | None) -> None:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rule = decide_reading([path], bands)
        except DataError:
            rule = Reading(bands=bands)
        try:
            image = ImageReader(rule).open(path)
        except ImageProblem as problem:
            assert "\n" not in problem.reason
            return
    assert image.mode == "RGB"


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)
BANDS = st.sampled_from([None, (1,), (3, 2, 1), (2, 2, 2)])
#: A change of the header does more than one of the pixels.
FRONT = st.lists(st.tuples(st.floats(0, 0.15), st.sampled_from([0, 1, 2, 4, 16, 127, 255])), max_size=4)


@settings(max_examples=120, deadline=None)
@given(number=st.integers(0, 24), keep=st.sampled_from([1.0, 1.0, 0.9, 0.4]), changes=CHANGES, front=FRONT, bands=BANDS)
def test_damaged_files_give_only_image_problems(kinds, scratch, number, keep, changes, front, bands):
    attempt(scratch, damaged(kinds[number], keep, changes + front), bands)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(number=st.integers(0, 24), keep=st.sampled_from([1.0, 1.0, 0.9, 0.4]), changes=CHANGES, front=FRONT, bands=BANDS)
def test_many_damaged_files(kinds, scratch, number, keep, changes, front, bands):
    attempt(scratch, damaged(kinds[number], keep, changes + front), bands)


def test_whole_files_are_images(kinds, scratch):
    for content in kinds:
        scratch.write_bytes(content)
        rule = decide_reading([scratch], (1, 2, 3) if content is kinds[3] else None)
        assert ImageReader(rule).open(scratch).mode == "RGB"
