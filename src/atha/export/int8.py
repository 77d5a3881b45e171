"""Weights and activations of a graph's large products in int8: a quarter of the size, and other numbers.

Weights are rounded to 7 bits and a scale of their own for each output, so that sums of products do not overflow on
processors that add them in 16 bits (AVX2 without VNNI). Activations are scaled by the range that calibration images
show, which is the same for all images then; without such images each call scales them by its own values, so that images
are to go through one at a time. What is small or decides alone stays in float32: patches, softmax, norms, products of
tokens with tokens, alignment, and all that stands behind the blocks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from atha.errors import ExportError
from atha.export.base import Subject
from atha.quiet import quiet

_PRODUCTS = ("MatMul", "Gemm")
_TIMED = 5


def quantize(
    program: Any, file: Path, large: bool, subject: Subject, views: Sequence[UInt8[Tensor, "3 H W"]]
) -> dict[str, Any]:
    """Write a graph in int8.

    Args:
        program: of torch's exporter.
        file: to make.
        large: whether weights go to a file of their own.
        subject: whose graph it is.
        views: plain views to calibrate on; none: scales are made anew for every image.

    Returns:
        Bytes of weights and milliseconds an image, before and after, for proof.json.

    Raises:
        ExportError: there are no products that could be in int8.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    with TemporaryDirectory(prefix="atha-int8-") as place, quiet():
        whole = Path(place) / "float32.onnx"
        program.save(whole, external_data=large)
        nodes = _large_products(program.model, subject)
        common: dict[str, Any] = {
            "model_input": str(whole), "model_output": str(file), "per_channel": True, "reduce_range": True,
            "weight_type": QuantType.QInt8, "nodes_to_quantize": nodes, "op_types_to_quantize": list(_PRODUCTS),
            "use_external_data_format": large, "extra_options": {"MatMulConstBOnly": True},
        }  # fmt: skip
        if views:
            quantize_static(calibration_data_reader=_Reader(subject, views), **common)
        else:
            quantize_dynamic(**common)
        seconds = _timed(whole, file, subject)
        before, after = (sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*")) for path in (whole, file))
    return {
        "int8": {
            "calibration_images": len(views),
            "products": len(nodes),
            "bytes": {"float32": before, "int8": after},
            "ms_an_image": {name: round(1000 * value, 2) for name, value in seconds.items()},
        }
    }


class _Reader:
    """Calibration images as onnxruntime asks for them, one at a time."""

    def __init__(self, subject: Subject, views: Sequence[UInt8[Tensor, "3 H W"]]) -> None:
        self._given = self._batches(subject, views)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._given, None)

    @staticmethod
    def _batches(subject: Subject, views: Sequence[UInt8[Tensor, "3 H W"]]) -> Iterator[dict[str, Any]]:
        for view in views:
            yield {"pixels": subject.views.normalise(view[None]).numpy()}


def _large_products(model: Any, subject: Subject) -> list[str]:
    """Names of the nodes that multiply tokens with the weights of a block."""
    blocks = subject.frozen.backbone.vision_blocks
    shapes = {tuple(sorted(value.shape)) for block in blocks for value in block.parameters() if value.ndim == 2}
    found = []
    for number, node in enumerate(model.graph.all_nodes()):
        node.name = node.name or f"node_{number}"
        weight = node.inputs[1].const_value if node.op_type in _PRODUCTS and node.inputs[1] is not None else None
        if weight is not None and tuple(sorted(weight.shape)) in shapes:
            found.append(node.name)
    if not found:
        raise ExportError(f"{subject.frozen.backbone.name} has no blocks whose products could be in int8: leave it out")
    return found


def _timed(whole: Path, file: Path, subject: Subject) -> dict[str, float]:
    """Seconds an image, one at a time, in turn."""
    from atha.export.onnx_graph import session

    ways = {"float32": session(whole), "int8": session(file)}
    pixels = subject.views.normalise(torch.zeros(1, 3, subject.size, subject.size, dtype=torch.uint8))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_TIMED):
        for name, run in ways.items():
            started = perf_counter()
            run(pixels)
            taken[name].append(perf_counter() - started)
    return {name: median(values) for name, values in taken.items()}
