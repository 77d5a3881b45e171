"""Tensors that somebody else wrote: from bytes, finite, and of the shapes that they must have."""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)
# Bytes of the description of tensors, in a file's beginning; one of them takes about a hundred.
_HEADER = 1 << 22


class TensorError(ValueError):
    """Why tensors cannot be used, as part of a sentence.

    Attributes:
        name: of the tensor; empty, if it is not about one.
    """

    def __init__(self, problem: str, name: str = "") -> None:
        super().__init__(f"'{name}' {problem}" if name else problem)
        self.name = name


def parse_tensors(content: bytes, may_lack: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors of a safetensors file; all their numbers are finite.

    Args:
        content: of the file.
        may_lack: names of those in which minus infinity may stand for what cannot be.

    Raises:
        TensorError: it is no such file, or holds a number that is none or infinite.
    """
    from safetensors.torch import load

    if int.from_bytes(content[:8], "little") > _HEADER:
        raise TensorError("it is no safetensors file, or one of too many tensors")
    try:
        found = load(content)
    except MemoryError:
        raise
    except Exception as error:  # of the library and of torch, which raise what they like
        raise TensorError(f"it is no safetensors file, {' '.join(str(error).split())[:200]}") from None
    for name, value in found.items():
        if value.is_floating_point() and value.numel():
            low, high = (float(one) for one in value.aminmax())
            if math.isnan(low) or high == math.inf or (low == -math.inf and name not in may_lack):
                raise TensorError("holds a number that is none or infinite", name)
    return found


def check_tensors(
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, Sequence[int | str]],
    types: Collection[torch.dtype] = FLOATS,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """See to it that tensors have their shapes and types.

    Args:
        tensors: all that there are; others than those of ``shapes`` are not looked at.
        shapes: by name; a dimension that has a name instead of a size has the same size wherever it is named.
        types: that the numbers may have.
        sizes: of dimensions that are known already.

    Returns:
        Sizes by the dimensions' names.

    Raises:
        TensorError: a tensor is missing, or of another shape or type.
    """
    known = dict(sizes or {})
    for name, shape in shapes.items():
        if name not in tensors:
            raise TensorError("is missing", name)
        found = tensors[name]
        if found.ndim == len(shape):
            for size, dimension in zip(found.shape, shape, strict=True):
                if isinstance(dimension, str):
                    known.setdefault(dimension, size)
        wanted = tuple(known.get(one, one) if isinstance(one, str) else one for one in shape)
        if tuple(found.shape) != wanted:
            raise TensorError(f"has shape {tuple(found.shape)}, not ({', '.join(map(str, wanted))})", name)
        if found.dtype not in types:
            raise TensorError(f"holds numbers of type {str(found.dtype).removeprefix('torch.')}", name)
    return known


def check_no_others(tensors: Collection[str], names: Collection[str]) -> None:
    """See to it that there are no tensors but those of these names.

    Raises:
        TensorError: there is one.
    """
    if extra := sorted(set(tensors) - set(names)):
        raise TensorError("belongs to nothing here", extra[0])
