"""How many copies ``atha data check`` finds, and how often it is wrong.

Run with ``uv run python benchmarks/duplicates.py FOLDER ...``, each a folder of class folders. Of each set up to 100
images are copied in each way; the copies are added to the whole set, and the percentage that is found with its
original, and nothing else, is printed. Then the set alone is searched, as it is and as JPEG of quality 75: groups
found there are false alarms, if the set has no copies of its own.
"""

import io
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from atha.data.duplicates import find_duplicates
from atha.data.images import open_image
from atha.data.opening import open_pool
from atha.data.pool import Pool

Turn = Image.Transpose


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image) + np.random.default_rng(0).normal(0, 8, (image.height, image.width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def shifted(image: Image.Image, share: float) -> Image.Image:
    x, y = round(image.width * share), round(image.height * share)
    padded = np.pad(np.asarray(image), ((y, 0), (x, 0), (0, 0)), mode="edge")
    return Image.fromarray(padded[: image.height, : image.width])


def cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y)).resize(image.size)


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "flipped": lambda image: image.transpose(Turn.FLIP_LEFT_RIGHT),
    "quarter turn": lambda image: image.transpose(Turn.ROTATE_90),
    "transverse, JPEG 75": lambda image: jpeg(image.transpose(Turn.TRANSVERSE), 75),
    "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "JPEG 50": lambda image: jpeg(image, 50),
    "JPEG 20": lambda image: jpeg(image, 20),
    "brightness x 1.2": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "brightness x 0.7": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "contrast x 1.3": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "saturation x 0.5": lambda image: ImageEnhance.Color(image).enhance(0.5),
    "noise 8": noisy,
    "shifted by 3%": lambda image: shifted(image, 0.03),
    "cropped by 5%": lambda image: cropped(image, 0.05),
    "turned by 3 degrees": lambda image: image.rotate(3, Image.Resampling.BILINEAR),
}


def recall(pool: Pool, chosen: list[int], way: Callable[[Image.Image], Image.Image], folder: Path) -> float:
    """The percentage of copies that are found with their originals and nothing else."""
    copies = [folder / f"{index}.png" for index in chosen]
    for index, path in zip(chosen, copies, strict=True):
        way(open_image(pool.files[index])).save(path)
    names = {f"copy of {pool.ids[index]}": pool.ids[index] for index in chosen}
    both = replace(
        pool,
        ids=(*pool.ids, *names),
        files=(*pool.files, *copies),
        labels=(*pool.labels, *(pool.labels[index] for index in chosen)),
    )
    found = find_duplicates(both)
    hits = {group.ids for group in (*found.near, *found.exact) if len(group.ids) == 2 and group.ids[1] in names}
    return 100 * sum(names[copy] == original for original, copy in hits) / len(chosen)


def main(folders: list[str]) -> None:
    for name in folders:
        pool = open_pool(name)
        chosen = np.random.default_rng(0).permutation(len(pool.ids))[:100].tolist()
        begin = time.perf_counter()
        found = find_duplicates(pool)
        seconds = time.perf_counter() - begin
        print(f"{pool.name}: {len(pool.ids)} images, {found.flat} flat, {seconds:.1f} s")
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{index}.jpg" for index in range(len(pool.ids))]
            for file, target in zip(pool.files, files, strict=True):
                open_image(file).save(target, quality=75)
            again = find_duplicates(replace(pool, files=tuple(files)))
            print(f"  groups in the set alone: {len(found.near)}, as JPEG 75: {len(again.near)}")
            for way, make in WAYS.items():
                print(f"  {way:20} {recall(pool, chosen, make, Path(folder)):5.1f}%")


if __name__ == "__main__":
    main(sys.argv[1:])
