"""Decoding: every kind of image comes out as RGB, and every bad one as an ImageProblem."""

import io
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from atha.data.images import ImageProblem, content_hash, open_image
from atha.defaults import MAX_PIXELS


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def picture(size=(12, 8)) -> Image.Image:
    """Smooth colours, so that lossy formats stay near."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def problem(source) -> ImageProblem:
    with pytest.raises(ImageProblem) as caught:
        open_image(source)
    assert str(caught.value) == f"{caught.value.path}: {caught.value.reason}"
    return caught.value


FORMATS = [
    ("a.jpg", {"quality": 95, "subsampling": 0}, 12),
    ("a.png", {}, 0),
    ("a.bmp", {}, 0),
    ("a.dib", {}, 0),
    ("a.tif", {}, 0),
    ("b.tif", {"compression": "tiff_lzw"}, 0),
    ("a.webp", {"lossless": True}, 0),
    ("a.ppm", {}, 0),
    ("a.jp2", {"irreversible": False}, 0),
    ("a.tga", {}, 0),
    ("a.avif", {"quality": 95, "subsampling": "4:4:4"}, 16),
    ("a.gif", {}, 24),
]


@pytest.mark.parametrize(("name", "options", "tolerance"), FORMATS, ids=[case[0] for case in FORMATS])
def test_formats(tmp_path, name, options, tolerance):
    if name.endswith(".avif") and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow has no AVIF")
    path = saved(tmp_path / name, picture(), **options)
    image = open_image(path)
    assert type(image) is Image.Image
    assert (image.mode, image.size, image.info) == ("RGB", (12, 8), {})
    assert np.abs(np.asarray(image, int) - np.asarray(picture(), int)).max() <= tolerance
    assert open_image(str(path)) == image


def test_icon(tmp_path):
    assert open_image(saved(tmp_path / "a.ico", picture((32, 32)))).size == (32, 32)


def test_mpo_gives_its_first_frame(tmp_path):
    path = saved(tmp_path / "a.jpg", picture(), format="MPO", save_all=True, append_images=[Image.new("RGB", (12, 8))])
    assert Image.open(path).format == "MPO"
    assert np.asarray(open_image(path)).mean() > 60


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".webp", ".png"])
def test_first_frame(tmp_path, suffix):
    first, second = Image.new("RGB", (6, 6), "red"), Image.new("RGB", (6, 6), "blue")
    path = saved(tmp_path / f"a{suffix}", first, save_all=True, append_images=[second])
    red, _, blue = open_image(path).getpixel((3, 3))
    assert red > 200 and blue < 60


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = (
        {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {"lossless": True} if suffix == ".webp" else {}
    )
    path = saved(tmp_path / f"a{suffix}", picture(), exif=exif, **options)
    ways = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    expected = picture().transpose(ways[orientation]) if orientation in ways else picture()
    image = open_image(path)
    assert image.size == expected.size
    assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 12
    # Opening the result, or the image that Pillow opened, turns it neither less nor more.
    assert open_image(image) == image
    with Image.open(path) as lazy:
        assert open_image(lazy) == image


def test_broken_exif_does_not_spoil_the_picture(tmp_path):
    path = saved(tmp_path / "a.jpg", picture(), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert open_image(path).size == (12, 8)


def test_transparency_lies_over_white(tmp_path):
    rgba = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert [open_image(saved(tmp_path / "a.png", rgba)).getpixel((x, 0)) for x in (0, 1)] == [
        (200, 0, 0),
        (255, 255, 255),
    ]
    assert open_image(saved(tmp_path / "b.png", half)).getpixel((0, 0)) == (127, 127, 127)
    la = Image.merge("LA", (Image.new("L", (1, 1), 0), Image.new("L", (1, 1), 0)))
    assert open_image(saved(tmp_path / "c.png", la)).getpixel((0, 0)) == (255, 255, 255)
    assert open_image(rgba.convert("RGBa")).getpixel((1, 0)) == (255, 255, 255)
    assert open_image(la.convert("La")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("transparency", [0, bytes([0, 255])], ids=["one entry", "an alpha per entry"])
def test_palette_transparency(tmp_path, transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path / "a.png", image, transparency=transparency)
    result = open_image(path)
    assert [result.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]
    assert open_image(image).getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.parametrize(
    ("mode", "background", "ink", "transparency", "expected"),
    [
        ("RGB", (1, 2, 3), (9, 8, 7), (1, 2, 3), (9, 8, 7)),
        ("L", 5, 90, 5, (90, 90, 90)),
        ("1", 1, 0, 1, (0, 0, 0)),
        ("1", 0, 1, 0, (255, 255, 255)),
    ],
)
def test_transparent_colour(tmp_path, mode, background, ink, transparency, expected):
    image = Image.new(mode, (2, 1), background)
    image.putpixel((1, 0), ink)
    result = open_image(saved(tmp_path / "a.png", image, transparency=transparency))
    assert [result.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), expected]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX", "PA", "LAB"])
def test_other_colour_modes(mode):
    source = picture().convert(mode) if mode != "PA" else picture().convert("P").convert("PA")
    before = source.tobytes()
    image = open_image(source)
    assert (image.mode, image.size) == ("RGB", (12, 8))
    assert source.tobytes() == before and source.mode == mode
    if mode not in ("1", "L", "P", "PA"):
        assert np.abs(np.asarray(image, int) - np.asarray(picture(), int)).mean() < 8


def test_cmyk_jpeg(tmp_path):
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (8, 8), (200, 30, 40)).convert("CMYK"), quality=95)
    assert np.abs(np.subtract(open_image(path).getpixel((4, 4)), (200, 30, 40))).max() < 6


GREY = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_grey_is_scaled_by_its_depth(tmp_path, bits, suffix):
    deep = np.rint(GREY / 255 * (2**bits - 1)).astype(np.uint16)
    image = np.asarray(open_image(saved(tmp_path / f"a{suffix}", Image.fromarray(deep))), int)
    assert image.shape == (8, 8, 3)
    assert np.abs(image - GREY[..., None]).max() <= 1


def test_full_range_16_bit_equals_its_8_bit_version(tmp_path):
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = np.asarray(open_image(saved(tmp_path / "a.png", Image.fromarray(deep))), int)[..., 0]
    assert np.abs(image - (deep >> 8)).max() <= 1


def test_16_bit_file_with_8_bit_values_stays_as_it_is(tmp_path):
    path = saved(tmp_path / "a.tif", Image.fromarray(GREY.astype(np.uint16)))
    assert (np.asarray(open_image(path))[..., 0] == GREY).all()


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_16_bit_byte_orders(mode):
    deep = (GREY.astype(np.uint16) * 257).astype(">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (8, 8), deep.tobytes())
    assert np.abs(np.asarray(open_image(image), int)[..., 0] - GREY).max() <= 1


def test_big_endian_tiff_and_deep_pgm(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    big = saved(tmp_path / "a.tif", Image.frombytes("I;16B", (8, 8), deep.astype(">u2").tobytes()))
    pgm = tmp_path / "a.pgm"
    pgm.write_bytes(b"P5 8 8 65535\n" + deep.astype(">u2").tobytes())
    for path in (big, pgm):
        assert np.abs(np.asarray(open_image(path), int)[..., 0] - GREY).max() <= 1


def test_32_bit_integers(tmp_path):
    large = GREY.astype(np.int32) * 1_000_000
    path = saved(tmp_path / "a.tif", Image.fromarray(large))
    assert (np.asarray(open_image(path))[..., 0] == GREY).all()
    signed = Image.fromarray(GREY.astype(np.int32) * 8 - 1020)
    assert (np.asarray(open_image(signed))[..., 0] == GREY).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 254.0], [0, 100, 254]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 500.0, 1000.0], [0, 128, 255]),
        ([7e30, 7e30, 7e30], [0, 0, 0]),
        ([-3e38, 0.0, 3e38], [0, 128, 255]),
    ],
)
def test_floating_point(tmp_path, values, expected):
    image = Image.fromarray(np.array([values], np.float32))
    for source in (image, saved(tmp_path / "a.tif", image)):
        assert np.asarray(open_image(source))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.finfo(np.float32).min])
def test_values_that_are_no_numbers_are_black(tmp_path, value):
    path = saved(tmp_path / "a.tif", Image.fromarray(np.array([[500, value, 1000]], np.float32)))
    assert np.asarray(open_image(path))[0, :, 0].tolist() == [0, 0, 255]
    none = saved(tmp_path / "b.tif", Image.fromarray(np.full((2, 2), value, np.float32)))
    assert problem(none).reason == "no value of it is a number (all is NaN, infinity or no data)"


def test_missing_file_and_folder(tmp_path):
    assert problem(tmp_path / "no.jpg").reason == "the file does not exist"
    assert problem(tmp_path / "no.jpg").path == str(tmp_path / "no.jpg")
    assert problem(tmp_path).reason == "is a folder, not an image file"
    assert problem("").reason == "the file does not exist"
    assert problem("a\0b.jpg").reason == "is not a valid file name"
    assert "cannot be opened" in problem("x" * 5000).reason
    (tmp_path / "file").write_bytes(b"x")
    assert problem(tmp_path / "file" / "a.jpg").reason == "the file does not exist"
    assert "neither a path, a PIL image nor an array" in problem(3).reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert problem(tmp_path / "a.jpg").reason == "is not a regular file"


def test_permission_denied(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", picture())

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert problem(path).reason == "permission denied"


def test_empty_and_foreign_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "b.jpg").write_text("no picture at all")
    (tmp_path / "c.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (tmp_path / "d.jpg").write_bytes(b"x")
    assert problem(tmp_path / "a.jpg").reason == "the file is empty (0 bytes)"
    assert problem(tmp_path / "b.jpg").reason.startswith("is a text, not an image (it begins with 'no picture at all')")
    assert problem(tmp_path / "c.jpg").reason == "is a PostScript drawing: save it as PNG"
    assert problem(tmp_path / "d.jpg").reason == "not an image that can be read"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_truncated(tmp_path, format):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    content = encoded(noise, format)
    path = tmp_path / "a"
    for keep in (0.1, 0.5):
        path.write_bytes(content[: int(len(content) * keep)])
        assert problem(path).reason == "the image is truncated or corrupt"


def test_huge_image_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(30_000, 30_000))
    assert problem(path).reason == (
        "30000 x 30000 is 900,000,000 pixels, the limit is 178,956,970: make it smaller, or allow it with "
        "--max-pixels 900000000"
    )
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS or Image.MAX_IMAGE_PIXELS == MAX_PIXELS // 2


def test_large_image_gives_no_warning(tmp_path, monkeypatch):
    # A low mark stands for a large image: Pillow warns above the mark and refuses above its double.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    paths = [saved(tmp_path / f"a{suffix}", picture()) for suffix in (".png", ".tif", ".jpg")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in paths:
            assert open_image(path).size == (12, 8)


@pytest.mark.parametrize("source", [picture(), np.asarray(picture())], ids=["PIL", "array"])
def test_limit_holds_for_images_in_memory(source):
    with pytest.raises(ImageProblem, match=r"12 x 8 is 96 pixels, the limit is 95: .*--max-pixels 96$") as caught:
        open_image(source, max_pixels=95)
    assert caught.value.path in ("<PIL image, RGB, 12 x 8>", "<array, uint8, 8 x 12 x 3>")
    assert open_image(source, max_pixels=96).size == (12, 8)


def test_image_without_pixels():
    assert problem(Image.new("RGB", (0, 5))).reason == "the image has no pixels (0 x 5)"


def test_lazy_image_whose_file_is_damaged(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.effect_noise((64, 64), 90), "PNG")[:900])
    with Image.open(path) as lazy:
        found = problem(lazy)
    assert (found.path, found.reason) == (str(path), "the image is truncated or corrupt")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "there is not enough memory to decode the image"),
        (Image.DecompressionBombError(), "the image has too many pixels: make it smaller"),
        (OSError(5, "Input/output error"), "cannot be read (Input/output error)"),
        (OSError("odd"), "the image is truncated or corrupt"),
    ],
)
def test_trouble_while_decoding(monkeypatch, tmp_path, error, reason):
    def fail(self):
        raise error

    path = saved(tmp_path / "a.png", picture())
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    assert problem(path).reason == reason


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a list of open files")
def test_no_file_stays_open(tmp_path):
    good = saved(tmp_path / "a.gif", picture(), save_all=True, append_images=[picture()])
    tiff = saved(tmp_path / "a.tif", picture(), compression="tiff_lzw")
    bad = tmp_path / "b.png"
    bad.write_bytes(encoded(picture(), "PNG")[:60])
    open_image(good)
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [open_image(good), open_image(tiff)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        problem(bad)
        content_hash(good)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert kept[0].size == (12, 8)


def test_given_image_is_not_changed_nor_shared():
    source = picture()
    result = open_image(source)
    assert result == source
    result.putpixel((0, 0), (1, 1, 1))
    assert source == picture()


def test_problem_survives_pickling():
    found = pickle.loads(pickle.dumps(ImageProblem("a.jpg", "no")))
    assert (found.path, found.reason, str(found)) == ("a.jpg", "no", "a.jpg: no")


def test_content_hash(tmp_path):
    one = saved(tmp_path / "a.png", picture())
    two = tmp_path / "b.png"
    two.write_bytes(one.read_bytes())
    assert content_hash(one) == content_hash(str(two)) != content_hash(saved(tmp_path / "c.png", picture((5, 5))))
    assert len(content_hash(one)) == 64
    assert content_hash(picture()) == content_hash(picture()) != content_hash(picture((8, 12)))
    assert content_hash(Image.new("L", (2, 2))) != content_hash(Image.new("P", (2, 2)))
    red, blue = Image.new("P", (2, 2)), Image.new("P", (2, 2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert content_hash(red) != content_hash(blue)
    with pytest.raises(ImageProblem, match=r"no\.png: the file does not exist"):
        content_hash(tmp_path / "no.png")


def attempt(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_image(path)
        except ImageProblem:
            return
    assert image.mode == "RGB"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "image"


SIGNATURES = [
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF\0\0\0\0WEBPVP8 ",
    b"P6 ",
    b"Pf ",
    b"\0\0\1\0",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\0\0\0\x1cftypavif",
]


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from(SIGNATURES), rest=st.binary(max_size=200))
def test_random_bytes_give_only_image_problems(scratch, start, rest):
    attempt(scratch, start + rest)


VALID = [
    encoded(picture((16, 16)), "PNG"),
    encoded(picture((16, 16)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
    encoded(picture((16, 16)).convert("P"), "PNG", transparency=3),
    encoded(picture((16, 16)).convert("I;16"), "TIFF"),
    encoded(picture((16, 16)), "GIF"),
    encoded(picture((16, 16)), "WEBP"),
]


@settings(max_examples=400, deadline=None)
@given(
    content=st.sampled_from(VALID),
    keep=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
)
@example(content=VALID[0], keep=1.0, changes=[])
def test_damaged_images_give_only_image_problems(scratch, content, keep, changes):
    damaged = bytearray(content[: round(len(content) * keep)])
    for where, value in changes:
        if damaged:
            damaged[int(where * len(damaged))] = value
    attempt(scratch, bytes(damaged))


def test_no_heavy_imports():
    code = (
        "import sys, atha.data.images, atha.data.sources.folder, atha.data.sources.table, atha.prompts\n"
        "print(*sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert output.stdout.strip() == ""
