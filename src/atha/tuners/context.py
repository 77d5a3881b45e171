"""Learned prompt context: the vectors of the words before the class name, trained, shared by the classes (CoOp)."""

from typing import Any

import torch
from torch import Tensor, nn

from atha.backbones import Backbone, Prompts


class LearnedContext(nn.Module):
    """Replaces the embeddings of the context words in every class text.

    Args:
        backbone: a hook goes on its token embedding.
        prompts: tokenised class texts; the vectors start as the embeddings of their context words.
        groups: how many episodes' texts go through together, one after the other; each has vectors of its own.
    """

    def __init__(self, backbone: Backbone, prompts: Prompts, groups: int = 1) -> None:
        super().__init__()
        self.positions = prompts.context
        words = backbone.token_embedding(prompts.input_ids[0, prompts.context]).detach()
        self.of_groups = nn.ParameterList(nn.Parameter(words.clone()) for _ in range(groups))
        self.active = True
        self._handle = backbone.token_embedding.register_forward_hook(self._replace)

    @property
    def vectors(self) -> nn.Parameter:
        """(words, text width) of the first group."""
        return self.of_groups[0]  # type: ignore[no-any-return]

    def _replace(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if not self.active:
            return None
        before, after = output[:, : self.positions.start], output[:, self.positions.stop :]
        shared = torch.stack(list(self.of_groups)).to(output.dtype)
        shared = shared.repeat_interleave(len(output) // len(shared), dim=0)
        return torch.cat([before, shared, after], dim=1)

    def detach(self) -> None:
        """Take the hook away."""
        self._handle.remove()
