"""The released code's own numbers, reached through the real backbone and tuners."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from adapting import Adapting
from atha.alignment import align_tokens
from atha.backbones.base import Prompts
from atha.backbones.clip import ClipBackbone
from atha.models.encoder import cosine
from atha.models.engine.training import TrainingBlock
from atha.recipe import Recipe

pytestmark = pytest.mark.numbers

GOLDEN = Path(__file__).parent / "golden"
OP = load_file(GOLDEN / "alignment_op.safetensors")
CASES = load_file(GOLDEN / "tiny_clip_cases.safetensors")
WEIGHTS = load_file(GOLDEN / "tiny_clip_weights.safetensors")

# Case of the golden file -> recipe and what it changes.
RECIPES = {"baseline": "lora", "release": "released", "cls_kept_out": "released-fixed"}


@pytest.mark.parametrize("case", range(5))
def test_alignment_op(case):
    rho, gamma, alpha, beta = OP[f"{case}/ratios_and_strengths"].tolist()
    out = align_tokens(OP[f"{case}/tokens"], OP[f"{case}/anchors"], alpha, beta, rho, gamma)
    torch.testing.assert_close(out, OP[f"{case}/out"], atol=1e-6, rtol=0)


def golden_backbone() -> ClipBackbone:
    config = CLIPConfig(
        projection_dim=32,
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_hidden_layers": 12,
            "num_attention_heads": 1,
            "image_size": 64,
            "patch_size": 16,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
        text_config={
            "hidden_size": 48,
            "intermediate_size": 192,
            "num_hidden_layers": 12,
            "num_attention_heads": 1,
            "max_position_embeddings": 24,
            "vocab_size": 128,
            "eos_token_id": 127,
            "bos_token_id": 126,
            "pad_token_id": 0,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
    )
    model = CLIPModel(config)
    model.load_state_dict({name: value for name, value in WEIGHTS.items() if not name.startswith("lora.")})
    return ClipBackbone(model, name="golden")


def golden_model(case: str) -> Adapting:
    overrides = ["prompt.learn_context=false", "lora.rank=4", "lora.alpha=8", "lora.dropout=0"]
    model = Adapting(golden_backbone(), Recipe.load(RECIPES[case], overrides), Prompts(CASES["input_ids"]))
    lora, strengths = model.tuners.lora, model.tuners.strengths
    lora.load({
        f"base_model.model.{name.removeprefix('lora.')}.weight": value
        for name, value in WEIGHTS.items()
        if name.startswith("lora.")
    })  # fmt: skip
    if strengths is not None:
        alignment = strengths.alignment
        with torch.no_grad():
            assert alignment.pull[6] == torch.tensor(0.8)  # the preset's own start
            alignment.pull[3] = 0.1
            alignment.push.fill_(0.02)
            alignment.push[2] = 0.3
    return model


@pytest.fixture(scope="module", params=[(case, on) for case in sorted(RECIPES) for on in (False, True)], ids=str)
def outputs(request):
    """As the library's blocks are, and as blocks are made for training."""
    case, training = request.param
    model = golden_model(case)
    encoder = model.training() if training else model.plain()
    fused = sum(isinstance(block, TrainingBlock) for block in (*encoder.text_blocks, *encoder.vision_blocks))
    assert fused == (24 if training else 0)
    texts = encoder.texts(model.prompts)
    images = encoder.images(CASES["pixel_values"], texts.anchors)
    logits = 4 * cosine(images, texts.features)
    loss = nn.functional.cross_entropy(logits, CASES["labels"])
    loss.backward()
    return case, model, encoder, texts, images, logits, loss


def close(actual, case, name, atol):
    torch.testing.assert_close(actual.detach(), CASES[f"{case}/{name}"].reshape(actual.shape), atol=atol, rtol=0)


def test_forward(outputs):
    case, model, encoder, texts, images, logits, loss = outputs
    close(texts.features, case, "text_features", 1e-5)
    close(images, case, "image_features", 1e-5)
    close(logits, case, "logits", 1e-5)
    close(loss, case, "loss", 1e-5)
    if case != "baseline":
        close(texts.anchors, case, "anchors", 2e-5)
    blocks = encoder.text_blocks[:-1]
    penultimate = dataclasses.replace(encoder, text_blocks=blocks).texts(model.prompts).features
    close(penultimate, case, "anchor_text_features", 1e-5)


def test_gradients(outputs):
    case, model, *_ = outputs
    names = {name: place for place, name in enumerate(model.tuners.lora.names)}
    checked = 0
    for name in (key for key in CASES if key.startswith(f"{case}/grad_lora.")):
        _, tower, block, projection, matrix = name.split(".")
        place = names[f"{tower}_model.encoder.layers.{block}.self_attn.{projection}_proj"]
        close(
            (model.tuners.lora.a if matrix == "A" else model.tuners.lora.b)[place].grad,
            case,
            name.removeprefix(f"{case}/"),
            1e-6,
        )
        checked += 1
    assert checked == 8
    if case != "baseline":
        close(model.tuners.strengths.alignment.pull.grad, case, "grad_alpha", 1e-6)
        close(model.tuners.strengths.alignment.push.grad, case, "grad_beta", 1e-6)


@pytest.mark.parametrize(("case", "grows"), [("baseline", 0), ("cls_kept_out", 0), ("release", 1)])
def test_token_count_per_block(case, grows):
    """Constant, but for the released code's bug: one more copy of CLS, the block's own, in front at every block."""
    model = golden_model(case)
    encoder = model.plain()
    seen, raw = [], []

    def recorded(block):
        def run(tokens, **options):
            seen.append(tokens)
            raw.append(block(tokens, **options))
            return raw[-1]

        return run

    encoder = dataclasses.replace(encoder, vision_blocks=[recorded(block) for block in encoder.vision_blocks])
    with torch.no_grad():
        encoder.images(CASES["pixel_values"], encoder.texts(model.prompts).anchors)
    assert [tokens.shape[1] for tokens in seen] == [17 + grows * (index + 1) for index in range(12)]
    for before, after in zip(raw[:-1], seen[1:], strict=True):
        assert torch.equal(before[:, 0], after[:, 0])  # CLS enters each block as it left the last
