"""Tip-Adapter (arXiv 2111.03930): zero-shot logits plus a cache of support features, as it is and fine-tuned.

logits = scale * f T' + alpha * exp(-beta (1 - f F')) L, for f an image, T class texts and F support features at unit
length, L one-hot support labels (eq. 4 to 6), weighted so that each class counts the same where numbers of images
differ. alpha and beta are published starting values: there is no validation set to search them on. Support features are
of one plain view; the published code averages ten random crops.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.devices import seeded
from atha.methods.base import Method, Support, unit
from atha.methods.examples import Examples
from atha.methods.scores import OnFeatures
from atha.models.frozen import Frozen
from atha.recipe import Recipe
from atha.tensors import check_no_others, check_tensors

#: The published starting values.
ALPHA, BETA = 1.0, 5.5


@dataclass(frozen=True)
class CacheScores(OnFeatures, kind="tip-adapter"):
    """Zero-shot logits and those of the cache.

    Attributes:
        keys: support features at unit length, or what was trained from them.
        values: one-hot labels, weighted.
        texts: class text features at unit length.
        scale: of the zero-shot logits.
        alpha: of the cache's.
        beta: how soon a key's say fades with its distance.
    """

    keys: Float[Tensor, "n E"]
    values: Float[Tensor, "n N"]
    texts: Float[Tensor, "N E"]
    scale: float
    alpha: float
    beta: float

    def score(self, features: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, "Q N"]:
        """See `OnFeatures`."""
        # One image at a time: the last bits of a product depend on how many rows it has.
        rows = [self.logits(one) for one in torch.from_numpy(unit(features).astype(np.float32)).split(1)]
        return torch.cat(rows).numpy()

    def logits(self, features: Float[Tensor, "Q E"]) -> Float[Tensor, "Q N"]:
        """Eq. 6, of features at unit length."""
        affinity = torch.exp(self.beta * (features @ self.keys.T - 1))
        return self.scale * features @ self.texts.T + self.alpha * affinity @ self.values

    def on_features(self) -> nn.Module:
        """See `OnFeatures`."""
        return CacheLogits(self)

    def state(self) -> dict[str, Tensor]:
        """The cache, and the class texts."""
        return {"keys": self.keys, "values": self.values, "texts": self.texts}

    def definition(self) -> dict[str, Any]:
        """The numbers of eq. 6."""
        return super().definition() | {"scale": self.scale, "alpha": self.alpha, "beta": self.beta}

    @classmethod
    def restore(
        cls, definition: Mapping[str, Any], tensors: Mapping[str, Tensor], recipe: Recipe, frozen: Frozen
    ) -> "CacheScores":
        """See `Fitted`."""
        width = frozen.backbone.joint_width
        check_tensors(tensors, {"texts": ("N", width), "keys": ("n", width), "values": ("n", "N")})
        check_no_others(tensors, ("texts", "keys", "values"))
        keys, values, texts = (tensors[name].float() for name in ("keys", "values", "texts"))
        return cls(keys, values, texts, *(float(definition[name]) for name in ("scale", "alpha", "beta")))

    @property
    def classes(self) -> int:
        """See `Fitted`."""
        return len(self.texts)


class CacheLogits(nn.Module):
    """`CacheScores.logits` as a module."""

    def __init__(self, cache: CacheScores) -> None:
        super().__init__()
        self.cache = cache

    def forward(self, features: Float[Tensor, "Q E"]) -> Float[Tensor, "Q N"]:
        return self.cache.logits(features)


def tip_adapter(examples: Examples, alpha: float = ALPHA, beta: float = BETA) -> CacheScores:
    """The cache of a support set.

    Args:
        examples: the support set.
        alpha: see `CacheScores`.
        beta: see `CacheScores`.
    """
    values = np.eye(examples.classes)[examples.labels] * (len(examples.labels) * examples.shares)[:, None]
    keys, values, texts = (
        torch.from_numpy(rows.astype(np.float32)) for rows in (examples.features, values, examples.texts)
    )
    return CacheScores(keys, values, texts, examples.scale, alpha, beta)


class TipAdapter(Method):
    """The cache as it is: nothing is trained."""

    summary = "zero-shot plus a cache of support features, nothing trained"
    alpha, beta = ALPHA, BETA

    def fit(self, support: Support) -> CacheScores:
        """Build the cache."""
        # Lengths in float32, as stored results have them.
        features, texts = unit(support.images.features), unit(support.text_features)
        examples = Examples(features, support.labels, texts, support.frozen.logit_scale)
        return tip_adapter(examples, self.alpha, self.beta)

    def definition(self) -> dict[str, Any]:
        """alpha and beta."""
        return super().definition() | {"template": self.template, "alpha": self.alpha, "beta": self.beta}


class TipAdapterF(TipAdapter):
    """The cache's keys trained on the support images (section 3.2): AdamW, cosine schedule, 20 passes."""

    summary = "Tip-Adapter with its cache keys trained"
    epochs, batch_size, lr, eps = 20, 256, 1e-3, 1e-4

    def fit(self, support: Support) -> CacheScores:
        """Build the cache, and train its keys with cross-entropy."""
        cache = super().fit(support)
        features, labels = cache.keys, torch.from_numpy(support.labels)
        learned = nn.Parameter(features.clone())
        training = replace(cache, keys=learned)
        optimiser = torch.optim.AdamW([learned], lr=self.lr, eps=self.eps)
        steps = self.epochs * -(-len(features) // self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        with seeded(support.seed, learned.device):
            for _ in range(self.epochs):
                for batch in torch.randperm(len(features)).split(self.batch_size):
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(training.logits(features[batch]), labels[batch]).backward()
                    optimiser.step()
                    schedule.step()
        return replace(cache, keys=learned.detach())

    def definition(self) -> dict[str, Any]:
        """Of the cache and of its training."""
        training = {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr, "eps": self.eps}
        return super().definition() | training
