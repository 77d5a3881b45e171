"""What changes parameters by their gradients: torch's own kernels, without its optimiser classes.

Making one of these imports torch's compiler, one or two seconds of every fit that nothing here has a use for; the
functions that they call import nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from atha.recipe import OptimiserRecipe


class Optimiser:
    """AdamW, or gradient descent with momentum: the same bits as torch's classes of these settings.

    Args:
        parameters: what is learned, on one device.
        recipe: which of the two, and its settings.

    Attributes:
        lr: learning rate of the next step.
        param_groups: the parameters, where a `torch.amp.GradScaler` looks for them.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], recipe: OptimiserRecipe) -> None:
        self.lr = recipe.lr
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters)}]
        self._recipe = recipe
        self._moments: dict[Tensor, tuple[Tensor, Tensor, Tensor]] = {}
        self._momentum: dict[Tensor, Tensor | None] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Change each parameter that has a gradient."""
        reached = [one for one in self.param_groups[0]["params"] if one.grad is not None]
        gradients = [one.grad for one in reached]
        if reached and self._recipe.name == "sgd":
            self._descend(reached, gradients)
        elif reached:
            self._adapt(reached, gradients)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for one in self.param_groups[0]["params"]:
            one.grad = None

    def _adapt(self, reached: list[Tensor], gradients: list[Tensor]) -> None:
        # One kernel for all parameters where torch has it: they are many and small.
        fused = reached[0].device.type in ("cpu", "cuda")
        for one in reached:
            if one not in self._moments:
                count = torch.zeros((), dtype=torch.float32, device=one.device if fused else "cpu")
                self._moments[one] = torch.zeros_like(one), torch.zeros_like(one), count
        means, squares, counts = ([self._moments[one][which] for one in reached] for which in range(3))
        adamw(
            reached, gradients, means, squares, [], counts,
            fused=fused, amsgrad=False, beta1=0.9, beta2=0.999, eps=1e-8, lr=self.lr,
            weight_decay=self._recipe.weight_decay, maximize=False,
        )  # fmt: skip

    def _descend(self, reached: list[Tensor], gradients: list[Tensor]) -> None:
        momentum = [self._momentum.get(one) for one in reached]
        sgd(
            reached, gradients, momentum,
            weight_decay=self._recipe.weight_decay, momentum=self._recipe.momentum, lr=self.lr,
            dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip
        self._momentum.update(zip(reached, momentum, strict=True))
