"""Dropout whose mask costs one random byte per element.

On a CPU, `torch.nn.Dropout` draws a Bernoulli variable per element, which takes longer than LoRA's own matrix
products: three masks per block and step. The distribution is the same, the stream of random numbers is not.
"""

from typing import Any

import torch
from torch import Tensor, nn


class ByteDropout(nn.Module):
    """Drop-in for `torch.nn.Dropout`; on other devices than the CPU it is that.

    Args:
        p: share of elements to zero, 0 to 1, rounded to a multiple of 1/256 on the CPU.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Zero a random share of the elements and scale the others, in training mode; else the identity."""
        if not self.training or self.p == 0:
            return values
        if values.device.type != "cpu":
            return nn.functional.dropout(values, self.p)
        return _Dropped.apply(values, min(round(256 * self.p), 255))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        return f"p={self.p}"


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, threshold: int) -> Tensor:
        # Eight bytes per draw, over the whole range of int64.
        words = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        ctx.keep = words.view(torch.uint8)[: values.numel()].view(values.shape) >= threshold
        ctx.scale = 256 / (256 - threshold)
        return torch.where(ctx.keep, values, 0.0).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.where(ctx.keep, gradients[0], 0.0).mul_(ctx.scale), None
