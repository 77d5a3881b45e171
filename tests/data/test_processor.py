"""Images come out as transformers' own processors make them, settings are read as theirs are, and nothing is imported.

Their processors on Pillow are matched bit for bit. Those on torchvision, which the library takes by itself where
it can, interpolate with other rounding: within two grey levels but where brightness jumps in images that are more high
than wide, and one pixel apart where an odd rest is padded.
"""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from atha.backbones import NANO, load_backbone
from atha.backbones.processor_files import read_processor
from atha.data import processor as module
from atha.data.processor import KINDS, ImageProcessor
from atha.data.views import Views
from atha.errors import BackboneError
from atha.models.frozen import processor_settings
from tiny_models import NANO_FOLDER

CROP = {"height": 24, "width": 24}
SETTINGS = [
    ("CLIPImageProcessor", {"size": {"shortest_edge": 24}, "crop_size": CROP}),
    ("CLIPImageProcessor", {"size": 24, "crop_size": 24}),
    ("CLIPImageProcessor", {"size": {"shortest_edge": 31}, "crop_size": {"height": 24, "width": 17}}),
    ("CLIPImageProcessor", {"size": {"shortest_edge": 17}, "crop_size": CROP, "resample": 2}),
    ("CLIPImageProcessor", {"size": {"shortest_edge": 16, "longest_edge": 24}, "crop_size": CROP}),
    ("CLIPImageProcessor", {"size": {"max_height": 24, "max_width": 31}, "crop_size": CROP}),
    ("CLIPImageProcessor", {"size": CROP, "do_center_crop": False, "resample": 0}),
    ("CLIPImageProcessor", {"do_resize": False, "crop_size": CROP}),
    ("CLIPImageProcessor", {"size": 20, "crop_size": 20, "do_pad": True, "pad_size": {"height": 24, "width": 22}}),
    ("ChineseCLIPImageProcessor", {"size": [24, 24], "crop_size": [20, 20]}),
    ("BitImageProcessor", {"size": {"shortest_edge": 24}, "crop_size": CROP, "resample": 1}),
    ("SiglipImageProcessor", {"size": {"height": 24, "width": 24}}),
    ("SiglipImageProcessor", {"size": {"height": 24, "width": 31}, "resample": 5}),
    ("SiglipImageProcessor", {"size": 24}),
    ("ViTImageProcessor", {"size": 24}),
    ("ViTImageProcessor", {"size": {"height": 24, "width": 24}, "resample": 4}),
    ("DeiTImageProcessor", {"size": 28, "crop_size": 24}),
    ("BlipImageProcessor", {"size": {"height": 24, "width": 24}}),
]
sides = st.integers(1, 90)
shapes = st.one_of(st.tuples(sides, sides), st.sampled_from([(1, 1), (1, 5000), (5000, 3), (2, 999), (97, 101)]))


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def theirs(kind: str, said: dict, pillow: bool = True):
    return getattr(transformers, kind + ("Pil" if pillow else ""))(**said)


def plain(made, image: Image.Image) -> torch.Tensor:
    given = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    return made(images=[image], **given)["pixel_values"][0]


def ours(kind: str, said: dict) -> ImageProcessor:
    return ImageProcessor.of({"image_processor_type": kind, **said})


def whole(kind: str, said: dict) -> tuple[str, dict]:
    """With a mean and a deviation that are not alike in any channel."""
    return kind, {**said, "image_mean": [0.1, 0.25, 0.7], "image_std": [0.3, 0.2, 0.9]}


def odd_rest(made: ImageProcessor, image: Image.Image) -> bool:
    """Whether black of an odd number of pixels is put around an image."""
    size = made._resized(*image.size) if made.do_resize else image.size
    crop = (made.crop_size["width"], made.crop_size["height"]) if made.do_center_crop else size
    return any(wanted > side and (wanted - side) % 2 for side, wanted in zip(size, crop, strict=True))


@pytest.mark.parametrize(("kind", "said"), SETTINGS)
@given(shape=shapes)
@settings(max_examples=40, deadline=None)
def test_plain_is_theirs_bit_for_bit(kind, said, shape):
    image, made = photo(*shape), ours(kind, said)
    found = made.plain(image)
    if {"longest_edge", "max_height"} & (made.size or {}).keys() and 1 in made._resized(*shape):
        assert found.shape == (3, 24, 24)  # theirs has sides of less than a pixel, which it cannot make
        return
    assert torch.equal(found, plain(theirs(kind, said), image))


# torchvision lacks two of the filters, and as the nearest of two pixels it may take the other one.
OF_TORCHVISION = [(kind, said) for kind, said in SETTINGS if said.get("resample") not in (0, 4, 5)]


def smooth(width: int, height: int) -> Image.Image:
    return photo(width // 8 + 1, height // 8 + 1).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("kind", "said"), OF_TORCHVISION)
def test_plain_is_that_of_torchvision_but_for_rounding(kind, said):
    made, other = ours(kind, said), theirs(kind, said, pillow=False)
    shapes = [(61, 40), (24, 24), (200, 131), (300, 300), (6, 9), (40, 83), (131, 200), (90, 400)]
    compared = [shape for shape in shapes if not odd_rest(made, photo(*shape))]
    for shape in compared:
        image = smooth(*shape)
        assert (made.plain(image).int() - plain(other, image).int()).abs().max() <= 2, shape


@pytest.mark.parametrize("shape", [(61, 40), (40, 83), (90, 400)])
def test_noise_is_that_of_torchvision_when_pillow_takes_rows_first(shape):
    """It takes columns first where that is faster, and what is cut off at black and white in between is other then."""
    image, made = photo(*shape), ours("SiglipImageProcessor", {"size": {"height": 24, "width": 24}})
    other = theirs("SiglipImageProcessor", {"size": {"height": 24, "width": 24}}, pillow=False)
    rows = image.resize((24, image.height), Image.Resampling.BICUBIC)
    assert (made.plain(rows).int() - plain(other, image).int()).abs().max() <= 2
    assert (made.plain(image).int() - plain(other, image).int()).abs().float().mean() < 0.5


@pytest.mark.parametrize(("kind", "said"), SETTINGS[:1] + SETTINGS[11:12])
@pytest.mark.parametrize(
    "steps",
    [{}, {"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}, {"rescale_factor": 0.0039}],
    ids=str,
)
def test_normalised_values_are_theirs_bit_for_bit(kind, said, steps):
    kind, said = whole(kind, said | steps)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 24, 24), dtype=np.uint8))
    kept, given = images.clone(), {"do_resize": False, "do_center_crop": False, "return_tensors": "pt"}
    made = ours(kind, said).normalise(images)
    assert made.dtype == torch.float32 and torch.equal(images, kept)
    assert torch.equal(made, theirs(kind, said, pillow=False)(images=images, **given)["pixel_values"])
    pillow = theirs(kind, said)(images=[image.numpy() for image in images], **given)["pixel_values"]
    torch.testing.assert_close(made, pillow, atol=2e-6, rtol=1e-6)


def test_one_number_for_all_channels():
    made = ours("CLIPImageProcessor", {"image_mean": 0.5, "image_std": 0.25})
    assert made.normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten().tolist() == [2.0] * 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "1"])
def test_other_modes_become_rgb(mode):
    image = photo(30, 40)
    if "A" in mode:
        image.putalpha(photo(30, 40, 1).convert("L"))
    image = image.convert(mode)
    kind, said = SETTINGS[0]
    assert torch.equal(ours(kind, said).plain(image), plain(theirs(kind, said), image))


@pytest.mark.parametrize("shape", [(1, 700), (700, 3), (40, 900), (333, 1000)])
@pytest.mark.parametrize(("kind", "said"), SETTINGS[:6])
def test_a_strip_is_not_resized_as_a_whole(kind, said, shape, monkeypatch):
    image, made = smooth(*shape), ours(kind, said)
    expected = made.plain(image).int()
    monkeypatch.setattr(module, "_WHOLE", 0)
    assert (made.plain(image).int() - expected).abs().max() <= 2


def test_a_strip_of_one_pixel_takes_no_gigabytes():
    image = Image.new("RGB", (1, 3_000_000), (9, 99, 200))  # 2e11 pixels when it is as wide as the view
    made = ImageProcessor.of({"image_processor_type": "CLIPImageProcessor"}).plain(image)
    assert made.shape == (3, 224, 224) and made.flatten(1).unique(dim=1).flatten().tolist() == [9, 99, 200]


# What there is to hash: the very text that transformers' own processors give.


def hashed(made) -> str:
    names = (
        "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
        "image_mean", "image_std", "do_pad", "class",
    )  # fmt: skip
    said = made.to_dict() | {"class": type(made).__name__}
    return json.dumps({name: said.get(name) for name in names}, sort_keys=True, default=dict)


def text(made: ImageProcessor) -> str:
    return json.dumps(made.settings(), sort_keys=True)


FILES = [
    *SETTINGS,
    *((kind, {}) for kind in KINDS if kind != "Siglip2ImageProcessor"),
    ("CLIPImageProcessor", {"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "rescale_factor": 1, "do_pad": None}),
    ("CLIPImageProcessor", {"do_center_crop": None, "crop_size": None, "default_to_square": True, "size": 32}),
    ("SiglipImageProcessor", {"do_center_crop": True, "crop_size": 200, "do_convert_rgb": None}),
    ("ViTImageProcessor", {"do_resize": False, "size": None, "resample": None, "default_to_square": None}),
]


@pytest.mark.parametrize(("kind", "said"), FILES)
def test_settings_are_hashed_as_before(kind, said, tmp_path):
    own = theirs(kind, said, pillow=False)
    assert text(ours(kind, said)) == text(ImageProcessor.of(own)) == hashed(own)
    assert text(ImageProcessor.of(theirs(kind, said))) == hashed(own)
    own.save_pretrained(tmp_path)
    assert text(read_processor(tmp_path)) == hashed(transformers.AutoImageProcessor.from_pretrained(tmp_path))


def test_nanos_settings_are_hashed_as_before():
    backbone = load_backbone(NANO)
    assert processor_settings(backbone) == hashed(transformers.AutoImageProcessor.from_pretrained(NANO_FOLDER))
    assert processor_settings(backbone) == (
        '{"class": "CLIPImageProcessor", "crop_size": {"height": 64, "width": 64}, "do_center_crop": true, '
        '"do_normalize": true, "do_pad": null, "do_rescale": true, "do_resize": true, "image_mean": [0.48145466, '
        '0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, '
        '"rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 64}}'
    )


def test_patches_of_any_shape_become_a_square():
    own = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=20, image_mean=[0.1, 0.2, 0.3])
    made = ImageProcessor.of(own)
    square = transformers.SiglipImageProcessor(
        size={"height": 32, "width": 32}, resample=own.resample, image_mean=own.image_mean
    )
    assert text(made) == hashed(square)
    assert made.squared(32) == made and made.squared(48).plain(photo(9, 30)).shape == (3, 48, 48)


# Files.

OF_2021 = {
    "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224,
}  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        OF_2021,
        {**OF_2021, "image_processor_type": "CLIPImageProcessorFast", "device": None, "unknown": [1]},
        {**OF_2021, "image_processor_type": "CLIPImageProcessorPil"},
        {key: value for key, value in OF_2021.items() if "type" not in key},
    ],
)
def test_class_of_a_file(said, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert text(read_processor(tmp_path)) == hashed(transformers.AutoImageProcessor.from_pretrained(tmp_path))


def test_part_of_a_whole_processors_file_comes_first(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OF_2021))
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert read_processor(tmp_path).kind == "CLIPImageProcessor"
    part = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 24, "width": 24}}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": part}))
    assert text(read_processor(tmp_path)) == hashed(transformers.AutoImageProcessor.from_pretrained(tmp_path))


NAN = float("nan")
WRONG = [
    ({"image_processor_type": "OwlViTImageProcessor"}, "is of class 'OwlViTImageProcessor', supported are CLIPImage"),
    ({"image_processor_type": 7}, "is of class 7, supported are"),
    ({"do_resize": 1}, "has 1 for do_resize, which must be true or false"),
    ({"do_center_crop": "yes"}, "has 'yes' for do_center_crop"),
    ({"size": "224"}, "has '224' for size"),
    ({"size": {}}, "for size"),
    ({"size": {"longest_edge": 224}}, "for size, which must be a shortest_edge"),
    ({"size": {"shortest_edge": 0}}, "has 0 for size.shortest_edge, which must be a whole number from 1 to"),
    ({"size": 10**9}, "has 1000000000 for size.shortest_edge"),
    ({"size": {"height": 224, "width": 224.5}}, "has 224.5 for size.width"),
    ({"size": {"height": 224, "width": None}}, "for size"),
    ({"size": None}, "has do_resize and no size: add it, or set do_resize to false"),
    ({"resample": 9}, "has 9 for resample, which must be a whole number from 0 to 5"),
    ({"resample": "bicubic"}, "has 'bicubic' for resample"),
    ({"crop_size": {"shortest_edge": 224}}, "for crop_size, which must be height and width"),
    ({"do_pad": True, "pad_size": {"shortest_edge": 224}}, "for pad_size"),
    ({"rescale_factor": NAN}, "holds NaN, which is no number"),
    ({"rescale_factor": 0}, "has 0 for rescale_factor"),
    ({"rescale_factor": None}, "has do_rescale and no rescale_factor"),
    ({"image_mean": [0.5, NAN, 0.5]}, "holds NaN, which is no number"),
    ({"image_mean": [0.5, 0.5]}, "for image_mean, which must be one number, or three"),
    ({"image_mean": [0.5, None, 0.5]}, "for image_mean, which must be three numbers"),
    ({"image_mean": "half"}, "has 'half' for image_mean"),
    ({"image_std": [0.5, 0.0, 0.5]}, "has 0.0 for image_std, which must be a number above 0"),
    ({"image_std": [0.5, float("inf"), 0.5]}, "holds Infinity, which is no number"),
    ({"image_std": [0.5, True, 0.5]}, "has True for image_std"),
    ({"image_processor_type": "Siglip2ImageProcessor", "patch_size": 0}, "has 0 for patch_size"),
    ({"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": None}, "for patch_size and max_num_patches"),
]


@pytest.mark.parametrize(("said", "sentence"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong_settings_are_named_with_file_and_key(said, sentence, tmp_path):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(OF_2021 | said))
    with pytest.raises(BackboneError) as raised:
        read_processor(tmp_path)
    message = str(raised.value)
    assert message.startswith(str(file)) and sentence in message and "\n" not in message


def test_number_of_thousands_of_digits():
    with pytest.raises(BackboneError, match=r"has int for size\.shortest_edge"):
        ImageProcessor.of(OF_2021 | {"size": 10**5000})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no table of keys"),
        ("[" * 100_000, "nested more than 64 deep"),
        ('{"size": ' + "9" * 9999 + "}", "too large"),
        ("{}", "does not say its image_processor_type"),
    ],
    ids=["cut", "list", "deep", "digits", "empty"],
)
def test_damaged_file(content, sentence, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(BackboneError, match=sentence):
        read_processor(tmp_path)
    (tmp_path / "processor_config.json").write_text('{"image_processor": 3}')
    with pytest.raises(BackboneError, match=r"processor_config\.json holds no settings by name"):
        read_processor(tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(BackboneError, match=r"has no preprocessor_config\.json"):
        read_processor(tmp_path)


def test_model_of_the_hub_is_read_where_the_cache_keeps_it(tmp_path, monkeypatch):
    place = tmp_path / "hub" / "models--some--where"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    shutil.copytree(NANO_FOLDER, place / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = load_backbone("some/where")
    assert (found.image_processor, found.revision) == (load_backbone(NANO).image_processor, "a" * 40)


def test_what_is_too_large_to_pad():
    made = ours("CLIPImageProcessor", {"size": 30, "crop_size": 30, "do_pad": True, "pad_size": 24})
    with pytest.raises(BackboneError, match="pads to 24x24 what is 30x30 already"):
        made.plain(photo(40, 40))


# Views.


@pytest.mark.parametrize("size", [32, 33, 64, 224])
@pytest.mark.parametrize("squeeze_to_size", [False, True])
def test_published_geometry_is_torchvisions_crop(size, squeeze_to_size):
    made = ours("CLIPImageProcessor", {"size": size, "crop_size": size})
    image = photo(100, 80)
    side = size if squeeze_to_size else int(1.15 * size)
    squeezed = image.resize((side, side), Image.Resampling.BILINEAR)
    expected = v2.functional.center_crop(v2.functional.pil_to_tensor(squeezed), [size, size])
    assert torch.equal(Views(made, size, "cdfsl", squeeze_to_size).plain(image), expected)


def test_a_models_processor_may_be_one_of_transformers():
    own = load_backbone(NANO)
    given = transformers.AutoImageProcessor.from_pretrained(NANO_FOLDER)
    backbone = type(own)(own.model, own.tokenizer, given)
    assert backbone.image_processor == own.image_processor


def test_plain_views_import_neither_torchvision_nor_transformers():
    code = f"""
import sys
from pathlib import Path
from PIL import Image
from atha.backbones.processor_files import read_processor
from atha.data.images import open_image
from atha.data.processor import ImageProcessor
from atha.data.views import Views
for made in (ImageProcessor.of({{"image_processor_type": "CLIPImageProcessor", "size": 64, "crop_size": 64}}),
             read_processor(Path({str(NANO_FOLDER)!r}))):
    for transform in ("processor", "cdfsl"):
        views = Views(made, 64, transform)
        views.normalise(views.plain(open_image(Image.new("RGB", (90, 70))))[None])
        views.visible_box((90, 70))
print(sorted({{"torchvision", "transformers"}} & {{name.partition(".")[0] for name in sys.modules}}))
"""
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr
