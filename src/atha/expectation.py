"""What a fit to many images will take: a little of it is done, and time is what it took, in proportion.

Shapes: n support images, of which k are tried.
"""

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from atha.data.images import ImageInput, ImageProblem, ImageReader
from atha.data.loading import load_ahead
from atha.data.views import Views
from atha.documents.words import duration
from atha.methods.automatic import views_of
from atha.methods.base import Support
from atha.methods.images import ViewedImages
from atha.methods.tuned import planned, train_recipe
from atha.models.frozen import Frozen
from atha.models.training import part_size
from atha.recipe import Recipe

#: Images of a class that a fit is meant for; beyond them it takes long, and a linear probe does as well.
MANY = 20
#: A fit takes up to so many times as long as the parts of it that are tried: it reads, blends and saves besides.
_WITHIN = 1.75
#: Of decoded images: view, what crops are cut from, and picture.
Made = tuple[Tensor, Image.Image | None, bytes]


def expect(
    images: Sequence[ImageInput],
    labels: Int[np.ndarray, "n"],
    texts: tuple[str, ...],
    recipe: Recipe,
    views: Views,
    frozen: Frozen,
    reader: ImageReader,
    make: Callable[[Image.Image], Made],
    seed: int,
) -> str:
    """A sentence on what a fit will take.

    Args:
        images: to learn from.
        labels: their class indices.
        texts: class texts.
        recipe: of the fit.
        views: makes the plain views.
        frozen: the frozen backbone.
        reader: reads the images.
        make: of an image, what is kept of it.
        seed: of the fit.

    Raises:
        BackboneError, RecipeError, TrainingError: as the fit itself would.
    """
    count, largest = len(images), int(np.bincount(labels).max())
    told = f"there are {count:,} support images, {largest:,} of the largest class"
    mend = f"it is meant for 1 to {MANY} a class, and --shot {MANY} draws as many (atha.draw in Python)"
    places = np.unique(np.linspace(0, count - 1, min(count, part_size(frozen.backbone)), dtype=int))

    def load(place: int) -> Made | None:
        try:
            return reader.make(images[place], make)
        except ImageProblem:
            return None

    started = perf_counter()
    made = list(load_ahead(load, places.tolist(), len(places)))
    loading = (perf_counter() - started) / len(places)
    good = [(place, one) for place, one in zip(places, made, strict=True) if one is not None]
    if not good:
        return f"{told}, which will take long: {mend}"
    plain = torch.stack([one[0] for _, one in good])
    frozen.features(plain[:1], views)  # what is made once for all
    started = perf_counter()
    frozen.features(plain, views)
    looking = (perf_counter() - started) / len(good)
    aspects = 1 if recipe.blend is None else len(views_of(recipe.blend))
    seconds = count * (loading + aspects * looking)
    if recipe.trains:
        crops = [crop for _, (_, crop, _) in good if crop is not None]
        some = ViewedImages(plain, views, frozen, crops)
        few = Support(some, labels[[place for place, _ in good]], texts, recipe.prompt.template, seed)
        seconds += (
            _step(recipe, few)
            * sum(steps * size for steps, size in planned(recipe, labels, seed, frozen.backbone))
            / len(good)
        )
    least, most = duration(seconds), duration(_WITHIN * seconds)
    return f"{told}: fitting them will take {least} to {most}, by what {len(good)} of them took; {mend}"


def _step(recipe: Recipe, support: Support) -> float:
    """Seconds of a training step, all images at once; not the first, in which things are made that stay."""
    ends: list[float] = []
    training = recipe.training.model_copy(update={"steps": 3, "steps_per": "fit", "batch_size": None})
    train_recipe(recipe.model_copy(update={"training": training}), support, lambda *_: ends.append(perf_counter()))
    return min(np.diff(ends))
