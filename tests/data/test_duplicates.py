"""Exact and near duplicates, on generated and on real images."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from atha.data.duplicates import find_duplicates
from atha.data.opening import open_pool

Flip = Image.Transpose


def picture(seed: int, size=(96, 72)) -> Image.Image:
    """A picture with structure at all scales, as photographs have."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells in (2, 4, 8, 16):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
        total += np.asarray(noise.resize(size, Image.Resampling.BICUBIC), dtype=float) / cells
    total -= total.min()
    return Image.fromarray((total / total.max() * 230 + 10).astype(np.uint8))


def save(image: Image.Image, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue()))


COPIES = {
    **{orientation.name: lambda image, o=orientation: image.transpose(o) for orientation in Flip},
    "jpeg": lambda image: compressed(image, 40),
    "half": lambda image: image.resize((48, 36)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.75),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "all": lambda image: compressed(ImageEnhance.Brightness(image.transpose(Flip.TRANSVERSE)).enhance(0.9), 70),
}


@pytest.fixture
def unrelated(tmp_path) -> Path:
    for index in range(30):
        save(picture(index), tmp_path / "data" / ("a" if index % 2 else "b") / f"{index:02}.png")
    return tmp_path / "data"


def test_unrelated_pictures(unrelated):
    found = find_duplicates(open_pool(str(unrelated)))
    assert (found.exact, found.near, found.unreadable, found.flat, len(found.kept)) == ((), (), (), 0, 30)


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_copies(unrelated, copy):
    save(copy(picture(3)), unrelated / "a" / "copy.png")
    found = find_duplicates(open_pool(str(unrelated)))
    assert [group.ids for group in found.near] == [("a/03.png", "a/copy.png")]
    assert not found.near[0].conflicting
    assert len(found.kept) == 30 and "a/copy.png" not in found.kept


def test_exact_copies_and_two_labels(unrelated):
    shutil.copy(unrelated / "a" / "01.png", unrelated / "b" / "zz.png")
    shutil.copy(unrelated / "a" / "03.png", unrelated / "a" / "yy.png")
    save(picture(1).transpose(Flip.ROTATE_90), unrelated / "b" / "turned.png")
    found = find_duplicates(open_pool(str(unrelated)))
    assert [(group.ids, group.conflicting) for group in found.exact] == [
        (("a/01.png", "b/zz.png"), True),
        (("a/03.png", "a/yy.png"), False),
    ]
    assert [group.ids for group in found.near] == [("a/01.png", "b/turned.png", "b/zz.png")]
    assert found.near[0].labels == ("a", "b")
    only_exact = find_duplicates(open_pool(str(unrelated)), near=False)
    assert (only_exact.exact, only_exact.near) == (found.exact, ())


def test_flat_images_do_not_collapse(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(20):
        pixels = np.clip(rng.normal(60, 2, (64, 64, 3)), 0, 255).astype(np.uint8)
        save(Image.fromarray(pixels), tmp_path / "sea" / f"{index}.png")
        save(Image.new("RGB", (64, 64), (0, 0, index)), tmp_path / "dark" / f"{index}.png")
    found = find_duplicates(open_pool(str(tmp_path)))
    assert (found.exact, found.near, found.flat, len(found.kept)) == ((), (), 40, 40)


def test_unreadable_images_are_named(unrelated):
    (unrelated / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (unrelated / "a" / "empty.png").write_bytes(b"")
    with (unrelated / "a" / "endless.png").open("wb") as file:
        file.truncate(2**38)  # is not read to its end, which would take minutes
    calls = []
    found = find_duplicates(open_pool(str(unrelated)), progress=lambda *call: calls.append(call))
    assert [name for name, _ in found.unreadable] == ["a/broken.png", "a/empty.png", "a/endless.png"]
    assert found.unreadable[1][1] == "the file is empty (0 bytes)"
    assert len(found.kept) == 30
    assert ("reading images", 33, 33) in calls and ("comparing images", 30, 30) in calls


def test_the_verdict_does_not_depend_on_threads(unrelated):
    save(picture(3).transpose(Flip.FLIP_TOP_BOTTOM), unrelated / "a" / "copy.png")
    pool = open_pool(str(unrelated))
    assert find_duplicates(pool, workers=1) == find_duplicates(pool, workers=3)


@pytest.mark.parametrize("name", ["eurosat", "chestx", "corn_leaf_disease"])
def test_real_images(real_images, tmp_path, name):
    root = real_images(name)
    pool = open_pool(f"./{root.name}", root.parent)
    assert find_duplicates(pool).near == (), "no image of these has a copy"
    for index in range(0, 100, 10):
        image = Image.open(pool.files[index]).convert("RGB").transpose(Flip.TRANSVERSE)
        copy = tmp_path / "copies" / pool.labels[index] / pool.files[index].name
        save(image, copy.with_name(f"{copy.stem}_copy.jpg"), quality=75)
        shutil.copy(pool.files[index], copy)
    found = find_duplicates(open_pool(str(tmp_path / "copies")))
    assert len(found.near) + found.flat // 2 == 10
    assert all(len(group.ids) == 2 for group in found.near)


def test_copies_that_their_names_tell(tmp_path):
    # Turned by 30 degrees with new corners: no thumbnail shows that, the name does.
    rng = np.random.default_rng(5)
    names = ["leaf.png", "leaf_new30degFlipLR.png", "leaf_flipTB.png", "leaf 2.png", "leafy.png", "other_180deg.png",
             "other_90deg.png", "alone_aug.png", "leaf_2.png"]  # fmt: skip
    for folder in ("healthy", "rust"):
        (tmp_path / folder).mkdir()
        for name in names if folder == "healthy" else ["leaf_flipTB.png", "x.png"]:
            Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / folder / name)
    found = find_duplicates(open_pool(str(tmp_path)))
    assert [set(group.ids) for group in found.near] == [
        {"healthy/leaf.png", "healthy/leaf_flipTB.png", "healthy/leaf_new30degFlipLR.png"},
        {"healthy/other_180deg.png", "healthy/other_90deg.png"},
    ]
    assert not find_duplicates(open_pool(str(tmp_path)), near=False).near
