"""Products with frozen weights: held once in the precision of the products, and packed where the library can."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

_ATEN = torch.ops.aten
# Columns of products that are made in parts, at most, see `_part`.
_WIDEST = 768


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
        self._bias = bias.to(dtype)
        weight = weight.to(dtype)
        self._forward: Tensor | _Packed = weight
        self._backward: Tensor | _Packed | None = weight.T
        if pack and packs(weight.device, dtype):
            self._forward = _Packed(weight, self._bias, divide=trains)
            self._backward = _Packed(weight.T, divide=True) if trains else None

    def __call__(self, values: Tensor, activation: Activation | None = None) -> Tensor:
        """(T, K) to (T, N), and what an activation makes of it; without a backward pass for that."""
        if isinstance(self._forward, _Packed):
            return self._forward(values, ("none", "") if activation is None else activation.fused)
        product = nn.functional.linear(values, self._forward, self._bias)
        return product if activation is None else activation.function(product)

    def backward(self, gradient: Tensor) -> Tensor:
        """(T, N) to (T, K)."""
        assert self._backward is not None, "made without backward passes"
        if isinstance(self._backward, _Packed):
            return self._backward(gradient)
        return nn.functional.linear(gradient, self._backward)


def packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether weights of this kind are packed: for bfloat16 on a CPU for which oneDNN has such products."""
    return (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


class _Packed:
    """A product by oneDNN, of weights that are laid out for it once.

    Args:
        weight: W, (N, K).
        bias: b, (N,).
        divide: into parts of the columns that are made, see `_part`; pays where several cores share a product.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, divide: bool = False) -> None:
        columns, terms = weight.shape
        size = _part(columns, terms) if divide else columns
        parts = weight.split(size)
        biases = [None] * len(parts) if bias is None else bias.split(size)
        reorder = torch.ops.mkldnn._reorder_linear_weight
        self._parts = [(reorder(part.contiguous()), own) for part, own in zip(parts, biases, strict=True)]

    def __call__(self, values: Tensor, behind: tuple[str, str] = ("none", "")) -> Tensor:
        """(T, K) to (T, N), and what the function makes of it that oneDNN has under this name."""
        product = torch.ops.mkldnn._linear_pointwise
        made = [product(values, weight, bias, behind[0], [], behind[1]) for weight, bias in self._parts]
        return made[0] if len(made) == 1 else torch.cat(made, dim=1)


def _part(columns: int, terms: int) -> int:
    """How many columns of a product are made at once, by the shape of its weights.

    With AMX, oneDNN leaves some products of a few hundred rows to one core of several: 985 rows, two cores, 3072 to 768
    numbers 4.6 ms, in parts of 256 columns 2.5; 768 to 768 1.0 ms, in parts of 384 0.7. Of the shapes that towers have,
    those with at most as many columns as terms are concerned, and only up to this width.
    """
    if columns > _WIDEST or not torch.cpu.get_capabilities().get("amx_bf16"):
        return columns
    return {1: 384, 4: 256}.get(terms // columns, columns)
