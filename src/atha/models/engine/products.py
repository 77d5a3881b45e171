"""Products with frozen weights: held once in the precision of the products, and packed where the library can."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

_ATEN = torch.ops.aten


class Activation(NamedTuple):
    """``function(scale * x) / scale``.

    Attributes:
        function: of the scaled x.
        backward: what its gradient becomes, of (gradient, scaled x, grad_input=...).
        fused: name and algorithm of the function in oneDNN, which computes it in the product before it.
        scale: goes into the weights around it.
    """

    function: Callable[[Tensor], Tensor]
    backward: Callable[..., Tensor]
    fused: tuple[str, str]
    scale: float = 1.0


_TANH_GELU = Activation(
    partial(nn.functional.gelu, approximate="tanh"),
    partial(_ATEN.gelu_backward.grad_input, approximate="tanh"),
    ("gelu", "tanh"),
)
#: By its name in transformers. x sigmoid(1.702 x) is a SiLU of 1.702 x.
ACTIVATIONS = {
    "gelu": Activation(nn.functional.gelu, _ATEN.gelu_backward.grad_input, ("gelu", "none")),
    "gelu_new": _TANH_GELU,
    "gelu_pytorch_tanh": _TANH_GELU,
    "quick_gelu": Activation(nn.functional.silu, _ATEN.silu_backward.grad_input, ("swish", ""), scale=1.702),
}


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

    def __call__(self, values: Tensor, activation: Activation | None = None) -> Tensor:
        """(T, K) to (T, N), and what an activation makes of it; without a backward pass for that."""
        if self._packed:
            return _linear(values, self._forward, self.bias, ("none", "") if activation is None else activation.fused)
        product = nn.functional.linear(values, self._forward, self.bias)
        return product if activation is None else activation.function(product)

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


def _linear(
    values: Tensor, weight: Tensor, bias: Tensor | None = None, behind: tuple[str, str] = ("none", "")
) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(values, weight, bias, behind[0], [], behind[1])
    return result
