"""Text towers whose code around the blocks is a library's own: what is before the blocks, and what is behind them.

The tower is run in a copy that shares its weights and has gaps in the place of its blocks. A gap asks the call that it
is part of what to do; nothing is ever set on a module.

Shapes: N texts of S tokens, W token width.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from atha.backbones.base import Tokens
from atha.backbones.sharing import share_weights

#: What gaps do in the running call: block (the first gap's own, else None), tokens, and what else a block is given.
_ACTS: ContextVar[Callable[[nn.Module | None, Tensor, tuple[Any, ...], dict[str, Any]], Any]] = ContextVar("acts")


class _Gap(nn.Module):
    def __init__(self, block: nn.Module | None) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
        return _ACTS.get()(self.block, tokens, args, kwargs)


class _Reached(Exception):  # noqa: N818 - no error: the rest of the tower is not wanted
    pass


class HollowTower:
    """A tower of transformers without its blocks.

    Args:
        tower: takes ``inputs_embeds`` and ``attention_mask``.
        blocks: the list in it that holds its blocks.
    """

    def __init__(self, tower: nn.Module, blocks: nn.ModuleList) -> None:
        gaps = nn.ModuleList(_Gap(block if number == 0 else None) for number, block in enumerate(blocks))
        self._tower: Any = share_weights(tower, {blocks: gaps})

    def before(self, words: Float[Tensor, "N S W"], mask: Bool[Tensor, "N S"]) -> Tokens:
        """What the first block is given; options are for it and, as some hand on what it made, for those behind it."""
        seen: list[tuple[Tensor, tuple[Any, ...], dict[str, Any]]] = []

        def note(block: nn.Module | None, tokens: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            seen.append((tokens, args, kwargs))
            if block is None:
                raise _Reached
            return block(tokens, *args, **kwargs)

        self._run(note, words, mask)
        (tokens, *first), (_, *others) = seen[0], seen[-1]
        return Tokens(tokens, {"first": first, "others": others})

    def behind(self, given: Float[Tensor, "N S W"], words: Float[Tensor, "N S W"], mask: Bool[Tensor, "N S"]) -> Any:
        """What the tower makes of ``given`` behind its blocks."""
        rest: list[Any] = []

        def give(block: nn.Module | None, tokens: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if block is not None:  # what a block gives besides tokens, if anything
                found = block(tokens, *args, **kwargs)
                rest.extend(found[1:] if isinstance(found, tuple) else [None])
            return given if rest == [None] else (given, *rest)

        return self._run(give, words, mask)

    def _run(self, act: Callable[..., Any], words: Tensor, mask: Tensor) -> Any:
        before = _ACTS.set(act)
        try:
            return self._tower(inputs_embeds=words, attention_mask=mask.long())
        except _Reached:
            return None
        finally:
            _ACTS.reset(before)


def run_foreign(
    block: Callable[..., Any], number: int, tokens: Float[Tensor, "N S W"], options: Mapping[str, Any]
) -> Float[Tensor, "N S W"]:
    """What a block makes of tokens, with the options of `HollowTower.before`."""
    args, kwargs = options["others" if number else "first"]
    found = block(tokens, *args, **kwargs)
    return found[0] if isinstance(found, tuple) else found  # type: ignore[no-any-return]
