"""Learned prompt context: the vectors of the words before the class name, trained, shared by the classes (CoOp)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.backbones import Backbone, Prompts
from atha.errors import AdapterError


class LearnedContext(nn.Module):
    """Stands for the embeddings of the context words in every class text.

    Args:
        vectors: of the words, in the text tower's token space.
    """

    def __init__(self, vectors: Float[Tensor, "C W"]) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors.detach().clone())

    @classmethod
    def start(cls, backbone: Backbone, prompts: Prompts) -> "LearnedContext":
        """The words' own embeddings."""
        return cls(backbone.token_embedding(prompts.input_ids[0, prompts.context]))

    @staticmethod
    def shapes(backbone: Backbone) -> dict[str, tuple[int | str, ...]]:
        """Those of `state`."""
        return {"context": ("C", backbone.token_embedding.embedding_dim)}

    @property
    def trained(self) -> list[nn.Parameter]:
        """The vectors."""
        return [self.vectors]

    def forward(self, words: Float[Tensor, "N S W"], positions: slice) -> Float[Tensor, "N S W"]:
        """Embedded class texts, with the vectors in the place of their context words."""
        if len(self.vectors) != positions.stop - positions.start:
            raise AdapterError(
                f"the learned context has {len(self.vectors)} tokens and the template's words "
                f"{positions.stop - positions.start}: copy the adapter again or fit it again"
            )
        shared = self.vectors.to(words.dtype).expand(len(words), -1, -1)
        return torch.cat([words[:, : positions.start], shared, words[:, positions.stop :]], dim=1)

    def state(self) -> dict[str, Tensor]:
        """What is trained."""
        return {"context": self.vectors.detach()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take what was trained from `state`."""
        self.vectors.copy_(state["context"])
