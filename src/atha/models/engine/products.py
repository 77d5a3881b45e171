"""Products with frozen weights: held once in the precision of the products, and packed where the library can."""

import torch
from torch import Tensor, nn


class FrozenProduct:
    """``x W^T + b`` and, for the backward pass, ``g W``; no gradient for W and b.

    oneDNN lays weights out anew in every call unless they are packed beforehand, which for the few rows of an episode
    takes up to a tenth of the product's time, and more where the processor multiplies faster.

    Args:
        weight: W, (N, K).
        bias: b, (N,).
        dtype: of the products.
        pack: pack them where that can be done, a copy for each direction; else one serves both.
        trains: whether there will be backward passes; without them, a packed copy is saved.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, dtype: torch.dtype, pack: bool = True, trains: bool = True
    ) -> None:
        self.bias = bias.to(dtype)
        self._packed = pack and packs(weight.device, dtype)
        weight = weight.to(dtype)
        self._forward: Tensor = weight
        self._backward: Tensor | None = weight.T
        if self._packed:
            self._forward = _pack(weight)
            self._backward = _pack(weight.T) if trains else None

    def __call__(self, values: Tensor) -> Tensor:
        """(T, K) to (T, N)."""
        if self._packed:
            return _linear(values, self._forward, self.bias)
        return nn.functional.linear(values, self._forward, self.bias)

    def backward(self, gradient: Tensor) -> Tensor:
        """(T, N) to (T, K)."""
        assert self._backward is not None, "made without backward passes"
        return _linear(gradient, self._backward) if self._packed else nn.functional.linear(gradient, self._backward)


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights of this kind are packed: for bfloat16 on a CPU for which oneDNN has such products."""
    return (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())
    return packed


def _linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
    return result
