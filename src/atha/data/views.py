"""From images to the tensors that a backbone takes: plain views, and the support set's augmented ones.

Geometry (resize, crop) ends in 8-bit tensors; scaling and normalisation to the backbone's own mean and std come
after augmentation. Both are done by the backbone's image processor, so that its settings hold. Augmentation is
torchvision's, and imports it: that takes seconds, which prediction should not have to wait for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from atha.data.processor import ImageProcessor, pixels
from atha.errors import BackboneError
from atha.recipe import SupportKind, Transform

# Random crops are cut from the photo itself; beyond this many model inputs in the short side nothing is gained.
_CROP_SOURCE = 4


class Views:
    """Makes tensors of images for one backbone.

    Args:
        processor: the backbone's image processor.
        size: height and width that the backbone takes.
        transform: ``processor``, or ``cdfsl``: squeezed to a square of 1.15 times the size, then centre crop; with
            five views squeezed to the size itself.
        squeeze_to_size: the second form of ``cdfsl``.

    Raises:
        BackboneError: the processor makes another size than the backbone takes.
    """

    def __init__(
        self, processor: ImageProcessor, size: int, transform: Transform = "processor", squeeze_to_size: bool = False
    ) -> None:
        self._processor, self.size = processor, size
        self._transform, self._squeeze_to_size = transform, squeeze_to_size
        for shape in ((size + 1, 3 * size), (2 * size, size)):
            made = tuple(self.plain(Image.new("RGB", shape)).shape)
            if made != (3, size, size):
                raise BackboneError(
                    f"the image processor makes {made[2]}x{made[1]} images and the model takes {size}x{size}: "
                    "correct size and crop_size in preprocessor_config.json"
                )

    def plain(self, image: Image.Image) -> UInt8[Tensor, "3 H W"]:
        """The one view that queries get."""
        if self._transform == "cdfsl":
            squeezed = image.resize((self._side, self._side), Image.Resampling.BILINEAR)
            first = self.crop_start  # torchvision's crop, which the published code has
            assert first is not None
            return pixels(squeezed.crop((first, first, first + self.size, first + self.size)))
        return self._processor.plain(image)

    def processor(self) -> ImageProcessor:
        """All that is done to an image, as the settings of one processor; see `crop_start` for where it cuts."""
        if self._transform != "cdfsl":
            return self._processor
        side, size = self._side, self.size
        return replace(
            self._processor.squared(side),
            kind="CLIPImageProcessor",
            resample=int(Image.Resampling.BILINEAR),
            do_center_crop=True,
            crop_size={"height": size, "width": size},
        )

    @property
    def crop_start(self) -> int | None:
        """Pixels left and above of what `processor` cuts out; None: as many as on the other side, or one fewer."""
        return round((self._side - self.size) / 2) if self._transform == "cdfsl" else None

    @property
    def _side(self) -> int:
        return self.size if self._squeeze_to_size else int(1.15 * self.size)

    def visible_box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Which part of a photo its plain view shows.

        Measured on ramps of brightness that go through `plain`, so that it holds for every processor's geometry.

        Args:
            size: width and height of the photo in pixels.

        Returns:
            Left, top, right and bottom edge in pixels of the photo; outside of it where the processor pads.
        """
        spans = [(0.0, float(side)) for side in size]
        for _ in range(2):  # the second time on a ramp that is no wider than need be
            ramp = np.zeros((size[1], size[0], 3), dtype=np.uint8)
            ramp[..., 0], ramp[..., 1] = _ramp(size[0], spans[0])[None, :], _ramp(size[1], spans[1])[:, None]
            seen = self.plain(Image.fromarray(ramp)).numpy().astype(float)
            found = [_span(seen[axis], axis, size[axis], spans[axis]) for axis in (0, 1)]
            spans = [
                (max(0.0, low - (high - low) / 2), min(float(side), high + (high - low) / 2))
                for (low, high), side in zip(found, size, strict=True)
            ]
        (left, right), (top, bottom) = found
        return left, top, right, bottom

    def normalise(self, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Scale and normalise as the backbone was trained."""
        return self._processor.normalise(images)


@dataclass(frozen=True)
class SupportSet:
    """The labelled images to learn from, ready for the training loop.

    Attributes:
        plain: the plain view of each image.
        labels: class indices.
        views: makes tensors of images.
        kind: which views training sees.
        seed: of augmentation.
        images: the images themselves, at a size that bounds memory (`crop_source`); for ``random-crop`` alone.
    """

    plain: UInt8[Tensor, "n 3 H W"]
    labels: Int[Tensor, "n"]
    views: Views
    kind: SupportKind
    seed: int
    images: Sequence[Image.Image] = ()

    @property
    def shot(self) -> int:
        """Images of the largest class."""
        return int(self.labels.bincount().max())

    def batches(self, batch_size: int | None) -> Iterator[tuple[Float[Tensor, "b 3 H W"], Int[Tensor, "b"]]]:
        """Endless training batches: the whole set each time, or shuffled passes in batches of ``batch_size`` images.

        Augmentation comes from a generator of its own, seeded; five views are drawn once, random crops every time.
        """
        generator = torch.Generator().manual_seed(self.seed)
        count = len(self.labels)
        fixed = self._fixed_views() if self.kind != "random-crop" else None
        order = torch.arange(count)
        whole = batch_size is None or batch_size >= count
        while True:
            if not whole:
                order = torch.randperm(count, generator=generator)
            for indices in [order] if whole else order.split(batch_size or count):
                labels = self.labels[indices]
                if fixed is not None:
                    yield fixed[indices].flatten(0, 1), labels.repeat_interleave(fixed.shape[1])
                    continue
                crops = [self._random_crop(self.images[index], generator) for index in indices.tolist()]
                yield self.views.normalise(torch.stack(crops)), labels

    def _fixed_views(self) -> Float[Tensor, "n V 3 H W"]:
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.manual_seed(self.seed)
            all_views = [five_views(image) if self.kind == "five-view" else [image] for image in self.plain]
        stacked = torch.stack([torch.stack(views) for views in all_views])
        normalised: Tensor = self.views.normalise(stacked.flatten(0, 1)).unflatten(0, stacked.shape[:2])
        return normalised

    def _random_crop(self, image: Image.Image, generator: torch.Generator) -> UInt8[Tensor, "3 H W"]:
        from torchvision.transforms import InterpolationMode, v2

        size = self.views.size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            crop = v2.Compose(
                [
                    v2.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=InterpolationMode.BICUBIC),
                    v2.RandomHorizontalFlip(0.5),
                    v2.PILToTensor(),
                ]
            )
            return crop(image)  # type: ignore[no-any-return]


# Ramps of brightness run from here to there: black and white may be padding.
_DARK, _BRIGHT = 32, 224


def _ramp(side: int, span: tuple[float, float]) -> UInt8[np.ndarray, "side"]:
    """Brightness of the pixels of one side, rising over ``span``."""
    share = ((np.arange(side) + 0.5 - span[0]) / (span[1] - span[0])).clip(0, 1)
    return (_DARK + (_BRIGHT - _DARK) * share).round().astype(np.uint8)


def _span(seen: Float[np.ndarray, "H W"], axis: int, side: int, ramp: tuple[float, float]) -> tuple[float, float]:
    """The part of a side that a view shows, from a ramp as the view has it."""
    values = seen if axis == 0 else seen.T
    brightness = _ramp(side, ramp)
    # The ends of a ramp are flat, and padding is no part of it.
    inside = (values > int(brightness.min()) + 1) & (values < int(brightness.max()) - 1)
    columns = np.flatnonzero(inside.mean(axis=0) > 0.25)
    if len(columns) < 2:
        return 0.0, float(side)  # a photo of one pixel has no ramp, and all of it is seen
    counts = inside[:, columns].sum(axis=0)
    means = (values[:, columns] * inside[:, columns]).sum(axis=0) / counts
    places = ramp[0] + (means - _DARK) / (_BRIGHT - _DARK) * (ramp[1] - ramp[0])
    slope, start = np.polyfit(columns + 0.5, places, 1)
    errors = abs(start + slope * (columns + 0.5) - places)
    good = errors <= 3 * np.median(errors) + 1e-9  # where padding begins, brightness is that of neither
    if good.sum() > 1:
        slope, start = np.polyfit(columns[good] + 0.5, places[good], 1)
    return float(start), float(start + slope * values.shape[1])


def crop_source(image: Image.Image, size: int) -> Image.Image:
    """An image to cut random crops of ``size`` from: itself, or smaller where it is needlessly large."""
    scale = _CROP_SOURCE * size / min(image.size)
    return image.reduce(int(1 / scale)) if scale <= 0.5 else image


def five_views(image: UInt8[Tensor, "3 H W"]) -> list[UInt8[Tensor, "3 H W"]]:
    """Plain; rotation, jitter and flip; rotation; jitter; flip. Random parts come from torch's global generator."""
    from torchvision.transforms import v2

    rotation = v2.RandomRotation(45)
    jitter = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
    flip = v2.RandomHorizontalFlip(0.5)
    return [image, flip(jitter(rotation(image))), rotation(image), jitter(image), flip(image)]
