"""The frozen backbone as methods share it: features and decoded images, computed once and kept on disk by content."""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from atha.alignment import Watcher
from atha.backbones import Backbone
from atha.data.aspects import ASPECTS
from atha.data.cache import Cache
from atha.data.images import ImageProblem, ImageReader, content_hash
from atha.data.views import Views
from atha.devices import on_one_core
from atha.errors import BackboneError
from atha.models.encoder import Encoder
from atha.models.forms import prediction_encoder
from atha.models.inference import in_groups
from atha.recipe import Transform

# Of how images are decoded and made into views: a change of either makes what is on disk worthless.
_VERSION = "3"
# Of the forward pass: another order of its sums gives other last bits.
_FORWARD = "4"
Made = TypeVar("Made")

# Plain views kept in memory, in bytes, and features kept there, in number.
_MEMORY = 256 << 20
_FEATURES = 200_000


@dataclass(frozen=True)
class ImageFile:
    """An image by where it is and by what it holds.

    Attributes:
        path: of the file.
        digest: SHA-256 of its bytes.
        reader: reads it, by the rule of its data set.
    """

    path: Path
    digest: str
    reader: ImageReader = field(default_factory=ImageReader, compare=False)


class Frozen:
    """A backbone that nobody changes, and what it makes of views and texts.

    Args:
        backbone: on its device.
        precision: of forward passes.
    """

    def __init__(self, backbone: Backbone, precision: str) -> None:
        self.backbone, self.precision = backbone, precision
        self._texts: dict[tuple[str, str], np.ndarray] = {}

    @property
    def logit_scale(self) -> float:
        """The learned scale of zero-shot logits."""
        return self.backbone.logit_scale

    @cached_property
    def encoder(self) -> Encoder:
        """The frozen view that features are made with."""
        return prediction_encoder(self.backbone, self.precision)

    def features(
        self, plain: UInt8[Tensor, "n 3 H W"], views: Views, watch: Watcher | None = None
    ) -> Float[np.ndarray, "n E"]:
        """Features of plain views, not normalised, float32; those of an image depend on no other.

        Args:
            plain: the views.
            views: what made them.
            watch: see `Encoder.images`; for one image, whose tokens are the first of those that it is told of.
        """
        if not len(plain):
            return np.empty((0, self.backbone.joint_width), dtype=np.float32)
        encoder = self.encoder

        def work(pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B E"]:
            return encoder.images(pixels, watch=watch).float()

        return self._finite(in_groups(plain, views, encoder, work, watch is not None).numpy())

    @torch.no_grad()
    def text_features(self, names: Sequence[str], template: str) -> Float[np.ndarray, "N E"]:
        """Features of class texts, not normalised, float32; each text goes through the model alone.

        Raises:
            BackboneError: a text is too long.
        """
        for name in names:
            if (name, template) not in self._texts:
                found = self.encoder.texts(self.backbone.prompts([name], template))
                self._texts[name, template] = self._finite(found.features[0].cpu().numpy())
        return np.stack([self._texts[name, template] for name in names])

    def _finite(self, features: np.ndarray) -> np.ndarray:
        """Features, as long as they are numbers: no probe and no cache is made of others."""
        if not np.isfinite(features).all():
            raise BackboneError(
                f"{self.backbone.name} makes features that are not finite in {self.precision}: get its weights again, "
                "or compute in float32"
            )
        return features

    def __getstate__(self) -> dict[str, Any]:
        return without(self, "encoder")


def without(made: object, name: str) -> dict[str, Any]:
    """The state of an object for a copy, less what it can make again."""
    return {key: value for key, value in vars(made).items() if key != name}


class FrozenModel(Frozen):
    """`Frozen` for image files, with what it made of them on disk.

    Args:
        backbone: on its device.
        transform: geometry of the plain view.
        precision: of forward passes.
        cache: on disk.
        content: the backbone's `content_hash`, where it is known already.
    """

    def __init__(
        self, backbone: Backbone, transform: Transform, precision: str, cache: Cache, content: str | None = None
    ) -> None:
        super().__init__(backbone, precision)
        self._cache = cache
        self._views = {
            squeeze: Views(backbone.image_processor, backbone.image_size, transform, squeeze)
            for squeeze in ((False, True) if transform == "cdfsl" else (False,))
        }
        self.identity = [_VERSION, transform, str(backbone.image_size), processor_settings(backbone)]
        self._content = content or backbone.content_hash()
        self._plain: OrderedDict[bytes, Tensor] = OrderedDict()
        self._plain_bytes = 0
        self._coming: dict[bytes, Future[Tensor]] = {}
        self._features: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def views(self, squeeze_to_size: bool = False) -> Views:
        """Makes tensors of images; see `atha.data.views.Views`."""
        return self._views.get(squeeze_to_size, self._views[False])

    def plain(self, files: Sequence[ImageFile], squeeze_to_size: bool = False) -> UInt8[Tensor, "n 3 H W"]:
        """The plain view of each image.

        Raises:
            ImageProblem: an image cannot be read.
        """
        views = self.views(squeeze_to_size)
        keys = self._plain_keys(files, squeeze_to_size)
        missing = self._recall_plain(keys)
        made = {}
        for key, file in zip(keys, files, strict=True):
            if key in missing and key not in made:
                coming = self._coming.pop(key, None)
                made[key] = _decode(file, views.plain) if coming is None else coming.result()
                self._keep_plain(key, made[key])
        self._cache.put({key: image.numpy().tobytes() for key, image in made.items()})
        images = torch.stack([self._plain[key] for key in keys])
        while self._plain_bytes > _MEMORY:
            self._plain_bytes -= self._plain.popitem(last=False)[1].numel()
        return images

    def prepare(self, files: Sequence[ImageFile]) -> None:
        """Make the plain views of images that `plain` will be asked for next, in a thread of their own.

        What is wrong with an image is said when it is asked for. All else stays with the caller's thread.
        """
        views, keys = self.views(), self._plain_keys(files)
        missing = self._recall_plain(keys) - self._coming.keys()
        for key, file in {key: file for key, file in zip(keys, files, strict=True) if key in missing}.items():
            self._coming[key] = self._preparing.submit(lambda file: _decode(file, views.plain), file)

    def close(self) -> None:
        """End the thread that prepares images."""
        if "_preparing" in vars(self):
            self._preparing.shutdown(cancel_futures=True)

    def decoded(self, files: Sequence[ImageFile]) -> list[Image.Image]:
        """The images themselves.

        Raises:
            ImageProblem: an image cannot be read.
        """
        return [_decode(file, lambda image: image) for file in files]

    def image_features(self, files: Sequence[ImageFile], aspect: str = "plain") -> Float[np.ndarray, "n E"]:
        """Frozen features of the plain views, not normalised, float32.

        Args:
            files: of the images.
            aspect: of `atha.data.aspects.ASPECTS`.

        Raises:
            ImageProblem: an image cannot be read.
        """
        where = [self._content, self.precision, self.backbone.device.type, _FORWARD]
        where += [aspect] if aspect != "plain" else []
        keys = [Cache.key("features", file.digest, *where, *self.identity, *_read_as(file)) for file in files]
        missing = dict.fromkeys(key for key in keys if key not in self._features)
        width = 4 * self.backbone.joint_width
        for key, value in self._cache.get(missing).items():
            if len(value) == width:
                self._features[key] = np.frombuffer(value, np.float32)
                del missing[key]
        todo = {key: file for key, file in zip(keys, files, strict=True) if key in missing}
        made = {}
        if todo:
            plain = ASPECTS[aspect](self.plain(list(todo.values())))
            made = dict(zip(todo, self.features(plain, self.views()), strict=True))
        self._features |= made
        self._cache.put({key: value.tobytes() for key, value in made.items()})
        found = np.stack([self._features[key] for key in keys])
        while len(self._features) > _FEATURES:
            self._features.popitem(last=False)
        return found

    @cached_property
    def _preparing(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, initializer=on_one_core)

    def _plain_keys(self, files: Sequence[ImageFile], squeeze_to_size: bool = False) -> list[bytes]:
        return [
            Cache.key("plain", file.digest, str(squeeze_to_size), *self.identity, *_read_as(file)) for file in files
        ]

    def _recall_plain(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the plain views that are not in memory, after those on disk have been brought there."""
        missing = {key for key in keys if key not in self._plain}
        shape = (3, self.views().size, self.views().size)
        for key, value in self._cache.get(missing).items():
            if len(value) == np.prod(shape):
                self._keep_plain(key, torch.frombuffer(bytearray(value), dtype=torch.uint8).view(shape))
                missing.remove(key)
        return missing

    def _keep_plain(self, key: bytes, image: Tensor) -> None:
        self._plain[key] = image
        self._plain_bytes += image.numel()


def _decode(file: ImageFile, use: Callable[[Image.Image], Made]) -> Made:
    if content_hash(file.path) != file.digest:
        raise ImageProblem(str(file.path), "is no longer the image that it was when the run was started")
    return file.reader.make(file.path, use)


def _read_as(file: ImageFile) -> list[str]:
    """What a cache's key says of how an image is read: nothing of 8-bit grey and colour."""
    reading = file.reader.reading
    return [] if reading.plain else [reading.model_dump_json()]


def processor_settings(backbone: Backbone) -> str:
    """The image processor's settings as one text: another size, mean or resampling gives other results."""
    return json.dumps(backbone.image_processor.settings(), sort_keys=True)
