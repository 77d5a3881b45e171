"""HEIC gives what a JPEG of the same picture gives."""

import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from atha.data.images import ImageProblem, open_image
from atha.data.problems import MissingExtra
from making import difference, picture

RGB = picture((64, 48))


def heic(path, image, **options):
    pillow_heif.from_pillow(image).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "no ending"])
def test_same_as_the_picture(tmp_path, name):
    path = heic(tmp_path / "a", Image.fromarray(RGB), quality=90, chroma=444).rename(tmp_path / name)
    assert difference(open_image(path), RGB) <= 8


def test_turned_and_transparent(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = heic(tmp_path / "a.heic", Image.fromarray(RGB), quality=90, chroma=444, exif=exif.tobytes())
    found = open_image(turned)
    assert found.size == (48, 64) and difference(found, np.rot90(RGB, -1)) <= 8
    clear = Image.fromarray(RGB).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size).point(lambda value: 255 if value > 127 else 0))
    shown = np.asarray(open_image(heic(tmp_path / "b.heic", clear, quality=90, chroma=444)))
    assert (shown[:16] > 245).all() and np.abs(shown[40:].astype(int) - RGB[40:]).max() <= 8


def test_ten_bits(tmp_path):
    deep = pillow_heif.from_bytes("RGB;16", (64, 48), (RGB.astype(np.uint16) * 257).tobytes())
    deep.save(tmp_path / "a.heic", quality=90, chroma=444)
    assert difference(open_image(tmp_path / "a.heic"), RGB) <= 8


def test_damaged(tmp_path):
    content = heic(tmp_path / "a.heic", Image.fromarray(RGB)).read_bytes()
    for keep in (40, len(content) // 2):
        (tmp_path / "a.heic").write_bytes(content[:keep])
        with pytest.raises(ImageProblem):
            open_image(tmp_path / "a.heic")


def test_the_extra_is_named(tmp_path, monkeypatch):
    path = heic(tmp_path / "a.heic", Image.fromarray(RGB))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtra, match=r"HEIC is read with the extra 'heic': pip install 'atha\[heic\]'"):
        open_image(path)
