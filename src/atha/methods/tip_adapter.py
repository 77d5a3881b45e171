"""Tip-Adapter (arXiv 2111.03930): zero-shot logits plus a cache of support features, as it is and fine-tuned.

logits = scale * f T' + alpha * exp(-beta (1 - f F')) L, for f an image, T class texts and F support features at unit
length, L one-hot support labels (eq. 4 to 6). alpha and beta are the published starting values: there is no validation
set to search them on. Support features are of one plain view; the published code averages ten random crops.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from atha.devices import seeded
from atha.methods.base import ByScores, Fitted, Images, Method, Support, unit


class TipAdapter(Method):
    """The cache as it is: nothing is trained."""

    summary = "zero-shot plus a cache of support features, nothing trained"
    alpha, beta = 1.0, 5.5

    def fit(self, support: Support) -> Fitted:
        """Build the cache."""
        keys = torch.from_numpy(unit(support.images.features).astype(np.float32))
        values = torch.from_numpy(support.one_hot.astype(np.float32))
        texts = torch.from_numpy(unit(support.text_features).astype(np.float32))
        scale = support.frozen.logit_scale
        keys = self.trained(keys, values, texts, scale, support)

        def scores(query: Images) -> Float[np.ndarray, "Q N"]:
            features = torch.from_numpy(unit(query.features).astype(np.float32))
            # One image at a time: the last bits of a product depend on how many rows it has.
            rows = [self.logits(one, keys, values, texts, scale) for one in features.split(1)]
            return torch.cat(rows).numpy()

        return ByScores(scores)

    def logits(
        self,
        features: Float[Tensor, "Q E"],
        keys: Float[Tensor, "n E"],
        values: Float[Tensor, "n N"],
        texts: Float[Tensor, "N E"],
        scale: float,
    ) -> Float[Tensor, "Q N"]:
        """Eq. 6."""
        affinity = torch.exp(self.beta * (features @ keys.T - 1))
        return scale * features @ texts.T + self.alpha * affinity @ values

    def trained(
        self, keys: Float[Tensor, "n E"], values: Tensor, texts: Tensor, scale: float, support: Support
    ) -> Float[Tensor, "n E"]:
        """The keys that are used."""
        return keys

    def definition(self) -> dict[str, Any]:
        """alpha and beta."""
        return super().definition() | {"template": self.template, "alpha": self.alpha, "beta": self.beta}


class TipAdapterF(TipAdapter):
    """The cache's keys trained on the support images (section 3.2): AdamW, cosine schedule, 20 passes."""

    summary = "Tip-Adapter with its cache keys trained"
    epochs, batch_size, lr, eps = 20, 256, 1e-3, 1e-4

    def trained(
        self, keys: Float[Tensor, "n E"], values: Tensor, texts: Tensor, scale: float, support: Support
    ) -> Float[Tensor, "n E"]:
        """Train the keys with cross-entropy."""
        features, labels = keys, torch.from_numpy(support.labels)
        learned = nn.Parameter(keys.clone())
        optimiser = torch.optim.AdamW([learned], lr=self.lr, eps=self.eps)
        steps = self.epochs * -(-len(keys) // self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        with seeded(support.seed, learned.device):
            for _ in range(self.epochs):
                for batch in torch.randperm(len(keys)).split(self.batch_size):
                    logits = self.logits(features[batch], learned, values, texts, scale)
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(logits, labels[batch]).backward()
                    optimiser.step()
                    schedule.step()
        return learned.detach()

    def definition(self) -> dict[str, Any]:
        """Of the cache and of its training."""
        training = {"epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr, "eps": self.eps}
        return super().definition() | training
