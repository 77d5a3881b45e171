"""No image takes more than 1 GB and 20 s: headers are looked at first, and what threads decode shares one room."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

from atha.data import apart, budget, samples
from atha.data.budget import MEMORY, Limits, Room
from atha.data.decoders import coloured, files
from atha.data.images import ImageProblem, ImageReader, open_image
from atha.data.loading import load_ahead
from atha.data.reading import Reading
from making import png_of_zeros, with_scans

SIDE = 13_000
GIGABYTE = 1_000_000_000
# Begins with nothing loaded, and says what decoding took of memory and of time on the processor.
FRESH = """
import resource, sys
from atha.data.images import ImageProblem, open_image
from atha.machine import peak_memory
try:
    image = open_image(sys.argv[1])
    said = f"{image.width} x {image.height}"
except ImageProblem as problem:
    said = problem.reason
used = resource.getrusage(resource.RUSAGE_SELF)
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(max(peak_memory(), children.ru_maxrss << 10), used.ru_utime + used.ru_stime + children.ru_utime, said)
"""


def fresh(path) -> str:
    """What comes of an image in a process of its own, which must keep to the promise."""
    done = subprocess.run([sys.executable, "-c", FRESH, str(path)], capture_output=True, text=True, check=True)
    peak, seconds, said = done.stdout.strip().split(" ", 2)
    assert int(peak) < GIGABYTE and float(seconds) < 20, done.stdout
    return said


def webp(path):
    side = (SIDE - 1).to_bytes(3, "little")
    path.write_bytes(b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + side + side)
    return path


def zeros(path, dtype, bands=None, **options):
    shape = (SIDE, SIDE) if bands is None else (SIDE, SIDE, bands)
    values = np.zeros(shape, dtype)
    if dtype in (np.int32, np.float32):
        values[0, 0], values[-1, -1] = -5, 9
    tifffile.imwrite(path, values, compression="zlib", photometric=None if bands is None else "rgb", **options)
    return path


def flat(path, mode="RGB", **options):
    Image.new(mode, (SIDE, SIDE), 60 if mode in ("L", "P") else "green").save(path, **options)
    return path


def test_a_small_file_with_a_large_header(tmp_path):
    said = fresh(webp(tmp_path / "a.webp"))
    assert said.startswith("it takes 2.7 GB to decode, the limit is 0.9 GB") and "--max-pixels" in said


@pytest.mark.parametrize(("size", "scans"), [((4000, 4000), 2000), ((600, 600), 5000)])
def test_scans_are_counted_before_they_are_decoded(tmp_path, size, scans):
    path = with_scans(tmp_path / "a.jpg", size, scans)
    started = time.process_time()
    with pytest.raises(ImageProblem, match=r"more than \d+ scans of .* too long: save it again as JPEG or PNG"):
        open_image(path)
    assert time.process_time() - started < 0.5


def test_millions_of_segments_are_not_gone_through(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[:2] + b"\xff\xfe\0\2" * 5000 + content[2:])
    monkeypatch.setattr(files, "read_header", lambda *_: pytest.fail("left to Pillow"))
    with pytest.raises(ImageProblem, match="truncated or corrupt"):
        open_image(tmp_path / "a.jpg")


def test_notes_of_a_gif_are_counted(tmp_path):
    start, note, picture = b"GIF89a\1\0\1\0\x80\0\0" + bytes(6), b"\xff" + b"a" * 255, b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
    path = tmp_path / "a.gif"
    path.write_bytes(start + b"!\xfe" + note * 3000 + b"\0" + picture)
    assert open_image(path).size == (1, 1)
    for notes in (b"!\xfe" + note * 9000 + b"\0", b"!\xf9\4\0\0\0\0\0" * 5000):
        path.write_bytes(start + notes + picture)
        with pytest.raises(ImageProblem, match="8,192 parts before its first picture"):
            open_image(path)


def test_remarks_in_a_header_are_short(tmp_path):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6\n#" + b"a" * 60_000 + b"\n64 64 255\n" + bytes(64 * 64 * 3))
    assert open_image(path).size == (64, 64)
    path.write_bytes(b"P6\n#" + b"a" * 70_000 + b"\n64 64 255\n" + bytes(64 * 64 * 3))
    with pytest.raises(ImageProblem, match="remarks of more than 64 kB"):
        open_image(path)


def test_usual_scans_are_no_trouble(tmp_path):
    path = with_scans(tmp_path / "a.jpg", (300, 200), 20)
    assert open_image(path).size == (300, 200)
    # Marks of scans within metadata are none.
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg", progressive=True, comment=b"\xff\xda" * 5000)
    assert open_image(tmp_path / "b.jpg").size == (30, 20)


SMALLER = {
    "PNG": ("RGB", {"format": "PNG"}, 0),
    "with alpha": ("RGBA", {"format": "PNG"}, 1),
    "palette": ("P", {"format": "GIF"}, 0),
    "JPEG": ("RGB", {"format": "JPEG", "quality": 95}, 12),
    "progressive JPEG": ("RGB", {"format": "JPEG", "quality": 95, "progressive": True}, 12),
    "grey JPEG": ("L", {"format": "JPEG", "quality": 95}, 8),
    "TIFF": ("RGB", {"format": "TIFF", "compression": "tiff_lzw"}, 0),
    "JPEG 2000": ("RGB", {"format": "JPEG2000"}, 3),
    "floats": ("F", {"format": "TIFF"}, 1),
}


@pytest.mark.parametrize(("mode", "options", "tolerance"), SMALLER.values(), ids=SMALLER)
def test_what_does_not_fit_is_read_smaller(tmp_path, monkeypatch, mode, options, tolerance):
    """As if it were made smaller afterwards, and in strips as in one piece."""
    smooth = Image.linear_gradient("L").resize((701, 503), Image.Resampling.BICUBIC)
    picture = Image.merge("RGB", (smooth, smooth.transpose(Image.Transpose.ROTATE_180), smooth)).convert(mode)
    picture.save(tmp_path / "a", **options)
    whole = open_image(tmp_path / "a")
    for module in (samples, coloured, files):
        monkeypatch.setattr(module, "STRIP", 2000)
    in_strips = open_image(tmp_path / "a")
    assert np.array_equal(whole, in_strips)
    sizes = []
    for memory in (3_000_000, 1_900_000, 1_500_000):
        monkeypatch.setattr(budget, "MEMORY", memory)
        try:
            image = open_image(tmp_path / "a")
        except ImageProblem as problem:
            assert "--max-pixels" in problem.reason
            continue
        factor = round(701 / image.width)
        sizes.append(factor)
        assert np.abs(np.asarray(image, int) - np.asarray(whole.reduce(factor), int)).max() <= tolerance
    assert sizes and max(sizes) > 1


BIG = {
    "PNG with alpha": lambda path: png_of_zeros(path, SIDE, 8, 6, 4),
    "PNG": lambda path: png_of_zeros(path, SIDE, 8, 2, 3),
    "deep PNG": lambda path: png_of_zeros(path, SIDE, 16, 2, 6 // 2),
    "deep grey PNG": lambda path: png_of_zeros(path, SIDE, 16, 0, 1),
    "deep grey PNG with alpha": lambda path: png_of_zeros(path, SIDE, 16, 4, 2),
    "negative TIFF": lambda path: zeros(path, np.int32),
    "floating TIFF": lambda path: zeros(path, np.float32),
    "floating TIFF in one strip": lambda path: zeros(path, np.float32, rowsperstrip=SIDE),
    "deep TIFF": lambda path: zeros(path, np.uint16, 3),
    "deep TIFF in tiles": lambda path: zeros(path, np.uint16, 3, tile=(512, 512)),
    "TIFF with alpha": lambda path: zeros(path, np.uint8, 4, extrasamples=[2]),
    "floating TIFF with alpha": lambda path: zeros(path, np.float32, 4, extrasamples=[2]),
    "progressive JPEG": lambda path: flat(path, format="JPEG", progressive=True, quality=20),
    "JPEG with inks": lambda path: flat(path, "CMYK", format="JPEG", quality=20),
    "JPEG 2000": lambda path: flat(path, format="JPEG2000", irreversible=True, tile_size=(1024, 1024)),
    "GIF": lambda path: flat(path, "P", format="GIF"),
    "TGA": lambda path: flat(path, format="TGA", compression="tga_rle"),
    "BMP": lambda path: flat(path, "P", format="BMP"),
    "AVIF": lambda path: flat(path, format="AVIF", quality=20, speed=10),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", BIG.values(), ids=BIG)
def test_peak_of_every_kind(tmp_path, monkeypatch, make):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    said = fresh(make(tmp_path / "a"))
    assert said[0].isdigit() or "--max-pixels" in said


@pytest.mark.slow
def test_threads_share_the_room(tmp_path):
    path = png_of_zeros(tmp_path / "a.png", SIDE, 8, 6, 4)
    code = """
import sys
from atha.data.images import ImageReader
from atha.data.loading import load_ahead
from atha.machine import peak_memory
reader = ImageReader()
made = list(load_ahead(lambda file: reader.make(file, lambda image: image.size), [sys.argv[1]] * 4, 4, 4))
print(peak_memory(), len(made))
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    peak, count = map(int, done.stdout.split())
    assert count == 4 and peak < 1.6 * GIGABYTE  # with torch, which takes 0.6 GB


def test_room_is_shared_in_order():
    room, inside, most, order = Room(10), [0], [0], []
    lock = threading.Lock()

    def work(need):
        with room.taken(need):
            with lock:
                inside[0] += min(need, 10)
                most[0] = max(most[0], inside[0])
                order.append(need)
            time.sleep(0.002)
            with lock:
                inside[0] -= min(need, 10)

    list(load_ahead(work, [3, 4, 9, 1, 99, 2, 10, 5] * 4, 8, 8))
    assert most[0] <= 10 and len(order) == 32 and inside[0] == 0
    with room.taken(10):
        pass  # nothing is left taken


def test_more_is_allowed_where_it_is_asked_for(tmp_path):
    path = png_of_zeros(tmp_path / "a.png", 14_000, 1, 0, 1)
    with pytest.raises(
        ImageProblem, match=r"14000 x 14000 is 196,000,000 pixels.*allow it with --max-pixels 196000000"
    ):
        open_image(path)
    assert Limits(2 * Limits().pixels).memory == 2 * MEMORY
    assert Limits(5).memory == MEMORY


# --- in a process of its own


def slow_file(path, size=(300, 200)):
    """JPEG 2000 with more quality layers than are usual."""
    Image.effect_noise(size, 60).convert("RGB").save(path, "JPEG2000", quality_layers=[80 - n for n in range(70)])
    return path


def test_apart_gives_the_same_image(tmp_path):
    path = slow_file(tmp_path / "a.jp2")
    expected = np.asarray(Image.open(path))
    assert np.array_equal(open_image(path), expected)
    odd = path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jp2"))
    assert np.array_equal(ImageReader(Reading(bands=(3, 2, 1))).open(odd), expected[..., ::-1])


def test_apart_says_what_is_wrong(tmp_path, monkeypatch):
    path = slow_file(tmp_path / "a.jp2")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(ImageProblem, match=r"a\.jp2: the image is truncated or corrupt"):
        open_image(path)
    path.write_bytes(content)
    monkeypatch.setattr(apart, "SECONDS", 0.01)
    with pytest.raises(ImageProblem, match=r"takes more than 0\.01 s to decode"):
        open_image(path)
    monkeypatch.setattr(apart, "SECONDS", 20)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(ImageProblem, match="its decoder broke off"):
        open_image(path)
