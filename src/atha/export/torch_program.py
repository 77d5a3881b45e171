"""torch.export: the traced program itself, that `torch.export.load` runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from atha.export.base import Format, Script
from atha.quiet import quiet

FILE = "model.pt2"


@dataclass(frozen=True)
class Exporter(Format):
    """See the module."""

    name = "torch"
    needs = ("numpy", "Pillow", "torch")

    @property
    def script(self) -> Script:
        """See `Format`."""
        return Script(
            "import torch\n",
            f'PROGRAM = torch.export.load(HERE / "{FILE}").module()',
            "with torch.inference_mode():\n    return PROGRAM(torch.from_numpy(pixels[None])).numpy()[0]",
        )

    def write(self, folder: Path) -> Mapping[str, Any]:
        """See `Format`."""
        program = self.subject.program
        _forget_places(program)
        with quiet():
            torch.export.save(program, folder / FILE)
        return {}

    def load(self, folder: Path) -> Callable[[Float[Tensor, "n 3 H W"]], Float[np.ndarray, "n N"]]:
        """See `Format`."""
        with quiet():
            program = torch.export.load(folder / FILE).module()

        def run(pixels: Float[Tensor, "n 3 H W"]) -> Float[np.ndarray, "n N"]:
            with torch.inference_mode():
                return np.asarray(program(pixels).numpy())

        return run


def _forget_places(program: torch.export.ExportedProgram) -> None:
    """Take out which files of this machine each operation was traced in."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
