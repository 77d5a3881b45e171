"""Headers that go on and on: each is told by a few bytes of it, and none is gone through to its end."""

import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from atha.data.decoders import dicom as dicoms
from atha.data.images import ImageProblem, open_image
from making import dicom, grey

EXIF = b"\xff\xe1\xff\xff" + b"Exif\0\0".ljust(65533, b"\0")
EMPTY = struct.pack("<HHI", 9, 1, 0)


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff_of(entries: int) -> bytes:
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 16), (277, 1), (278, 1), (279, 1)]
    tags += [(60000, 0)] * (entries - len(tags))
    packed = b"".join(struct.pack("<HHQQ", tag, 3, 1, value) for tag, value in tags)
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, entries) + packed + bytes(8)


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def refused(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(ImageProblem, match=reason):
        open_image(path)
    assert time.process_time() - started < 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "image"


def saved(path: Path, kind: str) -> bytes:
    Image.new("RGB", (8, 8), "red").save(path, kind)
    return path.read_bytes()


@pytest.mark.parametrize("kind", [b"tEXt", b"IDAT", b"zzZz"])
@pytest.mark.parametrize("place", [33, -12], ids=["before", "after"])
def test_chunks_of_png(path: Path, kind: bytes, place: int) -> None:
    png = saved(path, "PNG")
    path.write_bytes(png[:place] + chunk(kind) * 1000 * (kind != b"tEXt") + png[place:])
    assert open_image(path).size == (8, 8)
    refused(path, png[:place] + chunk(kind) * 200_000 + png[place:], "more than 200,000 chunks")


def test_bytes_before_the_picture_of_a_gif(path: Path) -> None:
    gif = saved(path, "GIF")
    start = gif.index(b",")
    path.write_bytes(gif[:start] + b"\1" * 100 + gif[start:])
    assert open_image(path).size == (8, 8)
    refused(path, gif[:start] + b"\1" * 10_000 + gif[start:], "8,192 parts before its first picture")


def test_exif_of_jpeg(path: Path) -> None:
    jpeg = saved(path, "JPEG")
    path.write_bytes(jpeg[:2] + EXIF * 20 + jpeg[2:])
    assert open_image(path).size == (8, 8)
    refused(path, jpeg[:2] + EXIF * 300 + jpeg[2:], "20 MB of Exif metadata")


def test_entries_of_tiff(path: Path) -> None:
    path.write_bytes(tiff_of(4000))
    assert open_image(path).size == (1, 1)
    refused(path, tiff_of(5000), "directory has 5,000 entries, at most 4,096")


@pytest.mark.parametrize("within", [False, True])
def test_boxes_of_jpeg_2000(path: Path, within: bool) -> None:
    file = saved(path, "JPEG2000")
    start = file.index(b"jp2h") - 4
    for count in (100, 2000):
        boxes = box(b"none") * count
        if within:
            length = int.from_bytes(file[start : start + 4], "big")
            made = file[:start] + box(b"jp2h", file[start + 8 : start + length] + boxes) + file[start + length :]
        else:
            made = file[:start] + boxes + file[start:]
        if count > 1000:
            refused(path, made, "truncated or corrupt")
        else:
            path.write_bytes(made)
            assert open_image(path).size == (8, 8)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_elements_of_dicom(path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicoms, "_READS", 2000)
    dicom(path, grey(), syntax=syntax)
    right = np.asarray(open_image(path))
    assert np.array_equal(right[..., 0], grey())
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        more = struct.pack("<HH2sH", 9, 1, b"UL", 0) * 5000
        body = packer.compress(more + zlib.decompress(content[start:], -15)) + packer.flush()
    else:
        body = EMPTY * 5000 + content[start:]
    refused(path, content[:start] + body, "too many elements")
    refused(path, bytes(128) + b"DICM" + bytes(100_000), "too many elements|truncated")


@pytest.mark.parametrize(
    "head", [b"RIFF\0\0\0\x40WEBPVP8L\0\0\0\x40\x2f\x07\xc0\x01\0", b"\0\0\0\x1cftypavif", b"\0\0\0\x1cftypheic"]
)
def test_files_that_are_held_at_once(path: Path, head: bytes) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(1 << 30)
    started = time.process_time()
    with pytest.raises(ImageProblem, match=r"it takes 2\.1 GB to decode, the limit is 0\.9 GB"):
        open_image(path)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(("head", "letters"), [(b"P3 2100 2000 255\n", b"9 "), (b"P2 4000 4000 255\n", b"9 "),
                                               (b"P1 7000 7000\n", b"1")])  # fmt: skip
def test_numbers_as_text(path: Path, head: bytes, letters: bytes) -> None:
    refused(path, head + letters * 1000, "numbers as text, which would take too long: save it as PNG")
