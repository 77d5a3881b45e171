"""Folders of images that benchmarks and docs/results.md name beside those that are downloaded.

    uv run python benchmarks/image_sets.py TINY OUT

Of the validation images of Tiny-ImageNet, class folders in TINY: ``tiny_plain``, ``tiny_inverted`` (colours) and
``tiny_edges`` (edge maps); and ``digits``, those of scikit-learn at 64 pixels, dark on white.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_digits

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TINY: dict[str, Callable[[Image.Image], Image.Image]] = {
    "tiny_plain": lambda image: image,
    "tiny_inverted": ImageOps.invert,
    "tiny_edges": lambda image: image.filter(ImageFilter.FIND_EDGES),
}


def digits() -> Iterator[tuple[Image.Image, int]]:
    """Images and what they show."""
    found = load_digits()
    for pixels, label in zip((255 - found.images * 15.9375).astype(np.uint8), found.target.tolist(), strict=True):
        yield Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).convert("RGB"), label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiny", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    for number, (image, label) in enumerate(digits()):
        save(image, options.out / "digits" / DIGITS[label] / f"{number:04}.png")
    for file in sorted(options.tiny.glob("*/*")):
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        for name, change in TINY.items():
            save(change(image), options.out / name / file.parent.name / f"{file.stem}.png")


def save(image: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


if __name__ == "__main__":
    main()
