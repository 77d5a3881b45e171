"""A classifier as files that other programs run, each proved equal to it before it takes its place.

A format is a file beside this one and a line in `FORMATS`. What is in every folder:

labels.json                the classes, a JSON list in the order of the probabilities
preprocessor_config.json   how an image is resized, cropped and normalised, as transformers' image processors have it
predict.py                 labels images with the files beside it and few libraries
proof.json                 what was exported, how it was compared with the classifier, and how much it differs
README.md                  the same in words

Of ``onnx``: model.onnx, of input ``pixels`` (batch, 3, height, width), float32, and output ``probabilities`` (batch,
classes); model.onnx.data beside it where the weights are too large for one file. Of ``torch``: model.pt2. Of
``transformers``: config.json, model.safetensors and a tokenizer's files.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from atha.data.finding import kind_of
from atha.durable import tidy
from atha.errors import ExportError
from atha.files import check_folder_free


class Known(NamedTuple):
    """A format that is imported when it is used.

    Attributes:
        module: has a class ``Exporter``, a `atha.export.base.Format`.
        needs: libraries of the extra ``export`` that it is made with.
    """

    module: str
    needs: tuple[str, ...] = ()


FORMATS: Mapping[str, Known] = {
    "onnx": Known("atha.export.onnx_graph", ("onnx", "onnxruntime", "onnxscript")),
    "transformers": Known("atha.export.checkpoint"),
    "torch": Known("atha.export.torch_program"),
}
#: Formats that `--quantize` is for, and what it takes.
QUANTIZED, QUANTIZE = ("onnx",), ("int8",)
LABELS, PREPROCESSOR, PREDICT = "labels.json", "preprocessor_config.json", "predict.py"
PROOF, README = "proof.json", "README.md"
#: Of the format ``onnx``: its file, what goes in and what comes out.
GRAPH, INPUT, OUTPUT = "model.onnx", "pixels", "probabilities"


def is_export(path: Path) -> bool:
    """Whether a folder is one that was made here."""
    tidy(path.resolve().parent)
    return kind_of(path / PROOF) == "file"


def check(format: str, out: Path, quantize: str | None, calibrate: object, overwrite: bool) -> None:
    """See to it, before any work, that what is asked for can be made there.

    Args:
        format: one of `FORMATS`.
        out: folder to make.
        quantize: one of `QUANTIZE`, or None.
        calibrate: images, or None.
        overwrite: replace an export that is there.

    Raises:
        ExportError: an argument is none that there is, or goes with another; or a library is missing.
        AdapterError: the folder is in use or cannot be written.
    """
    if format not in FORMATS:
        raise ExportError(f"there is no format '{format}', choose one of {', '.join(FORMATS)}")
    if quantize is not None and quantize not in QUANTIZE:
        raise ExportError(f"weights cannot be quantized to '{quantize}', choose {', '.join(QUANTIZE)}")
    if quantize is not None and format not in QUANTIZED:
        raise ExportError(f"--quantize is for {', '.join(QUANTIZED)} and the format is {format}: leave it out")
    if calibrate is not None and quantize is None:
        raise ExportError("--calibrate is for --quantize int8, which is not given: add it, or leave --calibrate out")
    if missing := [name for name in FORMATS[format].needs if find_spec(name) is None]:
        raise ExportError(f"--format {format} needs {', '.join(missing)}: pip install 'atha[export]'")
    check_folder_free(out, overwrite, "export", is_export)
