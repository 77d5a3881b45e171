"""The released code's own numbers, reached through the real backbone, hooks and PEFT's LoRA."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from atha.alignment import align_tokens
from atha.backbones.base import Prompts
from atha.backbones.clip import ClipBackbone
from atha.recipe import Recipe
from atha.tuners import TunedModel, cosine

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


def golden_model(case: str) -> TunedModel:
    overrides = ["prompt.learn_context=false", "lora.rank=4", "lora.alpha=8", "lora.dropout=0"]
    tuned = TunedModel(golden_backbone(), Recipe.load(RECIPES[case], overrides), Prompts(CASES["input_ids"]))
    state = tuned.peft_model.state_dict()
    for name, value in WEIGHTS.items():
        if name.startswith("lora."):
            module, matrix = name.removeprefix("lora.").rsplit(".", 1)
            state[f"base_model.model.{module}.{matrix}.default.weight"].copy_(value)
    if tuned.alignment is not None:
        alignment = tuned.alignment.alignment
        with torch.no_grad():
            assert alignment.pull[6] == torch.tensor(0.8)  # the preset's own start
            alignment.pull[3] = 0.1
            alignment.push.fill_(0.02)
            alignment.push[2] = 0.3
    return tuned


@pytest.fixture(scope="module", params=[(case, on) for case in sorted(RECIPES) for on in (False, True)], ids=str)
def outputs(request):
    """As the blocks are, and as they are made for training."""
    case, training = request.param
    tuned = golden_model(case)
    tuned.train(training)
    fused = sum("forward" in vars(b) for b in (*tuned.backbone.text_blocks, *tuned.backbone.vision_blocks))
    assert fused == (24 if training else 0)
    texts = tuned.texts()
    images = tuned.image_features(CASES["pixel_values"], texts)
    logits = 4 * cosine(images, texts.features)
    loss = nn.functional.cross_entropy(logits, CASES["labels"])
    loss.backward()
    return case, tuned, texts, images, logits, loss


def close(actual, case, name, atol):
    torch.testing.assert_close(actual.detach(), CASES[f"{case}/{name}"].reshape(actual.shape), atol=atol, rtol=0)


def test_forward(outputs):
    case, tuned, texts, images, logits, loss = outputs
    close(texts.features, case, "text_features", 1e-5)
    close(tuned.backbone.encode_text(tuned.prompts).penultimate, case, "anchor_text_features", 1e-5)
    close(images, case, "image_features", 1e-5)
    close(logits, case, "logits", 1e-5)
    close(loss, case, "loss", 1e-5)
    if case != "baseline":
        close(texts.anchors, case, "anchors", 2e-5)


def test_gradients(outputs):
    case, tuned, *_ = outputs
    checked = 0
    for name in (key for key in CASES if key.startswith(f"{case}/grad_lora.")):
        _, tower, block, projection, matrix = name.split(".")
        attention = getattr(tuned.backbone.model, f"{tower}_model").encoder.layers[int(block)].self_attn
        layer = getattr(attention, f"{projection}_proj")
        weight = (layer.lora_A if matrix == "A" else layer.lora_B)["default"].weight
        close(weight.grad, case, name.removeprefix(f"{case}/"), 1e-6)
        checked += 1
    assert checked == 8
    if case != "baseline":
        close(tuned.alignment.alignment.pull.grad, case, "grad_alpha", 1e-6)
        close(tuned.alignment.alignment.push.grad, case, "grad_beta", 1e-6)


@pytest.mark.parametrize(("case", "grows"), [("baseline", 0), ("cls_kept_out", 0), ("release", 1)])
def test_token_count_per_block(case, grows):
    """Constant, but for the released code's bug: one more copy of CLS, the block's own, in front at every block."""
    tuned = golden_model(case)
    seen, raw = [], []
    for block in tuned.backbone.vision_blocks:
        block.layer_norm1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        block.register_forward_hook(lambda module, args, output: raw.append(output))
    with torch.no_grad():
        tuned.image_features(CASES["pixel_values"], tuned.texts())
    assert [tokens.shape[1] for tokens in seen] == [17 + grows * (index + 1) for index in range(12)]
    for before, after in zip(raw[:-1], seen[1:], strict=True):
        assert torch.equal(before[:, 0], after[:, 0])  # CLS enters each block as it left the last
