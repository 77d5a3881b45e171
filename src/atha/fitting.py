"""Fitting: from labelled images to a fitted model, with what its adapter says and keeps of how it was made."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image

from atha.adapter.record import BackboneRecord, HeldOutRecord, Record, SupportSetRecord
from atha.adapter.support import SupportRecord, choose_pictures, picture
from atha.classes import Classes
from atha.data import LabelledSource, Selection, read_labelled
from atha.data.deciding import decide_reading
from atha.data.images import ImageReader
from atha.data.reading import Reading
from atha.data.support import SupportImages, decode_support
from atha.data.views import Views, crop_source
from atha.doubt import held_out_strangeness, misfits_of
from atha.errors import AthaWarning, DataError
from atha.expectation import MANY, Made, expect
from atha.methods.automatic import refit_blend, views_of
from atha.methods.base import Fitted, Support
from atha.methods.blend import Blend
from atha.methods.images import KnownImages, ViewedImages
from atha.models.frozen import Frozen
from atha.recipe import ADAPTED, Recipe


@dataclass(frozen=True)
class Learned:
    """What came of a support set.

    Attributes:
        classes: of the support set.
        fitted: the model.
        support: what is kept of the images; None where it was not saved.
        record: of the run.
    """

    classes: Classes
    fitted: Fitted
    support: SupportRecord | None
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
    if seed < 0:
        raise DataError(f"the seed is {seed}: give one that is not negative")
    data = read_labelled(source, Selection("fit"))
    classes = Classes.of_support(data, given)
    classes.warn_of_wordless(data.source)
    index = classes.index(data)
    samples = [sample.image for sample in data.samples]
    reading = bands if isinstance(bands, Reading) else decide_reading(samples, bands, max_pixels)
    crops = recipe.views.support == "random-crop"

    def make(image: Image.Image) -> Made:
        return views.plain(image), crop_source(image, views.size) if crops else None, picture(image)

    own_reader = ImageReader(reading, max_pixels)
    expected = np.array([index[sample.label] for sample in data.samples])
    if np.bincount(expected).max() > MANY:
        told = expect(samples, expected, classes.texts, recipe, views, frozen, own_reader, make, seed)
        warnings.warn(told, AthaWarning, stacklevel=3)
    found = decode_support(data, own_reader, make)
    labels = np.array([index[raw] for raw in found.labels])
    counts = _counts(classes, labels, found, index)
    plain = torch.stack([view for view, _, _ in found.made])
    images = ViewedImages(plain, views, frozen, [crop for _, crop, _ in found.made if crop is not None])
    fitted = fit(Support(images, labels, classes.texts, recipe.prompt.template, seed))
    shown = choose_pictures(labels.tolist())
    pictures = tuple(found.made[place][2] for place in shown)
    kept = SupportRecord({"plain": images.features} | images.known, labels, pictures, shown)
    lora = fitted.tuners.lora
    record = Record.of(
        fitted.definition(),
        BackboneRecord.of(frozen.backbone),
        SupportSetRecord(
            counts=counts, sha256=found.hashes, left_out=[*data.ignored, *found.left_out], drawn=data.drawn
        ),
        reading,
        {
            "seed": seed,
            "steps": len(fitted.losses),
            "precision": frozen.precision,
            "device": device,
            "threads": _threads(device),
            "seconds": time.perf_counter() - started,
            "trained": fitted.trained,
            "lora_layers": 0 if lora is None else len(lora.names),
            "losses": fitted.losses,
            "versions": _versions(),
        },
        _held_out(fitted, kept, seed),
    )
    return Learned(classes, fitted, kept, record)


def learn_more(
    source: LabelledSource,
    before: Learned,
    given: Mapping[str, str] | None,
    recipe: Recipe,
    views: Views,
    frozen: Frozen,
    reader: ImageReader,
) -> Learned:
    """Fit a blend anew to its support set and more labelled images, from the features that are kept of the former.

    Args:
        source: as for `learn`; classes may be new.
        before: what is there.
        given: texts of new classes, by label.
        recipe: that it was fitted by.
        views: as for `learn`.
        frozen: as for `learn`.
        reader: reads images as those that are there were read.

    Raises:
        DataError: images or classes cannot be used, an image is there already in another class, or what was fitted or
            kept does not allow it.

    Warns:
        AthaWarning: for each image that is not used, as it cannot be read or is there already.
    """
    started = time.perf_counter()
    blend, kept, record = before.fitted, before.support, before.record
    if recipe.blend is None or not isinstance(blend, Blend):
        raise DataError(
            f"recipe '{recipe.name}' fits no blend, which alone can be fitted to more images without all of the "
            "others: fit again on all of them"
        )
    if kept is None:
        raise DataError(
            "the support set's features were not kept: fit again on all images, without --no-keep-support "
            "(keep_support=False)"
        )
    wanted = views_of(recipe.blend) if ADAPTED not in blend.parts else blend.aspects
    if lacking := [name for name in wanted if name not in kept.aspects]:
        raise DataError(f"no features are kept of the support images' view '{lacking[0]}': fit again on all images")
    data = read_labelled(source, Selection("fit"))
    classes = before.classes.joined(data, given)
    new = classes.labels[len(before.classes.labels) :]
    if new and ADAPTED in blend.parts:
        raise DataError(
            f"class '{new[0]}' is new, and the adapted model was trained on {', '.join(before.classes.labels)}: fit "
            "again on all images, or with --recipe probes, which takes new classes"
        )
    index = classes.index(data)
    found = decode_support(data, reader, lambda image: (views.plain(image), picture(image)))
    there = {digest: int(label) for digest, label in zip(record.support.sha256, kept.labels, strict=True)}
    places, again = _not_there(found, index, there, classes)
    left_out = [*found.left_out, *again]
    labels = np.concatenate([kept.labels, [index[found.labels[place]] for place in places]]).astype(np.int64)
    counts = _counts(classes, labels, found, index)
    if not places:
        raise DataError(f"{data.source} holds no image to add ({left_out[0]}): give others")
    images = ViewedImages(torch.stack([found.made[place][0] for place in places]), views, frozen)
    known = {name: np.concatenate([kept.aspects[name], images.aspect(name).features]) for name in kept.aspects}
    task = Support(KnownImages(known, frozen), labels, classes.texts, recipe.prompt.template, record.run.seed)
    fitted = refit_blend(recipe.blend, blend, task)
    pictures = dict(zip(kept.shown, kept.pictures, strict=True))
    pictures |= {len(kept.labels) + rank: found.made[place][1] for rank, place in enumerate(places)}
    shown = tuple(place for place in choose_pictures(labels.tolist()) if place in pictures)
    support = SupportSetRecord(
        counts=counts,
        sha256=[*record.support.sha256, *(found.hashes[place] for place in places)],
        left_out=[*record.support.left_out, *data.ignored, *left_out],
        drawn=record.support.drawn,
    )
    seconds = record.run.seconds + time.perf_counter() - started
    threads = record.run.threads if ADAPTED in blend.parts else _threads(record.run.device)
    run = record.run.model_dump(exclude={"logit_scale"}) | {
        "threads": threads,
        "seconds": seconds,
        "trained": fitted.trained,
        "versions": _versions(),
    }
    keep = SupportRecord(known, labels, tuple(pictures[place] for place in shown), shown)
    held_out = _held_out(fitted, keep, record.run.seed)
    renewed = Record.of(fitted.definition(), record.backbone, support, record.read_as, run, held_out)
    return Learned(classes, fitted, keep, renewed)


def _held_out(fitted: Fitted, support: SupportRecord, seed: int) -> HeldOutRecord:
    scores = held_out_strangeness(support.features, support.labels, seed)
    return HeldOutRecord(strangeness=scores, misfits=misfits_of(fitted, support.labels))


def _not_there(
    found: SupportImages[Any], index: Mapping[str, int], there: Mapping[str, int], classes: Classes
) -> tuple[list[int], list[str]]:
    """Places of images that are not in the support set, and sentences on those that are.

    Args:
        found: the images.
        index: class index by raw label.
        there: class index by content hash.
        classes: the classes.

    Raises:
        DataError: one is there in another class.
    """
    places, again = [], []
    for place, (name, raw, digest) in enumerate(zip(found.names, found.labels, found.hashes, strict=True)):
        own = there.get(digest)
        if own is None:
            places.append(place)
        elif own == index[raw]:
            again.append(f"{name} is in the support set already")
            warnings.warn(f"not used: {again[-1]}", AthaWarning, stacklevel=5)
        else:
            raise DataError(f"{name} ({raw}) is in the support set already, as {classes.labels[own]}: leave it out")
    return places, again


def _counts(
    classes: Classes, labels: Int[np.ndarray, "n"], found: SupportImages[Any], index: Mapping[str, int]
) -> dict[str, int]:
    """Images of each class.

    Raises:
        DataError: one has none.
    """
    counts = {label: int((labels == place).sum()) for place, label in enumerate(classes.labels)}
    for place, (label, count) in enumerate(counts.items()):
        if count == 0:
            own = [problem for raw, problem in found.unread if index[raw] == place]
            reason = f" ({own[0]})" if own else ""
            raise DataError(
                f"class '{label}' has no support image that can be read{reason}: add one, or leave the class out"
            )
    return counts


def _threads(device: str) -> int | None:
    return torch.get_num_threads() if device == "cpu" else None


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("atha", "torch")}
