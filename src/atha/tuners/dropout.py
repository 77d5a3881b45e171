"""Dropout whose mask costs one random byte per element.

On a CPU, `torch.nn.Dropout` draws a Bernoulli variable per element, which takes longer than LoRA's own matrix
products: three masks per block and step. The distribution is the same, the stream of random numbers is not.
"""

from typing import Any

import torch
from torch import Tensor, nn

# Integers by the size of a number.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def threshold(p: float) -> int:
    """The bytes below it are dropped: ``p`` in units of 1/256."""
    return min(round(256 * p), 255)


def random_bytes(shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Uniform random bytes on the CPU, from torch's global generator if no other is given."""
    count = torch.Size(shape).numel()
    # Eight bytes per draw, over the whole range of int64.
    words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    return words.view(torch.uint8)[:count].view(shape)


def keep_mask(noise: Tensor, limit: int, dtype: torch.dtype) -> Tensor:
    """1 where a byte is kept, else 0, as floating-point numbers: `torch.where` on a mask of bools takes ten times as
    long as this and a product."""
    return torch.ge(noise, limit, out=torch.empty(noise.shape, dtype=dtype))


def keep_bytes(noise: Tensor, limit: int) -> Tensor:
    """1 where a byte is kept, else 0, in the place of the bytes."""
    return noise.ge_(limit)


def mask_for(values: Tensor) -> Tensor:
    """Room for a mask of ``values``, to copy `keep_bytes` to: integers of the size of the numbers."""
    return torch.empty(values.shape, dtype=_BITS[values.dtype.itemsize], device=values.device)


def masked(values: Tensor, mask: Tensor, out: Tensor) -> Tensor:
    """``values`` where the mask is 1, 0 where it is 0, in ``out``.

    A product of their bits as integers, which takes a quarter of the time that one of bfloat16 numbers does.
    """
    torch.mul(values.view(mask.dtype), mask, out=out.view(mask.dtype))
    return out


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
        return _Dropped.apply(values, threshold(self.p))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Shown by ``print(module)``."""
        return f"p={self.p}"


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, limit: int) -> Tensor:
        ctx.noise, ctx.limit = random_bytes(tuple(values.shape)), limit
        return _Dropped.apply_mask(ctx, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Dropped.apply_mask(ctx, gradients[0]), None

    @staticmethod
    def apply_mask(ctx: Any, values: Tensor) -> Tensor:
        return keep_mask(ctx.noise, ctx.limit, values.dtype).mul_(values).mul_(256 / (256 - ctx.limit))
