"""What makes prediction fast changes no result, and leaves the model as it was."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from test_speed_equivalence import made, prompts

import atha
from adapting import Adapting, features, plain_encoder
from atha import defaults
from atha.models.engine.prediction import PredictionBlock
from atha.models.forms import first_tokens, prediction_encoder
from atha.models.inference import images_at_once
from atha.recipe import Recipe


def adapted(family, recipe="released-fixed", **overrides):
    return Adapting(made(family), Recipe.load(recipe, overrides), prompts()).shake()


def pixels(count=5):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.numbers
@pytest.mark.parametrize("recipe", ["paper", "released", "lora", "clip-lora"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
@torch.no_grad()
def test_float32_features_are_the_plain_ones(family, recipe):
    model = adapted(family, recipe)
    before = model.backbone.content_hash()
    plain = features(model.plain(), prompts(), pixels())
    torch.testing.assert_close(features(model.predicting(), prompts(), pixels()), plain, atol=2e-5, rtol=1e-5)
    assert model.backbone.content_hash() == before
    assert torch.equal(features(model.plain(), prompts(), pixels()), plain)


@pytest.mark.numbers
@pytest.mark.parametrize("recipe", ["lora", "clip-lora", "paper"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
@torch.no_grad()
def test_bfloat16_features_are_no_farther_from_float32_than_autocasts(family, recipe):
    model = adapted(family, recipe)
    texts = model.plain().texts(prompts())
    exact, plain, ours = (
        features(encoder, prompts(), pixels(40), texts)
        for encoder in (model.plain(), model.plain("bfloat16"), model.predicting("bfloat16"))
    )
    errors = [(found - exact).abs().mean() for found in (ours, plain)]
    assert errors[0] < 1.1 * errors[1]
    assert 0 < errors[1] < 0.1 * exact.abs().mean()


@pytest.mark.numbers
@torch.no_grad()
def test_layers_that_are_no_blocks_give_autocasts_bits():
    """Where nothing is replaced by what training uses, as with LoRA on the output projection."""
    model = adapted("siglip", "lora", **{"lora.projections": ["q", "out"]})
    plain = features(model.plain("bfloat16"), prompts(), pixels())
    assert torch.equal(features(model.predicting("bfloat16"), prompts(), pixels()), plain)


@pytest.mark.numbers
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@torch.no_grad()
def test_the_frozen_view_is_that_without_tuners(precision):
    model = adapted("clip")
    alone = prediction_encoder(made("clip"), precision).images(pixels())
    view = model.predicting(precision)
    features(view, prompts(), pixels())
    for frozen in (
        prediction_encoder(model.backbone, precision, share=view), prediction_encoder(model.backbone, precision)
    ):  # fmt: skip
        assert torch.equal(frozen.images(pixels()), alone)


@torch.no_grad()
def test_what_is_frozen_is_held_once():
    model = adapted("clip")
    frozen = prediction_encoder(model.backbone, "bfloat16")
    view = model.predicting("bfloat16", share=frozen)
    for one, other in zip(frozen.vision_blocks, view.vision_blocks, strict=True):
        assert one.frozen is other.frozen
    # In float32 LoRA is in the weights of q, k and v, and all else is the backbone's own.
    frozen = prediction_encoder(model.backbone, "float32")
    for one, other in zip(frozen.vision_blocks, model.predicting(share=frozen).vision_blocks, strict=True):
        held, merged = one.weights, other.weights
        assert held.up is merged.up and held.project is not merged.project
    # Where no block is replaced, its layers are what is held.
    model = adapted("clip", "lora", **{"lora.projections": ["q", "out"]})
    one, other = (model.predicting("bfloat16", share) for share in (None, model.predicting("bfloat16")))
    view = model.predicting("bfloat16", one)
    for held, shared, own in zip(
        one.vision_blocks[:-1], view.vision_blocks[:-1], other.vision_blocks[:-1], strict=True
    ):
        assert held.mlp.fc1 is shared.mlp.fc1 is not own.mlp.fc1
        assert held.self_attn.q_proj.base is shared.self_attn.q_proj.base


@pytest.mark.numbers
@torch.no_grad()
def test_the_last_block_works_for_the_first_token_alone():
    backbone = made("clip")
    last = prediction_encoder(backbone, "float32").vision_blocks[-1]
    tokens = torch.randn(2, 17, 32)
    whole = plain_encoder(backbone).vision_blocks[-1](tokens, None)
    assert isinstance(last, PredictionBlock)
    for form in (last, partial(first_tokens, backbone.vision_blocks[-1], 1)):
        found = form(tokens)
        assert found.shape == (2, 1, 32)
        torch.testing.assert_close(found, whole[:, :1], atol=1e-5, rtol=1e-5)


def test_images_at_once():
    backbone = made("clip")
    assert images_at_once(backbone) == defaults.BATCH_SIZE
    sizes = [images_at_once(backbone, memory) for memory in (1, 2**20, 2**22, 2**24, 2**30)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1 < sizes[2] < sizes[-1] == defaults.BATCH_SIZE


def test_who_decodes_changes_nothing(support, test_folder, monkeypatch):
    """One core or many: the same images in the same batches, the bad ones in their places."""
    clf = atha.Classifier.from_pretrained("nano", recipe=Recipe.load("paper", ["training.steps=1"])).fit(support)
    files = sorted(test_folder.glob("*/*.png"))
    files.insert(3, test_folder / "nothing.png")
    found = []
    for cores in (1, 5):
        monkeypatch.setattr("atha.machine.cores", lambda cores=cores: cores)
        found.append(list(clf.stream(files, batch_size=4)))
    assert found[0][3].problem.endswith("nothing.png: the file does not exist")
    key = [(one.file, one.label, one.probabilities, one.problem) for one in found[0]]
    assert key == [(one.file, one.label, one.probabilities, one.problem) for one in found[1]]
    assert [one.file for one in found[0]] == list(map(str, files))
    assert sum(bool(one.problem) for one in found[0]) == 1


STREAM = """
import sys, warnings
from pathlib import Path
import torch
import atha
from atha import machine
warnings.simplefilter("ignore")
torch.set_num_threads(1)
files = sorted(Path(sys.argv[1]).iterdir())
clf = atha.Classifier.from_pretrained("nano", classes=["a dark thing", "a bright thing"])
sum(1 for _ in clf.stream(files[:100]))
machine.reset_peak()
peaks = []
for count in (1000, 10000):
    assert sum(not one.problem for one in clf.stream(files[:count])) == count
    peaks.append(machine.peak_memory())
print(*peaks)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a peak that can be begun anew is Linux's")
def test_ten_thousand_images_need_no_more_memory_than_one_thousand(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (200, 96, 128, 3), dtype=np.uint8)
    for index in range(10000):
        Image.fromarray(pixels[index % 200]).save(tmp_path / f"{index:05d}.bmp")
    found = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    few, many = map(int, found.split())
    assert many < few + (20 << 20), (few, many)
