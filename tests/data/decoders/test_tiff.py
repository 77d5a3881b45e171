"""TIFF of every depth, layout and compression gives the picture; bands are those that the file or the rule says."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from atha.data.deciding import decide_reading
from atha.data.images import BandsProblem, ImageProblem, open_image
from atha.data.problems import MissingExtra
from atha.data.reading import Reading
from atha.errors import DataError
from making import difference, grey, picture

RGB = picture()
DEEP = RGB.astype(np.uint16) * 12  # 0..3,060, as reflectance of satellites
INFRARED = (RGB[..., :1] // 2 + 60).astype(np.uint8)
PLANES = {"planarconfig": "separate", "photometric": "rgb"}


def tiff(path, values, **options):
    tifffile.imwrite(path, values, **options)
    return path


def read(path, bands=None):
    """By the rule that is decided on the image itself."""
    return open_image(path, decide_reading([path], bands))


LAYOUTS = {
    **{f"{name}": {"compression": name} for name in ("lzw", "deflate", "zstd", "packbits", "lzma")},
    "as it is": {},
    "predictor": {"compression": "lzw", "predictor": True},
    "tiles": {"compression": "deflate", "tile": (16, 32)},
    "tiles as they are": {"tile": (16, 16)},
    "BigTIFF": {"bigtiff": True},
    "big endian": {"byteorder": ">"},
    "one strip": {"compression": "zlib", "rowsperstrip": 1000},
    "low strips": {"rowsperstrip": 7, "compression": "lzw"},
}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_deep_colour(tmp_path, options):
    assert difference(read(tiff(tmp_path / "a.tif", DEEP, photometric="rgb", **options)), RGB) == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "lzw"}, {"tile": (16, 16), "compression": "lzw"}, {"byteorder": ">"}],
    ids=["as it is", "lzw", "tiles", "big endian"],
)
def test_planes(tmp_path, options):
    path = tiff(tmp_path / "a.tif", np.moveaxis(DEEP, 2, 0), **PLANES, **options)
    assert difference(read(path), RGB) == 0
    eight = np.moveaxis(np.concatenate([RGB, INFRARED], axis=2), 2, 0)
    assert difference(read(tiff(tmp_path / "b.tif", eight, extrasamples=[0], **PLANES, **options)), RGB) == 0


@pytest.mark.parametrize(
    "values",
    [
        DEEP.astype(np.int16),
        DEEP.astype(np.int32),
        DEEP.astype(np.float16) / 10_000,
        DEEP.astype(np.float32) / 10_000,
        DEEP / 10_000,
        DEEP.astype(np.float32) / 5_000 - 0.2,
    ],
    ids=["int16", "int32", "float16", "float32", "float64", "negative"],
)
def test_kinds_of_values(tmp_path, values):
    assert difference(read(tiff(tmp_path / "a.tif", values, photometric="rgb")), RGB) <= 1


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (grey().astype(np.uint16) * 257, {}),
        ((255 - grey().astype(np.uint16)) * 257, {"photometric": "miniswhite"}),
        (grey().astype(np.int16) - 128, {}),
        ((grey().astype(int) - 128).astype(np.int8), {}),
        (grey().astype(np.uint32) * 1000, {}),
        (grey().astype(np.uint64) * 1000, {}),
        (grey() / 255, {}),
    ],
    ids=["uint16", "white is 0", "int16", "int8", "uint32", "uint64", "float64"],
)
def test_deep_grey(tmp_path, values, options):
    assert difference(read(tiff(tmp_path / "a.tif", values, **options)), grey()) <= 1


@pytest.mark.parametrize("extra", [0, None], ids=["unspecified", "no tag"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_infrared_is_no_alpha(tmp_path, extra, dtype):
    four = np.concatenate([RGB, INFRARED], axis=2).astype(dtype) * (1 if dtype == np.uint8 else 257)
    path = tiff(tmp_path / "a.tif", four, photometric="rgb", extrasamples=[0])
    if extra is None:
        content = path.read_bytes()
        place = content.index(b"\x52\x01\x03\x00")  # the entry of ExtraSamples becomes one of a private tag
        path.write_bytes(content[:place] + b"\x52\xff" + content[place + 2 :])
    assert difference(open_image(path), RGB) == difference(read(path), RGB) == 0
    assert difference(read(path, (4, 1, 2)), np.concatenate([INFRARED, RGB[..., :2]], axis=2)) <= 40  # stretched


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", [1, 2], ids=["premultiplied", "straight"])
def test_alpha_that_is_none(tmp_path, kind, dtype):
    deep = 1 if dtype == np.uint8 else 257
    four = np.concatenate([RGB, INFRARED], axis=2).astype(dtype) * deep
    path = tiff(tmp_path / "a.tif", four, photometric="rgb", extrasamples=[kind])
    assert difference(open_image(path), RGB) == 0
    rule = decide_reading([path])
    assert rule.alpha is False and "infrared" in " ".join(rule.describe())
    assert difference(open_image(path, rule), RGB) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", [1, 2], ids=["premultiplied", "straight"])
def test_alpha_lies_over_white(tmp_path, kind, dtype):
    deep = 1 if dtype == np.uint8 else 257
    mask = np.full((*RGB.shape[:2], 1), 255)
    mask[:10] = 0
    colours = RGB * (mask > 0) if kind == 1 else RGB
    path = tiff(
        tmp_path / "a.tif", (np.concatenate([colours, mask], axis=2) * deep).astype(dtype), photometric="rgb",
        extrasamples=[kind],
    )  # fmt: skip
    expected = np.where(mask > 0, RGB, 255)
    rule = decide_reading([path])
    assert rule.alpha is True and difference(open_image(path, rule), expected) == 0


def test_one_rule_for_alpha_of_a_set(tmp_path):
    """Infrared that touches 0 in one picture is no mask there either."""
    paths = []
    for number in range(4):
        band = INFRARED.copy()
        band[0, :5] = 0 if number else 60
        four = np.concatenate([RGB, band], axis=2)
        paths.append(tiff(tmp_path / f"{number}.tif", four, photometric="rgb", extrasamples=[2]))
    rule = decide_reading(paths)
    assert rule.alpha is False
    assert all(difference(open_image(path, rule), RGB) == 0 for path in paths)


MANY = np.zeros((30, 40, 13), np.uint16)
MANY[..., [3, 2, 1]] = DEEP


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack", "planarconfig": "contig"},
        {"photometric": "minisblack", "planarconfig": "contig", "compression": "lzw", "tile": (16, 16)},
        {"photometric": "minisblack", "planarconfig": "separate", "compression": "deflate"},
        {"photometric": "minisblack"},
    ],
    ids=["together", "tiles", "planes", "pages"],
)
def test_many_bands(tmp_path, options):
    together = options.get("planarconfig") == "contig"
    path = tiff(tmp_path / "a.tif", MANY if together else np.moveaxis(MANY, 2, 0), **options)
    assert difference(read(path, (4, 3, 2)), RGB) == 0
    assert difference(read(path, (2, 3, 4)), RGB[..., ::-1]) == 0
    assert difference(read(path, [3]), RGB[..., 1]) == 0
    if "planarconfig" in options:
        with pytest.raises(DataError, match=r"13 bands and does not say which are red.*--bands 4,3,2"):
            decide_reading([path])
        with pytest.raises(BandsProblem):
            open_image(path)
    with pytest.raises(DataError, match=r"has 13 bands, and band 14 is wanted"):
        decide_reading([path], (14, 1, 2))


def test_bands_that_gdal_names(tmp_path):
    items = "".join(
        f'<Item name="COLORINTERP" sample="{place}" role="colorinterp">{colour}</Item>'
        for colour, place in (("Red", 3), ("Green", 2), ("Blue", 1))
    )
    tag = (42112, "s", 0, f"<GDALMetadata>{items}</GDALMetadata>", True)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extratags": [tag]}
    assert difference(read(tiff(tmp_path / "a.tif", MANY, **options)), RGB) == 0


def test_four_bands_without_names_are_taken_in_order_and_said(tmp_path):
    four = np.concatenate([DEEP, DEEP[..., :1]], axis=2)
    path = tiff(tmp_path / "a.tif", four, photometric="minisblack", planarconfig="contig")
    rule = decide_reading([path])
    assert rule.bands == (1, 2, 3) and "Bands 1, 2, 3 are taken as red" in " ".join(rule.describe())
    assert difference(open_image(path, rule), RGB) == 0


@pytest.mark.parametrize("value", [np.nan, -9999.0, -np.inf])
def test_no_data_is_black_and_counts_for_nothing(tmp_path, value):
    values = (DEEP / 10_000).astype(np.float32)
    values[:5, :5] = value
    tag = [(42113, "s", 0, "-9999", True)]
    expected = RGB.copy()
    expected[:5, :5] = 0
    path = tiff(tmp_path / "a.tif", values, photometric="rgb", extratags=tag, compression="lzw")
    assert difference(read(path), expected) <= 1


def test_tiles_that_were_left_out_are_no_data(tmp_path):
    path = tiff(tmp_path / "a.tif", DEEP, photometric="rgb", tile=(16, 16), compression="deflate")
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["TileByteCounts"]
        counts = list(tag.value)
        counts[0] = 0
        tag.overwrite(counts)
    expected = RGB.copy()
    expected[:16, :16] = 0
    assert difference(read(path), expected) == 0


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation(tmp_path, orientation):
    tag = (274, "H", 1, orientation, True)
    path = tiff(tmp_path / "a.tif", DEEP, photometric="rgb", extratags=[tag])
    expected = {1: RGB, 3: RGB[::-1, ::-1], 6: np.rot90(RGB, -1)}[orientation]
    assert difference(read(path), expected) == 0


def test_first_page_and_inks_as_before(tmp_path):
    path = tiff(tmp_path / "a.tif", np.stack([RGB, 255 - RGB]), photometric="rgb")
    assert difference(read(path), RGB) == 0
    inks = np.asarray(Image.fromarray(RGB).convert("CMYK"))
    for number, values in enumerate((inks, inks.astype(np.uint16) * 257)):
        assert difference(read(tiff(tmp_path / f"{number}.tif", values, photometric="separated")), RGB) <= 1


@pytest.mark.parametrize("options", [{"compression": "lzw"}, {"compression": "deflate", "tile": (16, 16)}, {}])
@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_truncated(tmp_path, options, keep):
    noise = np.random.default_rng(0).integers(0, 60_000, (64, 64, 3), np.uint16)
    content = tiff(tmp_path / "a.tif", noise, photometric="rgb", **options).read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ImageProblem, match="truncated or corrupt"):
        open_image(tmp_path / "a.tif")


def test_the_extra_is_named(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif", DEEP, photometric="rgb")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(MissingExtra, match=r"a TIFF of 3 bands of 16 bits is read with the extra 'geo': pip install"):
        open_image(path)
    with pytest.raises(MissingExtra):
        open_image(tiff_of_pages(tmp_path), Reading(bands=(1, 2, 3)))


def tiff_of_pages(folder):
    Image.new("L", (4, 4)).save(folder / "b.tif", save_all=True, append_images=[Image.new("L", (4, 4))])
    return folder / "b.tif"


def test_a_codec_that_is_missing_names_the_extra(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif", DEEP, photometric="rgb", compression="lzw")

    def missing(*_, **__):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "decode", property(lambda _: missing))
    with pytest.raises(MissingExtra, match=r"compressed as LZW is read with the extra 'geo'"):
        open_image(path)


def test_work_that_would_take_too_long_is_refused(tmp_path):
    path = tiff(tmp_path / "a.tif", DEEP, photometric="rgb", compression="deflate", rowsperstrip=30)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["ImageWidth"].overwrite(13_000)
        file.pages[0].tags["ImageLength"].overwrite(13_000)
        file.pages[0].tags["RowsPerStrip"].overwrite(13_000)
    with pytest.raises(ImageProblem, match=r"it takes 5\.\d GB to decode, the limit is 0\.9 GB.*--max-pixels"):
        open_image(path)
