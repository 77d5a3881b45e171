"""Fits of a full recipe to what is labelled so far, in a process of their own that others' work comes before.

What is asked and answered is JSON, with probabilities as float32 behind it, see `fit_and_ask`. The process ends by
itself when its input is closed, as it is when nobody is left who asked.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from atha import machine
from atha.data.processes import answer, asked, end_with_input
from atha.errors import AthaError, reason


@dataclass(frozen=True)
class Round:
    """What is to be fitted, and what the fits are asked about.

    Attributes:
        model: of `atha.backbones.load_backbone`.
        recipe: of `atha.recipe.Recipe.load`.
        device: to fit on.
        threads: of a processor to fit with; None: half of them.
        max_pixels: larger images are refused.
        seed: of the fits.
        classes: labels.
        texts: what the model reads for a label; others are read as they are.
        files: labelled images.
        labels: of each file, its class index.
        held: of each fit, the places in ``files`` that it does not learn from.
        asked: other images that all fits are asked about.
    """

    model: str
    recipe: str
    device: str
    threads: int | None
    max_pixels: int
    seed: int
    classes: Sequence[str]
    texts: Mapping[str, str]
    files: Sequence[str]
    labels: Sequence[int]
    held: Sequence[Sequence[int]]
    asked: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """In plain types."""
        return asdict(self)


def fit_and_ask(given: Round) -> Float[np.ndarray, "m N"]:
    """Fit, and ask.

    Returns:
        Probabilities of the images that are held out, fit by fit, and of those that are asked about; not a number of
        images that cannot be read. A class without a label in a fit has 0.

    Raises:
        AthaError: it cannot be fitted.
    """
    from atha.backbones import load_backbone
    from atha.classifier import Classifier

    backbone = load_backbone(given.model)
    held, others = [], []
    for out in given.held:
        apart = set(out)
        kept = [place for place in range(len(given.files)) if place not in apart]
        labels = [given.classes[given.labels[place]] for place in kept]
        texts = {label: given.texts.get(label, label) for label in dict.fromkeys(labels)}
        classifier = Classifier(backbone, texts, given.recipe, given.device, given.max_pixels)
        classifier.fit([given.files[place] for place in kept], labels, seed=given.seed)
        held.append(_probabilities(classifier, [given.files[place] for place in out], given.classes))
        others.append(_probabilities(classifier, given.asked, given.classes))
    return np.concatenate([*held, np.mean(others, axis=0)])


def _probabilities(classifier: Any, files: Sequence[str], classes: Sequence[str]) -> Float[np.ndarray, "m N"]:
    """In the order of all classes."""
    found = np.full((len(files), len(classes)), np.nan, dtype=np.float32)
    columns = [list(classes).index(label) for label in classifier.classes.labels]
    for row, said in zip(found, classifier.stream(files), strict=True):
        if not said.problem:
            row[:] = 0
            row[columns] = said.probabilities
    return found


def main() -> None:
    """The other process."""
    given = Round(**asked())
    end_with_input()
    if hasattr(os, "nice"):
        os.nice(19)
    warnings.simplefilter("ignore")  # of images, the page has said it
    try:
        from atha.devices import use_threads

        use_threads(given.threads or max(1, machine.cores() // 2))
        found = fit_and_ask(given)
    except AthaError as error:
        answer({"problem": str(error)})
    except Exception as error:  # whoever labels goes on without it
        answer({"problem": f"a fault of ours ({reason(error)})"})
    else:
        answer({"images": len(found)}, found.astype("<f4").tobytes())
    sys.stdout.flush()
    os._exit(0)  # the thread waits for an input that does not end
