"""Whether a product says what the classifier says: on small pictures of the support images, and on random ones."""

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from atha.data.problems import trouble_is
from atha.errors import ExportError
from atha.export import PREDICT
from atha.export.base import Format, Subject

#: The largest difference of a probability, in float32, that is no difference.
BOUND = 1e-3
_RANDOM, _SEED = 16, 0
# Pictures that predict.py is tried on, of the support images; it is tried on all random ones.
_FILES = 4
# Another process that has no torch: what is exported must run without.
_RUN = (
    "import json, sys\n"
    "sys.modules.update(dict.fromkeys(json.loads(sys.argv[2])))\n"
    "sys.path.insert(0, sys.argv[1])\n"
    "import predict\n"
    "print(json.dumps([list(map(float, predict.probabilities(file))) for file in sys.argv[3:]]))\n"
)
_PATIENCE = 1800
_FORMATS = ("JPEG", "PNG")


@dataclass(frozen=True)
class Difference:
    """Between a product and the classifier, on n images.

    Attributes:
        right: the classifier's probabilities.
        found: the product's.
    """

    right: Float[np.ndarray, "n N"]
    found: Float[np.ndarray, "n N"]

    @property
    def largest(self) -> float:
        """Of all probabilities; infinite, where one is no number."""
        away = float(np.abs(self.found - self.right).max(initial=0.0))
        return away if np.isfinite(away) else float("inf")

    @property
    def agreement(self) -> float:
        """Share of the images whose label is the same."""
        return float((self.found.argmax(1) == self.right.argmax(1)).mean()) if len(self.right) else 1.0

    def to_dict(self) -> dict[str, float]:
        """For proof.json."""
        return {
            "largest_difference": self.largest,
            "mean_difference": float(np.abs(self.found - self.right).mean()) if len(self.right) else 0.0,
            "labels_agree": self.agreement,
        }


@dataclass(frozen=True)
class Pictures:
    """Images to compare on.

    Attributes:
        files: as files have them: pictures of the support set, then random ones.
        labels: class indices of the former.
        views: plain views of all.
    """

    files: Sequence[bytes]
    labels: Sequence[int]
    views: UInt8[Tensor, "n 3 H W"]

    @classmethod
    def of(cls, subject: Subject) -> "Pictures":
        """Those of a classifier.

        Raises:
            ImageProblem: what an adapter keeps of its support set is no picture.
        """
        support = subject.support
        kept = () if support is None else support.pictures
        labels = () if support is None else support.labels[list(support.shown)].tolist()
        files = [*kept, *random_files()]
        views = []
        for file in files:
            with trouble_is("a picture of the support set"), Image.open(io.BytesIO(file), formats=_FORMATS) as image:
                views.append(subject.views.plain(image.convert("RGB")))
        return cls(files, labels, torch.stack(views))

    @property
    def known(self) -> int:
        """How many of them are of the support set."""
        return len(self.labels)

    def right(self, found: Difference) -> dict[str, Any]:
        """Shares of the support set's pictures that the classifier and the product are right about; see `Difference`.

        Pictures that were learned from: only the difference of the two says something.
        """
        truth, known = np.array(self.labels), self.known
        shares = {
            name: float((rows[:known].argmax(1) == truth).mean())
            for name, rows in (("classifier", found.right), ("export", found.found))
            if known
        }
        return {"support_pictures_right": shares} if known else {}

    def to_dict(self) -> dict[str, Any]:
        """Their numbers, for proof.json."""
        return {"support_pictures": self.known, "random_images": len(self.files) - self.known}


def random_files(count: int = _RANDOM, seed: int = _SEED) -> list[bytes]:
    """PNG files of several shapes: noise over blurred noise, the same ones always."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        height, width = rng.integers(48, 400, 2).tolist()
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))
        pixels = np.asarray(coarse, float) + rng.normal(0, 25, (height, width, 3))
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
        found.append(file.getvalue())
    return found


def compare(made: Format, folder: Path, pictures: Pictures) -> Difference:
    """Run what was written, as its users run it, beside the classifier."""
    subject, run = made.subject, made.load(folder)
    found, right, done = [], [], 0
    for batch in pictures.views.split(8):
        found.append(run(subject.views.normalise(batch)))
        right.append(subject.probabilities(list(batch)))
        done += len(batch)
        made.told("Comparing", done, len(pictures.files))
    return Difference(np.concatenate(right), np.concatenate(found).astype(np.float64))


def compare_program(made: Format, folder: Path, pictures: Pictures) -> Difference | None:
    """Run predict.py on files, in a process of its own, beside the classifier reading them; None: it refuses them.

    Raises:
        ExportError: it fails.
    """
    subject = made.subject
    if subject.reader.reading.bands is not None:
        return None
    chosen = [*pictures.files[: min(_FILES, pictures.known)], *pictures.files[pictures.known :]]
    with TemporaryDirectory(prefix="atha-proof-") as place:
        files = [Path(place) / str(number) for number in range(len(chosen))]
        for file, content in zip(files, chosen, strict=True):
            file.write_bytes(content)
        right = subject.probabilities([subject.reader.make(file, subject.views.plain) for file in files])
        blocked = json.dumps(["atha", *(() if "torch" in made.needs else ("torch", "transformers"))])
        command = [sys.executable, "-I", "-B", "-c", _RUN, str(folder), blocked, *map(str, files)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)  # noqa: S603 - this Python
        except subprocess.TimeoutExpired:
            raise ExportError(
                f"{PREDICT} of the export is not done after {_PATIENCE} s: try when less else runs here"
            ) from None
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise ExportError(f"{PREDICT} of the export fails ({said[-1][:200]}): report it")
    return Difference(right, np.array(json.loads(ended.stdout.splitlines()[-1])))


def judge(made: Format, compared: dict[str, Any]) -> None:
    """See to it that a product is equal to the classifier, or that its difference is accepted.

    Raises:
        ExportError: it is not.
    """
    worst = max(compared["largest_difference"], compared.get("predict_py", {}).get("largest_difference", 0.0))
    agree = f"{100 * compared['labels_agree']:.1f}% of the labels agree"
    if made.options.quantize is not None or (made.left_out and made.options.accept_difference):
        return
    if made.left_out:
        images = f"{compared['support_pictures']} support pictures and {compared['random_images']} random images"
        raise ExportError(
            f"in the format {made.name}, {'; '.join(made.left_out)}: on {images} a probability differs by up to "
            f"{worst:.2g} and {agree}, so that nothing was written: choose the format onnx or torch, or pass "
            "--accept-difference"
        )
    if not worst <= BOUND:
        raise ExportError(
            f"what was made in the format {made.name} differs from the classifier by {worst:.2g} in a probability, "
            f"more than {BOUND:g}, and {agree}, so that nothing was written: choose another format, or use it "
            "through atha"
        )
