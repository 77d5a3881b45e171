"""How an image is prepared for an exported classifier, by numpy and Pillow: predict.py holds this function's text."""

from typing import Any

import numpy as np
from PIL import Image


def prepared(image: Image.Image, how: "dict[str, Any]") -> Any:
    """The float32 values (3, height, width) of an 8-bit RGB image, as preprocessor_config.json says.

    Args:
        image: upright.
        how: what preprocessor_config.json holds.
    """
    if how["do_resize"]:
        size, (width, height), (short, long) = how["size"], image.size, sorted(image.size)
        edge = size.get("shortest_edge", 0)
        other = max(1, int(edge * long / short))
        upright = (edge, other) if width <= height else (other, edge)
        image = image.resize(upright if edge else (size["width"], size["height"]), how["resample"])
    if how["do_center_crop"]:
        width, height = how["crop_size"]["width"], how["crop_size"]["height"]
        left, top = how.get("crop_start") or ((image.width - width) // 2, (image.height - height) // 2)
        image = image.crop((left, top, left + width, top + height))
    if how.get("do_pad"):
        image = image.crop((0, 0, how["pad_size"]["width"], how["pad_size"]["height"]))
    values = np.array(image, np.float32).transpose(2, 0, 1)
    scale = how["rescale_factor"] if how["do_rescale"] else 1
    if not how["do_normalize"]:
        return values * np.float32(scale)
    mean, std = (np.array(how[key], np.float32).reshape(-1, 1, 1) for key in ("image_mean", "image_std"))
    return (values - mean * np.float32(1 / scale)) / (std * np.float32(1 / scale))
