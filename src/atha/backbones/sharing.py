"""Copies of modules that share their weights: another structure around the same numbers."""

from copy import deepcopy
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def share_weights(module: Module, instead: dict[nn.Module, nn.Module] | None = None) -> Module:
    """A copy of a module whose parameters and buffers are those of the module itself.

    Args:
        module: not changed.
        instead: what stands in the copy for some of its parts.
    """
    memo: dict[int, Any] = {id(value): value for value in (*module.parameters(), *module.buffers())}
    memo |= {id(part): other for part, other in (instead or {}).items()}
    return deepcopy(module, memo)
