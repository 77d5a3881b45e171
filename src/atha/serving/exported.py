"""What answers: a graph that ``atha export --format onnx`` wrote, run by onnxruntime, without torch.

Shapes: B images of a batch, N classes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError

from atha.data.images import ImageProblem, ImageReader
from atha.data.samples import Opened
from atha.defaults import MAX_PIXELS
from atha.errors import ExportError
from atha.export import GRAPH, INPUT, LABELS, PREPROCESSOR, PROOF, is_export
from atha.export.preparing import prepared
from atha.schema import Part
from atha.texts import TextError, parse_json, read_json, read_text

_BATCH = 8
Size = Annotated[int, Field(ge=1, le=4096)]
Three = Annotated[list[float], Field(min_length=3, max_length=3)]


class _How(Part):
    """preprocessor_config.json, as an export has it."""

    do_resize: bool
    do_center_crop: bool
    do_rescale: bool
    do_normalize: bool
    size: dict[str, Size] = Field({})
    crop_size: dict[str, Size] = Field({})
    pad_size: dict[str, Size] = Field({})
    crop_start: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    resample: Annotated[int, Field(ge=0, le=5)] = 3
    rescale_factor: Annotated[float, Field(gt=0)] = 1
    image_mean: Three = Field([0, 0, 0])
    image_std: Three = Field([1, 1, 1])
    bands: list[int] | None = None


class ExportedModel:
    """A graph as a service asks it; see `atha.serving.models.Model`.

    Args:
        folder: made by ``atha export --format onnx``, or the graph in it.
        threads: that compute; None: as many as there are cores.
        max_pixels: larger images are refused.

    Raises:
        ExportError: it is no such folder, or a file in it cannot be used, or onnxruntime is not installed.
    """

    def __init__(self, folder: Path, threads: int | None = None, max_pixels: int = MAX_PIXELS) -> None:
        folder = folder.parent if folder.name == GRAPH else folder
        if not is_export(folder) or not (folder / GRAPH).is_file():
            raise ExportError(
                f"{folder} is no export with a {GRAPH}: make one with atha export ADAPTER --format onnx --out {folder}"
            )
        self.labels = _read(folder / LABELS, _labels)
        how = _read(folder / PREPROCESSOR, lambda file: _How(**read_json(file)))
        if how.bands is not None:
            raise ExportError(f"{folder} is for images with chosen bands, which no export reads: serve the adapter")
        self._how = how.model_dump()
        self._reader = ImageReader(max_pixels=max_pixels, quiet=True)
        self._session = _session(folder / GRAPH, threads)
        self._check(folder)
        proof = _read(folder / PROOF, read_json)
        # Without calibration images, what is rounded to 8 bits is scaled by all images of a batch together.
        alone = proof.get("quantized") is not None and not proof.get("int8", {}).get("calibration_images")
        self.batch = 1 if alone else _BATCH
        self.about: dict[str, Any] = {
            "classes": {label: label for label in self.labels},
            "recipe": str(proof.get("recipe", "")),
            "backbone": {key: str(value) for key, value in dict(proof.get("backbone", {})).items() if key == "family"},
            "members": [],
            "evaluation": None,
        }

    def prepare_thread(self) -> None:
        """See `atha.serving.models.Model`."""

    def view(self, path: Path) -> Any:
        """See `atha.serving.models.Model`."""
        self._reader.look(path, _refuse_deep)
        return self._reader.make(path, lambda image: prepared(image, self._how))

    def probabilities(self, views: Sequence[Any]) -> Float[np.ndarray, "B N"]:
        """See `atha.serving.models.Model`."""
        return np.asarray(self._session.run(None, {INPUT: np.stack(views)})[0])

    def votes(self, views: Sequence[Any]) -> Mapping[str, Float[np.ndarray, "B N"]]:
        """None: a graph gives the sum of its members alone."""
        return {}

    def explain(self, path: Path, name: str, label: str | None) -> Callable[[], bytes] | None:
        """None: a graph gives no tokens."""
        return None

    def _check(self, folder: Path) -> None:
        """See that a picture can be prepared and classified into these labels."""
        expected = tuple(self._session.get_inputs()[0].shape[1:])
        try:
            view = prepared(Image.new("RGB", (97, 61)), self._how)
            if view.shape != expected:
                raise ValueError(f"images of {view.shape} for a graph that takes {expected}")
            row = self.probabilities([view])
            if row.shape != (1, len(self.labels)) or not np.isfinite(row).all():
                raise ValueError(f"{row.shape[-1]} probabilities for {len(self.labels)} labels, or some not finite")
        except Exception as error:  # of whatever is in files that somebody else wrote
            said = " ".join(str(error).split())[:200]
            raise ExportError(f"{folder} does not fit together ({said}): export it again") from error


def of_export(folder: str | Path, threads: int | None = None, max_pixels: int = MAX_PIXELS) -> ExportedModel:
    """An exported graph as a service asks it.

    Args:
        folder: made by ``atha export --format onnx``.
        threads: that compute; None: as many as there are cores.
        max_pixels: larger images are refused.

    Raises:
        ExportError: it is none, or cannot be used.
    """
    return ExportedModel(Path(folder), threads, max_pixels)


def _read(file: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(file)
    except (TextError, ValidationError, TypeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ExportError(f"{file} cannot be used ({first}): export it again") from error


def _labels(file: Path) -> tuple[str, ...]:
    names = Annotated[list[str], Field(min_length=1)]
    return tuple(TypeAdapter(names).validate_python(parse_json(read_text(file)), strict=True))


def _refuse_deep(found: Opened) -> None:
    if found.deep or found.unmarked:
        raise ImageProblem(found.name, "has more than 8 bits or many bands, which an export cannot read")


def _session(file: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ExportError("an exported graph needs the library 'onnxruntime': pip install 'atha[export]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no one base class for what is wrong with a file
        raise ExportError(f"{file} cannot be loaded ({' '.join(str(error).split())[:200]}): export it again") from error
