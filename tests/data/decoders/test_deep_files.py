"""Deep PNG, PPM and JPEG 2000, arrays, and files that are no images of ours."""

import sys
import zipfile
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from atha.data.deciding import decide_reading
from atha.data.images import BandsProblem, ImageProblem, content_hash, image_name, open_image
from atha.data.problems import MissingExtra
from making import difference, grey, picture

RGB, GREY = picture(), grey()
DEEP = RGB.astype(np.uint16) * 12
MASK = np.where(np.arange(30)[:, None, None] < 10, 0, 65535).astype(np.uint16).repeat(40, axis=1)


def read(source, bands=None):
    return open_image(source, decide_reading([source], bands))


def png(path, values):
    path.write_bytes(imagecodecs.png_encode(values))
    return path


@pytest.mark.parametrize("times", [12, 16, 256, 257])
def test_deep_png(tmp_path, times):
    assert difference(read(png(tmp_path / "a.png", RGB.astype(np.uint16) * times)), RGB) == 0
    assert difference(read(png(tmp_path / "b.png", GREY.astype(np.uint16) * times)), GREY) == 0


def test_deep_png_with_alpha(tmp_path):
    full = RGB.astype(np.uint16) * 257
    path = png(tmp_path / "a.png", np.concatenate([full, MASK], axis=2))
    assert difference(read(path), np.where(MASK > 0, RGB, 255)) == 0
    assert difference(read(path, (1, 2, 3)), RGB) == 0
    path = png(tmp_path / "b.png", np.concatenate([full[..., 2:], MASK], axis=2))
    assert difference(read(path), np.where(MASK > 0, GREY[..., None].repeat(3, 2), 255)) == 0


def test_deep_png_with_a_clear_colour(tmp_path):
    values = RGB.astype(np.uint16) * 257
    values[:5] = (1000, 2000, 3000)
    content = imagecodecs.png_encode(values)
    data = b"tRNS" + np.array([1000, 2000, 3000], ">u2").tobytes()
    chunk = len(data[4:]).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    place = content.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(content[:place] + chunk + content[place:])
    expected = RGB.copy()
    expected[:5] = 255
    assert difference(read(tmp_path / "a.png"), expected) == 0


def test_damaged_deep_png(tmp_path):
    path = png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 60_000, (50, 50, 3), np.uint16))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageProblem, match="truncated or corrupt"):
        open_image(path)


@pytest.mark.parametrize("white", [3060, 4095, 65535])
def test_deep_ppm(tmp_path, white):
    (tmp_path / "a.ppm").write_bytes(b"P6 40 30 %d\n" % white + DEEP.astype(">u2").tobytes())
    assert difference(open_image(tmp_path / "a.ppm", decide_reading([tmp_path / "a.ppm"])), (
        RGB if white != 4095 else np.rint(DEEP * (255 / 4095))  # more than half of what the file says is white
    )) == 0  # fmt: skip


def test_pgm_with_a_white_of_its_own(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 40 30 100\n" + np.rint(GREY / 2.55).astype(np.uint8).tobytes())
    assert difference(read(tmp_path / "a.pgm"), GREY) <= 2
    (tmp_path / "a.pgm").write_bytes(b"P5 40 30 100\n" + bytes(500))
    with pytest.raises(ImageProblem, match="truncated or corrupt"):
        open_image(tmp_path / "a.pgm")


def test_deep_jpeg_2000(tmp_path, monkeypatch):
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(DEEP, level=0, reversible=True))
    assert difference(read(tmp_path / "a.jp2"), RGB) == 0
    (tmp_path / "b.j2k").write_bytes(
        imagecodecs.jpeg2k_encode(DEEP[..., 2], level=0, reversible=True, codecformat="J2K")
    )
    assert difference(read(tmp_path / "b.j2k"), GREY) == 0
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingExtra, match=r"JPEG 2000 of 16 bits in colour is read with the extra 'geo'"):
        open_image(tmp_path / "a.jp2")


def test_twelve_bit_jpeg_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(DEEP[..., 0]), bitspersample=12))
    with pytest.raises(ImageProblem, match=r"is a JPEG of 12 bits, which is not read: save it as 16-bit PNG or TIFF"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY > 100, (GREY > 100) * 255),
        (DEEP, RGB),
        (RGB / 255, RGB),
        (RGB[:, ::-1], RGB[:, ::-1]),
        (RGB.astype(np.int64) * 1000, RGB),
        (np.asfortranarray(RGB), RGB),
    ],
    ids=["colour", "grey", "one band", "bool", "deep", "float", "negative strides", "int64", "Fortran order"],
)
def test_arrays(array, expected):
    before = array.copy()
    assert difference(read(array), np.asarray(expected)) <= 1
    assert np.array_equal(array, before)
    assert content_hash(array) == content_hash(before) != content_hash(before[::-1])


def test_arrays_of_other_kinds():
    many = np.concatenate([DEEP, DEEP, DEEP[..., ::-1]], axis=2)
    assert difference(read(many, (9, 8, 7)), RGB) == 0
    for array, reason in (
        (many, "has 9 bands and does not say which are red"),
        (np.zeros((3, 600, 600), np.uint8), r"bands first.*image\.transpose\(1, 2, 0\)"),
        (RGB[None], "one image at a time"),
        (np.zeros(5, np.uint8), "one image at a time"),
        (np.array([["a"]]), "values of type <U1"),
        (np.zeros((2, 2), complex), "values of type complex128"),
        (np.zeros((0, 5, 3), np.uint8), r"no pixels \(5 x 0\)"),
        (np.full((4, 4), np.nan), "no value of it is a number"),
    ):
        with pytest.raises(ImageProblem, match=reason):
            open_image(array)
    assert image_name(RGB) == "<array, uint8, 30 x 40 x 3>"


def test_bands_of_eight_bit_images(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert difference(read(tmp_path / "a.png", (3, 2, 1)), RGB[..., ::-1]) == 0
    assert difference(read(tmp_path / "a.png", [2]), RGB[..., 1]) == 0
    assert difference(read(Image.fromarray(RGB), [2]), RGB[..., 1]) == 0
    clear = Image.fromarray(np.concatenate([RGB, MASK.astype(np.uint8)], axis=2))
    assert difference(read(clear, (1, 2, 3)), RGB) == 0
    indexed = Image.fromarray(RGB).quantize(16)
    assert difference(read(indexed, (3, 2, 1)), np.asarray(indexed.convert("RGB"))[..., ::-1]) == 0
    rule = decide_reading([tmp_path / "a.png"], (1, 2, 3))
    with pytest.raises(BandsProblem, match="has 1 band, and band 3 is wanted"):
        open_image(Image.fromarray(GREY), rule)


def test_files_of_other_kinds_are_named(tmp_path):
    np.save(tmp_path / "a.npy", RGB)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "a.svg").write_bytes(b"\n<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "a.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "a.psd").write_bytes(b"8BPS\0\1")
    (tmp_path / "b.svg").write_bytes(b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(99))
    (tmp_path / "a.CR2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(99))
    (tmp_path / "b.jpg").write_bytes(b"\n<!doctype HTML><title>404</title>")
    (tmp_path / "c.jpg").write_bytes(b"404: Not Found\n")
    tifffile.imwrite(tmp_path / "a.dng", RGB, photometric="rgb", extratags=[(50706, "B", 4, b"\1\4\0\0", True)])
    with tifffile.TiffWriter(tmp_path / "a.nef") as nef:
        nef.write(RGB[::4, ::4], photometric="rgb", subifds=1, subfiletype=1)
        nef.write(RGB, photometric="rgb")
    for name, reason in (
        ("a.npy", r"is a NumPy array file: give np\.load\(path\)"),
        ("a.zip", "is a ZIP archive: unpack it first"),
        ("a.pdf", "is a PDF document"),
        ("a.svg", "is an SVG drawing"),
        ("a.jpg", "is a pointer of Git LFS"),
        ("a.psd", "is a Photoshop file"),
        ("b.svg", "is an SVG drawing"),
        ("a.mp4", "is a film, not an image"),
        ("a.CR2", "is a camera's raw file: export it"),
        ("a.dng", "is a camera's raw file, with a small picture first"),
        ("a.nef", "is a camera's raw file, with a small picture first"),
        ("b.jpg", "is an HTML page"),
        ("c.jpg", r"is a text, not an image \(it begins with '404: Not Found'\)"),
    ):
        with pytest.raises(ImageProblem, match=reason):
            open_image(tmp_path / name)
