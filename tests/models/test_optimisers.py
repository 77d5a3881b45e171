"""Our optimiser against torch's classes, bit for bit."""

from typing import cast

import pytest
import torch
from torch import nn

from atha.models.optimisers import Optimiser
from atha.recipe import OptimiserRecipe

ADAM = OptimiserRecipe(name="adamw", lr=0.1, weight_decay=0.01)
DESCENT = OptimiserRecipe(name="sgd", lr=0.1, weight_decay=0.01, momentum=0.9)
PLAIN = OptimiserRecipe(name="sgd", lr=0.1, weight_decay=0.0, momentum=0.0)


def theirs(parameters, recipe):
    options = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.name == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, **options)
    return torch.optim.AdamW(parameters, fused=True, **options)


def start():
    return torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))


def learn(make, recipe, scaled=False):
    """Six steps on three parameters, of which one has its first gradient at the third step, and one none."""
    torch.manual_seed(0)
    first, late, never = map(nn.Parameter, start())
    inputs = torch.randn(6, 5, 4)
    optimiser, scaler = make([first, late, never], recipe), torch.amp.GradScaler("cpu", enabled=scaled)
    for step, rows in enumerate(inputs):
        if isinstance(optimiser, Optimiser):
            optimiser.lr = 0.1 / (1 + step)
        else:
            optimiser.param_groups[0]["lr"] = 0.1 / (1 + step)
        loss = (rows @ first).square().mean() + ((rows @ late).abs().mean() if step >= 2 else 0.0)
        loss = loss * (float("inf") if scaled and step == 3 else 1.0)  # the scaler passes over that step
        scaler.scale(loss).backward()
        scaler.step(cast(torch.optim.Optimizer, optimiser))
        scaler.update()
        optimiser.zero_grad()
    return torch.stack([first, late, never]).detach()


@pytest.mark.numbers
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("recipe", [ADAM, DESCENT, PLAIN], ids=["adamw", "momentum", "plain"])
def test_same_bits(recipe, scaled):
    found, expected = learn(Optimiser, recipe, scaled), learn(theirs, recipe, scaled)
    assert torch.equal(found, expected)
    assert (found != start()).flatten(1).all(1).tolist() == [True, True, False]
    assert found.isfinite().all()


def test_nothing_to_learn():
    Optimiser([], ADAM).step()
    Optimiser([nn.Parameter(torch.zeros(2))], DESCENT).step()
