"""DICOM comes out as a viewer shows it: rescaled, windowed, bright where it is meant to be."""

import io
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from atha.data.deciding import decide_reading
from atha.data.images import ImageProblem, open_image
from atha.data.problems import MissingExtra
from making import dicom, difference, grey, picture, with_scans

RGB, GREY = picture(), grey()
DEEP = np.rint(GREY / 255 * 4095).astype(np.uint16)
HOUNSFIELD = GREY.astype(np.int16) * 4 - 200


def read(path):
    return open_image(path, decide_reading([path]))


CASES = {
    "8 bits": (GREY, GREY, {}),
    "colour": (RGB, RGB, {}),
    "implicit": (GREY, GREY, {"syntax": ImplicitVRLittleEndian}),
    "deflated": (GREY, GREY, {"syntax": DeflatedExplicitVRLittleEndian}),
    "bright where small": (255 - GREY, GREY, {"PhotometricInterpretation": "MONOCHROME1"}),
    "12 bits": (DEEP, GREY, {"BitsStored": 12}),
    "12 bits, dark": (DEEP // 4 * 3, np.rint(DEEP // 4 * 3 * (255 / 4095)), {"BitsStored": 12}),
    "12 bits, bright where small": (
        4095 - DEEP,
        GREY,
        {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"},
    ),
    "16 bits": (GREY.astype(np.uint16) * 257, GREY, {}),
    "window": (DEEP // 2 + 500, GREY, {"BitsStored": 12, "WindowCenter": 1524, "WindowWidth": 2048}),
    "the first window": (DEEP, GREY, {"BitsStored": 12, "WindowCenter": [2048, 99], "WindowWidth": [4096, 9]}),
    "exact window": (
        DEEP,
        GREY,
        {"BitsStored": 12, "WindowCenter": 2047.5, "WindowWidth": 4095, "VOILUTFunction": "LINEAR_EXACT"},
    ),
    "bright where small, window": (
        4095 - DEEP,
        GREY,
        {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 2048, "WindowWidth": 4096},
    ),
    "rescaled": (
        HOUNSFIELD + 1024,
        GREY,
        {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 310.5, "WindowWidth": 1021},
    ),
    "rescaled, no window": (HOUNSFIELD + 1024, GREY, {"RescaleSlope": 1, "RescaleIntercept": -1024}),
    "rescaled by a fraction": (DEEP, GREY, {"RescaleSlope": "0.25", "RescaleIntercept": "-0.5"}),
    "padding": (
        np.where(GREY < 40, -2000, HOUNSFIELD).astype(np.int16),
        np.where(GREY < 40, 0, (GREY - 40.0) * 255 / 215),
        {"PixelPaddingValue": -2000},
    ),
    "first of three frames": (np.stack([GREY, 255 - GREY, GREY // 2]), GREY, {"NumberOfFrames": 3}),
}


@pytest.mark.parametrize(("pixels", "expected", "values"), CASES.values(), ids=CASES)
def test_same_as_the_picture(tmp_path, pixels, expected, values):
    assert difference(read(dicom(tmp_path / "a", pixels, **values)), np.asarray(expected)) <= 1


def test_window_of_the_first_frame_group(tmp_path):
    path = dicom(tmp_path / "a.dcm", DEEP // 2 + 500, BitsStored=12)
    dataset, groups, window = pydicom.dcmread(path), pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth = 1524, 2048
    groups.FrameVOILUTSequence = [window]
    dataset.SharedFunctionalGroupsSequence = [groups]
    dataset.save_as(path)
    assert difference(read(path), GREY) <= 1


def test_palette(tmp_path):
    indexed = Image.fromarray(RGB).quantize(64)
    path = dicom(tmp_path / "a.dcm", np.asarray(indexed), PhotometricInterpretation="PALETTE COLOR")
    dataset, palette = pydicom.dcmread(path), np.array(indexed.getpalette()[: 3 * 64]).reshape(64, 3)
    for name, column in zip(("Red", "Green", "Blue"), palette.T, strict=True):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [64, 0, 16])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", (column.astype("<u2") * 257).tobytes())
    dataset.save_as(path)
    assert difference(read(path), np.asarray(indexed.convert("RGB"))) == 0


@pytest.mark.parametrize("pixels", [GREY, RGB, DEEP], ids=["grey", "colour", "deep"])
def test_run_lengths(tmp_path, pixels):
    path = dicom(tmp_path / "a.dcm", pixels, **({"BitsStored": 12} if pixels is DEEP else {}))
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    dataset.save_as(path)
    assert difference(read(path), GREY if pixels is DEEP else pixels) <= 1


def encoded(path, pixels, content, syntax, **values):
    dicom(path, pixels, **values)
    dataset = pydicom.dcmread(path)
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = encapsulate([content]), syntax
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    return path


def compressed(picture, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def test_jpeg_within(tmp_path):
    for number, (pixels, meaning) in enumerate(((GREY, "MONOCHROME2"), (RGB, "YBR_FULL_422"))):
        content = compressed(pixels, "JPEG", quality=95, subsampling=0)
        path = encoded(tmp_path / f"{number}", pixels, content, JPEGBaseline8Bit, PhotometricInterpretation=meaning)
        assert difference(read(path), pixels) <= 6
    wavelets = compressed(DEEP, "JPEG2000", irreversible=False)
    assert difference(read(encoded(tmp_path / "b", DEEP, wavelets, JPEG2000Lossless, BitsStored=12)), GREY) <= 1


def test_what_cannot_be_decoded_is_said(tmp_path):
    lossless = encoded(tmp_path / "a", GREY, b"\xff\xd8\xff\xd9", JPEGLosslessSV1)
    with pytest.raises(ImageProblem, match=r"compressed as JPEG Lossless.*pip install python-gdcm"):
        open_image(lossless)
    with pytest.raises(ImageProblem, match=r"is DICOM with MPEG2.*not read"):
        open_image(encoded(tmp_path / "b", GREY, b"\x00" * 10, MPEG2MPML))
    scans = with_scans(tmp_path / "c.jpg", (4000, 4000), 300).read_bytes()
    many = encoded(tmp_path / "c", GREY, scans, JPEGBaseline8Bit, Rows=4000, Columns=4000)
    with pytest.raises(ImageProblem, match=r"more than 250 scans"):
        open_image(many)
    dataset = pydicom.dcmread(dicom(tmp_path / "d", GREY))
    del dataset.Rows, dataset.PixelData
    dataset.save_as(tmp_path / "d")
    with pytest.raises(ImageProblem, match=r"is a DICOM file without an image \(OT\)"):
        open_image(tmp_path / "d")
    with pytest.raises(ImageProblem, match=r"65000 x 65000 is 4,225,000,000 pixels"):
        open_image(dicom(tmp_path / "e", GREY, Rows=65000, Columns=65000))
    content = dicom(tmp_path / "f", GREY).read_bytes()
    (tmp_path / "f").write_bytes(content[:-100])
    with pytest.raises(ImageProblem, match="truncated or corrupt"):
        open_image(tmp_path / "f")


def test_the_extra_is_named(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a", GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtra, match=r"DICOM is read with the extra 'dicom': pip install 'atha\[dicom\]'"):
        open_image(path)
