"""Image processors: how a model's images are resized, cropped and normalised, read from what its checkpoint says.

They do what transformers' own do, and need no more than Pillow and torch: that library takes seconds to import. 8-bit
images are those of its processors on Pillow, bit for bit; those on torchvision interpolate with other rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, floor, isqrt
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from atha.errors import BackboneError

_CLIP_COLOURS = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_HALVES = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_ALL = {
    "do_resize": True, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "default_to_square": True,
}  # fmt: skip
_CLIP = {
    **_ALL, **_CLIP_COLOURS, "size": {"shortest_edge": 224}, "default_to_square": False, "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
}  # fmt: skip

#: Class in transformers -> its settings where a file has none. All of these go through the same steps.
KINDS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": _CLIP,
    "ChineseCLIPImageProcessor": _CLIP,
    "BitImageProcessor": _CLIP,
    "SiglipImageProcessor": {
        **_ALL, **_HALVES, "size": {"height": 224, "width": 224}, "default_to_square": False,
    },
    "Siglip2ImageProcessor": {**_ALL, **_HALVES, "resample": 2, "patch_size": 16, "max_num_patches": 256},
    "ViTImageProcessor": {**_ALL, **_HALVES, "size": {"height": 224, "width": 224}, "resample": 2},
    "DeiTImageProcessor": {
        **_ALL, **_HALVES, "size": {"height": 256, "width": 256}, "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
    },
    "BlipImageProcessor": {**_ALL, **_CLIP_COLOURS, "size": {"height": 384, "width": 384}},
}  # fmt: skip

_FLAGS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad")
_SQUARE = {"height", "width"}
_SIZES = (_SQUARE, {"shortest_edge"}, {"shortest_edge", "longest_edge"}, {"max_height", "max_width"})
_LARGEST = 1 << 12
# A photo that would have more pixels than this, of which a crop keeps few, is resized there alone: a strip that is one
# pixel wide would take gigabytes.
_WHOLE = 1 << 26

_Size = Mapping[str, int]
_Colours = tuple[float, ...] | float


@dataclass(frozen=True)
class ImageProcessor:
    """Settings of an image processor, by the names that files have for them; None where there are none.

    Attributes:
        kind: class in transformers.
        do_resize: whether images are resized.
        size: to ``shortest_edge`` (and ``longest_edge`` at most), to ``height`` and ``width``, or into ``max_height``
            and ``max_width``.
        resample: filter, a number of Pillow's.
        do_center_crop: whether the middle is cut out, with black around what is smaller.
        crop_size: its ``height`` and ``width``.
        do_rescale: whether values are multiplied.
        rescale_factor: by which number.
        do_normalize: whether mean and deviation are taken out.
        image_mean: of each channel, or of all.
        image_std: of each channel, or of all.
        do_pad: whether black is put below and at the right.
        pad_size: until there are this ``height`` and ``width``.
    """

    kind: str
    do_resize: bool | None
    size: _Size | None
    resample: int | None
    do_center_crop: bool | None
    crop_size: _Size | None
    do_rescale: bool | None
    rescale_factor: float | None
    do_normalize: bool | None
    image_mean: _Colours | None
    image_std: _Colours | None
    do_pad: bool | None
    pad_size: _Size | None

    @classmethod
    def of(cls, given: Any, where: str = "the image processor") -> "ImageProcessor":
        """From settings as files have them, or from a processor of transformers.

        A SigLIP 2 processor, which would make as many patches as an image's shape asks for, becomes that of the
        largest square that its patches fill.

        Args:
            given: settings with ``image_processor_type``, or an object whose ``to_dict`` gives them.
            where: what they were read from, for messages.

        Raises:
            BackboneError: a class that is not supported, or a setting of the wrong type or out of range.
        """
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping) and callable(getattr(given, "to_dict", None)):
            given = given.to_dict()
        if not isinstance(given, Mapping):
            raise BackboneError(f"{where} holds no settings by name: save the model's image processor there")
        return _read(cls, given, where)

    def squared(self, side: int) -> "ImageProcessor":
        """The same colours and filter, with images squeezed to squares."""
        square = {"height": side, "width": side}
        none: dict[str, Any] = dict.fromkeys(("do_center_crop", "crop_size", "do_pad", "pad_size"))
        return replace(self, kind="SiglipImageProcessor", do_resize=True, size=square, **none)

    def settings(self) -> dict[str, Any]:
        """All that decides on pixels, as transformers' own processor of this class has it in its ``to_dict``."""
        named = {key: value for key, value in vars(self).items() if key not in ("kind", "pad_size")}
        return named | {"class": self.kind}

    def plain(self, image: Image.Image) -> UInt8[Tensor, "3 H W"]:
        """Resize, crop and pad.

        Raises:
            BackboneError: an image came out larger than it is to be padded to.
        """
        image = _rgb(image)
        if self.do_resize:
            size, resample = self._resized(*image.size), Image.Resampling(cast(int, self.resample))
            if self.do_center_crop and size[0] * size[1] > _WHOLE:
                image = _resize_middle(image, size, _width_height(self.crop_size), resample)
            else:
                image = image.resize(size, resample)
        if self.do_center_crop:
            image = centre_crop(image, *_width_height(self.crop_size))
        if self.do_pad and self.pad_size:
            width, height = _width_height(self.pad_size)
            if image.width > width or image.height > height:
                raise BackboneError(
                    f"the image processor pads to {width}x{height} what is {image.width}x{image.height} already: "
                    "correct pad_size in preprocessor_config.json"
                )
            image = image.crop((0, 0, width, height))
        return pixels(image)

    def normalise(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Rescale, and take out mean and deviation."""
        factor = cast(float, self.rescale_factor)
        if not self.do_normalize:
            return images * factor if self.do_rescale else images.float()
        mean, std = (
            torch.tensor(value, dtype=torch.float32, device=images.device).reshape(-1, 1, 1)
            for value in (self.image_mean, self.image_std)
        )
        if self.do_rescale:  # into the two of them: transformers' last bits are those of this order
            mean, std = mean * (1.0 / factor), std * (1.0 / factor)
        return (images - mean).div_(std)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        size = cast(_Size, self.size)
        if "height" in size:
            return size["width"], size["height"]
        if "max_height" in size:
            scale = min(size["max_height"] / height, size["max_width"] / width)
            return max(1, int(width * scale)), max(1, int(height * scale))
        short, long = sorted((width, height))
        new_short: float = size["shortest_edge"]
        most = size.get("longest_edge")
        if most is not None and long / short * new_short > most:
            new_long = int(most * short / long * long / short)
            new_short = max(1, round(most * short / long))
            if short == new_short:
                return width, height
        else:
            new_long = int(new_short * long / short)
        made = (int(new_short), max(1, new_long))
        return made if width <= height else made[::-1]


def pixels(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """The values of an RGB image."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def centre_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of an image, with black around it where the image is smaller."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _rgb(image: Image.Image) -> Image.Image:
    """With what is transparent laid over white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image.convert("RGB")


def _resize_middle(
    image: Image.Image, size: tuple[int, int], crop: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """The middle of an image that is resized, and never made as a whole; but for rounding the same."""
    cut, boxes, made = [], [], []
    for side, whole, wanted in zip(image.size, size, crop, strict=True):
        kept, scale = min(wanted, whole), side / whole
        first = (whole - kept) // 2
        start, end = first * scale, (first + kept) * scale
        margin = ceil(3 * max(scale, 1)) + 1  # as far as the widest filter looks
        low, high = max(0, floor(start) - margin), min(side, ceil(end) + margin)
        cut.append((low, high))
        boxes.append((start - low, min(end - low, high - low)))
        made.append(kept)
    (left, right), (top, bottom) = cut
    box = (boxes[0][0], boxes[1][0], boxes[0][1], boxes[1][1])
    return image.crop((left, top, right, bottom)).resize((made[0], made[1]), resample, box=box)


def _width_height(size: _Size | None) -> tuple[int, int]:
    assert size is not None  # `of` has seen to it
    return size["width"], size["height"]


def _read(made: type[ImageProcessor], said: Mapping[str, Any], where: str) -> ImageProcessor:
    kind = said.get("image_processor_type") or said.get("feature_extractor_type")
    name = kind.replace("FeatureExtractor", "ImageProcessor") if isinstance(kind, str) else ""
    name = name.removesuffix("Fast").removesuffix("Pil")
    if name not in KINDS:
        what = "does not say its image_processor_type" if kind is None else f"is of class {_short(kind)}"
        raise BackboneError(f"{where} {what}, supported are {', '.join(KINDS)}: save one of these there")
    said = {**KINDS[name], **said}  # a null is kept: it takes away what the class has
    values: dict[str, Any] = {key: _flag(said.get(key), key, where) for key in _FLAGS}
    to_square = bool(_flag(said["default_to_square"], "default_to_square", where))
    values["size"] = _size(said.get("size"), "size", where, to_square)
    for key in ("crop_size", "pad_size"):
        values[key] = _size(said.get(key), key, where, to_square=True)
    values["resample"] = _integer(said.get("resample"), "resample", where, 0, 5)
    values["rescale_factor"] = _number(said.get("rescale_factor"), "rescale_factor", where, 1e-6)
    values["image_mean"] = _colours(said.get("image_mean"), "image_mean", where, -1e6)
    values["image_std"] = _colours(said.get("image_std"), "image_std", where, 1e-6)
    processor = made(name, **values)
    if name == "Siglip2ImageProcessor":
        patch = _integer(said["patch_size"], "patch_size", where, 1, 1 << 8)
        count = _integer(said["max_num_patches"], "max_num_patches", where, 1, 1 << 16)
        if patch is None or count is None:
            raise _wrong(None, "patch_size and max_num_patches", where, "two numbers")
        processor = processor.squared(patch * isqrt(count))
    _check_whole(processor, where)
    return processor


def _check_whole(processor: ImageProcessor, where: str) -> None:
    """That each step has what it needs."""
    needed = {
        "do_resize": ("size", "resample"), "do_center_crop": ("crop_size",), "do_rescale": ("rescale_factor",),
        "do_normalize": ("image_mean", "image_std"),
    }  # fmt: skip
    for step, keys in needed.items():
        for key in keys:
            if getattr(processor, step) and getattr(processor, key) is None:
                raise BackboneError(f"{where} has {step} and no {key}: add it, or set {step} to false")
    if processor.do_resize and set(cast(_Size, processor.size)) not in _SIZES:
        raise _wrong(dict(cast(_Size, processor.size)), "size", where, "a shortest_edge, or height and width")
    for step, key in (("do_center_crop", "crop_size"), ("do_pad", "pad_size")):
        size = getattr(processor, key)
        if getattr(processor, step) and size is not None and set(size) != _SQUARE:
            raise _wrong(dict(size), key, where, "height and width")


def _wrong(value: Any, key: str, where: str, wanted: str) -> BackboneError:
    return BackboneError(f"{where} has {_short(value)} for {key}, which must be {wanted}: correct it there")


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in a list
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."


def _flag(value: Any, key: str, where: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise _wrong(value, key, where, "true or false")
    return value


def _integer(value: Any, key: str, where: str, least: int, most: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(value, key, where, f"a whole number from {least} to {most}")
    return int(value)  # of an enumeration too


def _number(value: Any, key: str, where: str, least: float) -> float | None:
    """A number as it stands, whole ones as such: these are hashed."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= 1e6:  # NaN is not
        raise _wrong(value, key, where, f"a number{' above 0' if least > 0 else ''}")
    return value


def _colours(value: Any, key: str, where: str, least: float) -> _Colours | None:
    if not isinstance(value, list | tuple):
        return _number(value, key, where, least)
    if len(value) != 3:
        raise _wrong(value, key, where, "one number, or three")
    if None in value:
        raise _wrong(value, key, where, "three numbers")
    return tuple(cast(float, _number(one, key, where, least)) for one in value)


def _size(value: Any, key: str, where: str, to_square: bool) -> _Size | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = {"height": value, "width": value} if to_square else {"shortest_edge": value}
    elif isinstance(value, list | tuple) and len(value) == 2:
        value = dict(zip(("height", "width"), value, strict=True))
    if not isinstance(value, Mapping) or not value or None in value.values():
        raise _wrong(value, key, where, "a number, a shortest_edge, or height and width")
    return {str(name): cast(int, _integer(one, f"{key}.{name}", where, 1, _LARGEST)) for name, one in value.items()}
