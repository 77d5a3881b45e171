"""What makes training fast changes no result: losses follow the plain transformers and PEFT loop."""

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import atha
from adapting import Adapting
from atha.backbones import Prompts
from atha.backbones.clip import ClipBackbone
from atha.backbones.siglip import SiglipBackbone
from atha.devices import seeded
from atha.models import training
from atha.models.adaptation import stacked
from atha.models.encoder import cosine
from atha.models.engine.parts import can_replace
from atha.models.engine.products import ACTIVATIONS, FrozenProduct, packs
from atha.models.engine.training import TrainingBlock
from atha.models.forms import can_stack
from atha.models.training import train
from atha.recipe import Recipe
from atha.tuners.dropout import keep_bytes, keep_mask, mask_for, masked, random_bytes

pytestmark = pytest.mark.numbers

STEPS = 20
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
TEXT = VISION | {"vocab_size": 64, "max_position_embeddings": 12}
VISION = VISION | {"image_size": 32, "patch_size": 8}


class Support:
    """The same batch at every step."""

    def __init__(self, size: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.pixels, self.labels = torch.randn(6, 3, size, size, generator=generator), torch.arange(6) % 3
        self.shot = 2

    def batches(self, batch_size):
        order = torch.arange(len(self.labels))
        while True:
            for some in order.split(batch_size or len(order)):
                yield self.pixels[some], self.labels[some]


def made(family, activation="quick_gelu"):
    torch.manual_seed(0)
    vision, text = VISION | {"hidden_act": activation}, TEXT | {"hidden_act": activation}
    if family == "clip":
        text |= {"bos_token_id": 0, "eos_token_id": 63, "pad_token_id": 63}
        config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
        return ClipBackbone(transformers.CLIPModel(config))
    config = transformers.SiglipConfig(vision_config=vision, text_config=text | {"projection_size": 32})
    return SiglipBackbone(transformers.SiglipModel(config))


def prompts():
    ids = torch.randint(1, 60, (3, 8), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, 1:3], ids[:, 6:], ids[1, 5] = 0, torch.tensor([5, 6]), 63, 63
    return Prompts(ids, slice(1, 3))


def plain_losses(model, support, recipe):
    """The loop without anything that is there for speed, dropout off."""
    encoder, optimisers = model.plain(), []
    for name, parameters in model.parameters().items():
        settings = getattr(recipe.training, name)
        options = {"lr": settings.lr, "weight_decay": settings.weight_decay}
        optimisers.append(
            torch.optim.SGD(parameters, momentum=settings.momentum, **options)
            if settings.name == "sgd"
            else torch.optim.AdamW(parameters, **options)
        )
    losses = []
    for _ in range(STEPS):
        texts = encoder.texts(model.prompts)
        images = encoder.images(support.pixels, texts.anchors)
        scale = recipe.training.resolve_logit_scale(support.shot)
        loss = nn.functional.cross_entropy(scale * cosine(images, texts.features), support.labels)
        loss.backward()
        losses.append(loss.item())
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
    return losses


def trained_losses(model, support, recipe):
    """The loop as it is."""
    return train(model.training(recipe.training.precision), model.prompts, [support], recipe)[0]


def recipe_for(preset, *overrides):
    steps = [f"training.steps={STEPS}", "training.lora.lr=1e-3", "training.precision=float32", "lora.dropout=0"]
    return Recipe.load(preset, [*steps, *overrides])


def compare(family, recipe, activation="quick_gelu", atol=1e-4):
    support = Support(VISION["image_size"])
    losses = []
    for loop in (plain_losses, trained_losses):
        backbone = made(family, activation)
        torch.manual_seed(1)
        losses.append(loop(Adapting(backbone, recipe, prompts()), support, recipe))
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], atol=atol, rtol=0)


@pytest.mark.parametrize("preset", ["paper", "released", "released-fixed", "lora"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_losses_follow_the_plain_loop(family, preset):
    compare(family, recipe_for(preset))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation(activation):
    compare("clip", recipe_for("paper"), activation)


@pytest.mark.parametrize(
    "overrides",
    [
        ['lora.projections=["q", "v"]'],
        ['lora.projections=["v", "out"]'],  # not replaced: the plain path
        ['lora.towers=["vision"]'],
        ['lora.towers=["text"]'],
        ["alignment.learn=false", "alignment.push=0"],
    ],
)
def test_every_choice_of_layers(overrides):
    compare("clip", recipe_for("paper", *overrides))


def test_bfloat16_follows_the_plain_loop():
    """Within what eight bits of mantissa leave."""
    backbone = made("clip")
    torch.manual_seed(1)
    recipe = recipe_for("paper", "training.precision=bfloat16")
    losses = trained_losses(Adapting(backbone, recipe, prompts()), Support(VISION["image_size"]), recipe)
    torch.manual_seed(1)
    plain = plain_losses(Adapting(made("clip"), recipe, prompts()), Support(VISION["image_size"]), recipe)
    np.testing.assert_allclose(losses, plain, atol=0.02)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_blocks_are_made_for_training(family):
    encoder = Adapting(made(family), Recipe.load("released-fixed"), prompts()).training()
    assert all(isinstance(block, TrainingBlock) for block in (*encoder.text_blocks, *encoder.vision_blocks))


def test_blocks_that_are_not_replaced():
    assert not can_replace(made("clip", "relu").vision_blocks[0])
    block = made("clip").vision_blocks[0]
    assert can_replace(block)
    block.layer_norm1.requires_grad_(True)  # its backward pass has no gradient for that
    assert not can_replace(block)


def test_blocks_of_other_devices_stay():
    """A single episode on anything but a CPU goes through the model's own blocks, with their fused attention."""
    backbone = made("clip")
    backbone.model.to("meta")
    encoder = Adapting(backbone, Recipe.load("lora", ["prompt.learn_context=false"]), prompts()).training()
    assert not any(isinstance(block, TrainingBlock) for block in (*encoder.text_blocks, *encoder.vision_blocks))


@pytest.mark.parametrize(("device", "images"), [("cpu", 240), ("cuda", 3855), ("mps", 3855)])
def test_images_of_a_part_by_device(device, images):
    backbone = made("clip")  # 17 tokens an image
    other = type("Elsewhere", (), {"device": torch.device(device), "tokens": backbone.tokens})()
    assert training.part_size(other) == images


def test_products_are_packed_on_a_cpu_in_bfloat16_alone():
    assert not packs(torch.device("cpu"), torch.float32)
    assert not packs(torch.device("cuda"), torch.bfloat16)
    assert not packs(torch.device("mps"), torch.bfloat16)


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 17, 200])
def test_frozen_products(dtype, pack, rows):
    generator = torch.Generator().manual_seed(0)
    weight, bias, values, gradient = (
        torch.randn(*shape, generator=generator) for shape in ((48, 32), (48,), (rows, 32), (rows, 48))
    )
    product = FrozenProduct(weight, bias, dtype, pack)
    weight, bias, values, gradient = (one.to(dtype) for one in (weight, bias, values, gradient))
    close = {"atol": 1e-4, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}
    torch.testing.assert_close(product(values), nn.functional.linear(values, weight, bias), **close)
    torch.testing.assert_close(product.backward(gradient), gradient @ weight, **close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masks_as_bits_are_masks_as_numbers(dtype):
    generator = torch.Generator().manual_seed(0)
    values, noise = torch.randn(17, 33, generator=generator).to(dtype), random_bytes((17, 33), generator)
    wanted = values * keep_mask(noise, 64, dtype)
    mask = mask_for(values).copy_(keep_bytes(noise, 64))
    assert torch.equal(masked(values, mask, torch.empty_like(values)), wanted)
    assert torch.equal(masked(values, mask, values), wanted)  # in place


def test_parts_of_a_step_change_nothing(monkeypatch):
    """Images that go through one by one give the losses of all at once."""
    recipe = recipe_for("released-fixed")
    losses = []
    for tokens in (4096, 17, 70):
        monkeypatch.setitem(training._PART_TOKENS, "cpu", tokens)
        torch.manual_seed(1)
        losses.append(trained_losses(Adapting(made("clip"), recipe, prompts()), Support(VISION["image_size"]), recipe))
    assert training.part_size(made("clip")) == 4
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, atol=1e-5)


def stack_prompts(count):
    """Texts of other classes and other lengths in each episode."""
    found = []
    for index in range(count):
        whole = prompts()
        ids = whole.input_ids.roll(index, 0).clone()
        ids[:, 3] = 7 + index
        found.append(Prompts(ids[:, : 8 - index % 2].clone(), whole.context))
    return found


@pytest.mark.parametrize(
    ("family", "preset", "overrides"),
    [
        ("clip", "paper", ["lora.dropout=0.25"]),
        ("siglip", "paper", ["lora.dropout=0.25"]),
        ("clip", "released", ["lora.dropout=0.25"]),
        ("siglip", "released", []),
        ("siglip", "released-fixed", ["lora.dropout=0.25", "training.batch_size=4"]),
        ("clip", "clip-lora", ["lora.dropout=0.25", "views.support=single"]),
        ("clip", "paper", ['lora.towers=["vision"]']),
        ("siglip", "paper", ['lora.towers=["text"]']),
    ],
)
def test_a_stack_of_episodes_is_each_of_them(family, preset, overrides):
    """Losses and trained values are those of one episode at a time, dropout included."""
    recipe, seeds = recipe_for(preset, *overrides, "training.steps=8"), [3, 4, 5]
    supports = [Support(VISION["image_size"], seed) for seed in seeds]
    texts = stack_prompts(len(seeds)) if family == "clip" else [prompts()] * len(seeds)
    backbone = made(family)
    assert can_stack(backbone, recipe)
    before = backbone.content_hash()
    stack, whole = stacked(backbone, recipe, "float32", texts, seeds)
    together = train(stack, whole, supports, recipe)
    assert backbone.content_hash() == before
    for group, (own, support, seed) in enumerate(zip(texts, supports, seeds, strict=True)):
        with seeded(seed, torch.device("cpu")):
            model = Adapting(backbone, recipe, own)
            alone = trained_losses(model, support, recipe)
        np.testing.assert_allclose(together[group], alone, atol=1e-4)
        for name, values in model.parameters().items():
            for one, other in zip(stack.tuners[group].parameters()[name], values, strict=True):
                torch.testing.assert_close(one, other, atol=2e-4, rtol=0)


def test_what_cannot_be_stacked():
    assert not can_stack(made("clip", "relu"), Recipe.load("paper"))
    assert not can_stack(made("clip"), Recipe.load("paper", ['lora.projections=["v", "out"]']))
    recipe = recipe_for("paper")
    stack, whole = stacked(made("clip"), recipe, "float32", [prompts()] * 2, [1, 2])
    smaller = Support(VISION["image_size"])
    smaller.labels = smaller.labels[:3]
    with pytest.raises(ValueError, match="as many images"):
        train(stack, whole, [Support(VISION["image_size"]), smaller], recipe)


class Masked(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, values):
        return values * self.mask


def test_gradients_of_one_block_with_dropout():
    """Against layers with LoRA beside them and the same masks."""
    backbone = made("clip", "gelu")
    model = Adapting(backbone, Recipe.load("lora", ["prompt.learn_context=false"]), prompts())
    parameters = model.parameters()["lora"]
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=0.2)
    tokens = torch.randn(2, 17, 32)
    outputs = []
    for fused in (True, False):
        block = (model.training() if fused else model.plain(dropout=0.25)).vision_blocks[1]
        torch.manual_seed(3)
        source = tokens.clone().requires_grad_()
        if fused:
            result = block(source, None)
        else:  # the block draws all masks at once, layers in the order q, k, v: take them from one draw
            noise = iter(random_bytes((3, 34, 32)))
            attention = block.self_attn
            for name in ("q_proj", "k_proj", "v_proj"):
                mask = keep_mask(next(noise), 64, torch.float32).view(2, 17, 32) * (4 / 3)
                getattr(attention, name).dropout = Masked(mask)
            result = block(source, None)
        result.square().mean().backward()
        used = [parameter.grad for parameter in parameters if parameter.grad is not None]
        outputs.append([result.detach(), source.grad, *(grad.clone() for grad in used)])
        for parameter in parameters:
            parameter.grad = None
    assert len(outputs[0]) == len(outputs[1]) == 2 + 6
    for ours, plain in zip(*outputs, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def test_nano_on_real_sizes():
    """The built-in model: last block for CLS alone, tanh GELU, texts with padding."""
    backbone = atha.load_backbone("nano")
    names = ["red thing", "a green thing of some length", "blue"]
    support, losses = Support(64), []
    recipe = recipe_for("released-fixed")
    for loop in (plain_losses, trained_losses):
        torch.manual_seed(1)
        model = Adapting(backbone, recipe, backbone.prompts(names, "a photo of a {}."))
        losses.append(loop(model, support, recipe))
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-4, rtol=0)
