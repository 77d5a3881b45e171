"""Fitting: from labelled images to a fitted model, with what its adapter says and keeps of how it was made."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from atha.adapter.record import BackboneRecord, Record, SupportSetRecord
from atha.adapter.support import SupportRecord, choose_pictures, picture
from atha.classes import Classes
from atha.data import LabelledSource, read_labelled
from atha.data.deciding import decide_reading
from atha.data.images import ImageReader
from atha.data.reading import Reading
from atha.data.support import decode_support
from atha.data.views import Views, crop_source
from atha.errors import DataError
from atha.methods.base import Fitted, Support
from atha.methods.images import ViewedImages
from atha.models.frozen import Frozen
from atha.recipe import Recipe


@dataclass(frozen=True)
class Learned:
    """What came of a support set.

    Attributes:
        classes: of the support set.
        fitted: the model.
        support: what is kept of the images.
        record: of the run.
    """

    classes: Classes
    fitted: Fitted
    support: SupportRecord
    record: Record


def learn(
    source: LabelledSource,
    given: Sequence[str] | Mapping[str, str] | None,
    recipe: Recipe,
    views: Views,
    frozen: Frozen,
    device: str,
    seed: int,
    bands: Sequence[int] | Reading | None,
    max_pixels: int,
    fit: Callable[[Support], Fitted],
) -> Learned:
    """Fit a model to labelled images.

    Args:
        source: class folders, a table, (image, label) pairs, or `LabelledImages`.
        given: names of classes, or label -> text.
        recipe: says how images are viewed, and the template of the class texts.
        views: makes the plain views.
        frozen: the frozen backbone.
        device: that it is on, as it was asked for.
        seed: for all that is random.
        bands: that are red, green and blue, from 1; or how images are read, where that is decided already.
        max_pixels: of an image.
        fit: makes the model.

    Raises:
        DataError: images or classes cannot be used, or one image is in two classes; before ``fit``.

    Warns:
        AthaWarning: for each image that cannot be read.
    """
    started = time.perf_counter()
    data = read_labelled(source)
    classes = Classes.of_support(data.labels, given)
    index = classes.index(data.labels, data.source)
    samples = [sample.image for sample in data.samples]
    reading = bands if isinstance(bands, Reading) else decide_reading(samples, bands, max_pixels)
    crops = recipe.views.support == "random-crop"
    found = decode_support(
        data,
        ImageReader(reading, max_pixels),
        lambda image: (views.plain(image), crop_source(image, views.size) if crops else None, picture(image)),
    )
    targets = [index[raw] for raw in found.labels]
    counts = {label: targets.count(position) for position, label in enumerate(classes.labels)}
    if empty := [label for label, count in counts.items() if count == 0]:
        reason = f" ({found.left_out[0]})" if found.left_out else ""
        raise DataError(
            f"class '{empty[0]}' has no support image that can be read{reason}: add one, or leave the class out"
        )
    plain = torch.stack([view for view, _, _ in found.made])
    images = ViewedImages(plain, views, frozen, [crop for _, crop, _ in found.made if crop is not None])
    labels = np.array(targets)
    fitted = fit(Support(images, labels, classes.texts, recipe.prompt.template, seed))
    shown = choose_pictures(targets)
    kept = SupportRecord(images.features, labels, tuple(found.made[place][2] for place in shown), shown)
    lora = fitted.tuners.lora
    record = Record.of(
        fitted.definition(),
        BackboneRecord.of(frozen.backbone),
        SupportSetRecord(counts=counts, sha256=found.hashes, left_out=[*data.ignored, *found.left_out]),
        reading,
        {
            "seed": seed,
            "steps": len(fitted.losses),
            "precision": frozen.precision,
            "device": device,
            "seconds": time.perf_counter() - started,
            "trained": fitted.trained,
            "lora_layers": 0 if lora is None else len(lora.names),
            "losses": fitted.losses,
            "versions": {name: version(name) for name in ("atha", "torch")},
        },
    )
    return Learned(classes, fitted, kept, record)
