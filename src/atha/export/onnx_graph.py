"""ONNX: one graph from normalised plain views to probabilities, in float32 or with weights and activations in int8."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from atha.export import GRAPH, INPUT, OUTPUT
from atha.export.base import Format, Script, Subject
from atha.quiet import quiet

#: Bytes of weights beyond which they are in a file of their own: a file of ONNX itself has less than 2 GiB.
LARGEST = (1 << 31) - (1 << 24)
BATCH = "batch"


@dataclass(frozen=True)
class Exporter(Format):
    """See the module."""

    name = "onnx"
    needs = ("numpy", "Pillow", "onnxruntime")

    @property
    def script(self) -> Script:
        """See `Format`."""
        return Script(
            "import onnxruntime\n",
            f'SESSION = onnxruntime.InferenceSession(str(HERE / "{GRAPH}"), providers=["CPUExecutionProvider"])',
            f'return SESSION.run(None, {{"{INPUT}": pixels[None]}})[0][0]',
        )

    def write(self, folder: Path) -> Mapping[str, Any]:
        """See `Format`."""
        made = translate(self.subject)
        large = _weight_bytes(made.model) > LARGEST
        about: dict[str, Any] = {"opset": made.model.opset_imports[""]}
        if self.options.quantize is None:
            made.save(folder / GRAPH, external_data=large)
        else:
            from atha.export.int8 import quantize

            about |= quantize(made, folder / GRAPH, large, self.subject, self.options.calibration)
        return about

    def load(self, folder: Path) -> Callable[[Float[Tensor, "n 3 H W"]], Float[np.ndarray, "n N"]]:
        """See `Format`."""
        return session(folder / GRAPH)


def translate(subject: Subject) -> Any:
    """A classifier's graph as torch's exporter makes it, each weight once, without a word on where it was made."""
    with quiet(), torch.no_grad():
        made = torch.onnx.export(
            subject.program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT], optimize=True
        )
    assert made is not None
    _share(made.model)
    _tidy(made.model)
    return made


def session(file: Path) -> Callable[[Float[Tensor, "n 3 H W"]], Float[np.ndarray, "n N"]]:
    """A graph as onnxruntime runs it."""
    import onnxruntime

    running = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(pixels: Float[Tensor, "n 3 H W"]) -> Float[np.ndarray, "n N"]:
        return np.asarray(running.run(None, {INPUT: pixels.numpy()})[0])

    return run


def _weight_bytes(model: Any) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)


def _share(model: Any) -> None:
    """Keep each weight once: the frozen and the adapted tower have most of theirs in common."""
    from onnx_ir.convenience import replace_all_uses_with

    kept: dict[tuple[Any, ...], Any] = {}
    weights = model.graph.initializers
    for name, value in list(weights.items()):
        if value.const_value is None:
            continue
        content = value.const_value.numpy()
        key = (content.dtype.str, content.shape, sha256(content.tobytes()).digest())
        same = kept.setdefault(key, value)
        if same is not value:
            replace_all_uses_with(value, same)
            del weights[name]


def _tidy(model: Any) -> None:
    """Take out what says where and how it was traced, and give the number of images its name."""
    import onnx_ir

    old = model.graph.inputs[0].shape[0]
    values = [*model.graph.inputs, *(value for node in model.graph.all_nodes() for value in node.outputs)]
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
    for value in values:
        value.metadata_props.clear()
        for place, size in enumerate(value.shape or ()):
            if size == old:
                value.shape[place] = onnx_ir.SymbolicDim(BATCH)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name = "atha"
