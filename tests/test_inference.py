"""What makes prediction fast changes no result, and leaves the model as it was."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import atha
from atha import defaults
from atha.devices import autocast
from atha.inference import Inference, images_at_once
from atha.recipe import Recipe
from atha.tuners import TunedModel
from test_speed_equivalence import made, prompts


def tuned_model(family, recipe="released-fixed"):
    torch.manual_seed(0)
    tuned = TunedModel(made(family), Recipe.load(recipe), prompts())
    with torch.no_grad():
        for values in tuned.parameters().values():
            for value in values:
                value.add_(torch.randn_like(value), alpha=0.1)
    return tuned


@torch.no_grad()
def features(tuned, pixels, precision, inference=None):
    texts = tuned.texts()
    with inference.running() if inference else autocast(precision, torch.device("cpu")):
        return tuned.image_features(pixels, texts)


def pixels(count=5):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("recipe", ["paper", "released", "lora", "clip-lora"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_float32_features_are_the_plain_ones(family, recipe):
    tuned = tuned_model(family, recipe)
    before = state(tuned.backbone.model)
    inference = Inference(tuned.backbone, tuned, "float32")
    plain, fast = (features(tuned, pixels(), "float32", one) for one in (None, inference))
    torch.testing.assert_close(fast, plain, atol=2e-5, rtol=1e-5)
    after = state(tuned.backbone.model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(features(tuned, pixels(), "float32"), plain)


@pytest.mark.parametrize("recipe", ["lora", "clip-lora", "paper"])
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_bfloat16_features_are_no_farther_from_float32_than_autocasts(family, recipe):
    tuned = tuned_model(family, recipe)
    exact, plain = (features(tuned, pixels(40), precision) for precision in ("float32", "bfloat16"))
    ours = features(tuned, pixels(40), "bfloat16", Inference(tuned.backbone, tuned, "bfloat16"))
    errors = [(found - exact).abs().mean() for found in (ours, plain)]
    assert errors[0] < 1.1 * errors[1]
    assert 0 < errors[1] < 0.1 * exact.abs().mean()


def test_layers_that_are_no_blocks_give_autocasts_bits():
    """Where nothing is replaced by what training uses, as with LoRA on the output projection."""
    tuned = tuned_model("siglip", Recipe.load("lora", ['lora.projections=["q", "out"]']))
    plain = features(tuned, pixels(), "bfloat16")
    assert torch.equal(features(tuned, pixels(), "bfloat16", Inference(tuned.backbone, tuned, "bfloat16")), plain)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_frozen_baseline_is_that_without_tuners(precision):
    backbone = made("clip")
    with torch.no_grad():
        with Inference(backbone, None, precision).running():
            alone = backbone.encode_image(pixels())
        tuned = tuned_model("clip")
        adapted = Inference(tuned.backbone, tuned, precision)
        features(tuned, pixels(), precision, adapted)
        for frozen in (
            Inference(tuned.backbone, None, precision, share=adapted),
            Inference(tuned.backbone, None, precision),
        ):
            with tuned.disabled(), frozen.running():
                assert torch.equal(tuned.backbone.encode_image(pixels()), alone)


def test_what_is_frozen_is_held_once():
    tuned = tuned_model("clip")
    adapted = Inference(tuned.backbone, tuned, "bfloat16")
    frozen = Inference(tuned.backbone, None, "bfloat16", share=adapted)
    features(tuned, pixels(), "bfloat16", adapted)
    for block in tuned.backbone.vision_blocks:
        one, other = (inference._forwards[block].weights(torch.bfloat16) for inference in (adapted, frozen))
        assert one is other
    tuned.detach()
    tuned = tuned_model("clip", Recipe.load("lora", ['lora.projections=["q", "out"]']))  # no block is replaced
    adapted = Inference(tuned.backbone, tuned, "bfloat16")
    frozen = Inference(tuned.backbone, None, "bfloat16", share=adapted)
    layers = [module for module in adapted._forwards if isinstance(module, torch.nn.Linear)]
    assert layers and all(frozen._forwards[layer] is adapted._forwards[layer] for layer in layers)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_nothing_stays_behind(precision):
    tuned = tuned_model("clip")
    inference = Inference(tuned.backbone, tuned, precision)
    with pytest.raises(RuntimeError, match="in the middle"), inference.running():
        assert any("forward" in vars(module) for module in tuned.backbone.model.modules())
        raise RuntimeError("in the middle")
    assert not any("forward" in vars(module) for module in tuned.backbone.model.modules())
    # In the middle of training, the blocks made for it come back.
    tuned.train()
    blocks = [block.forward for block in tuned.backbone.vision_blocks]
    with inference.running():
        pass
    assert [block.forward for block in tuned.backbone.vision_blocks] == blocks


def test_the_last_block_works_for_the_first_token_alone():
    tuned = tuned_model("clip")
    seen = []
    last = tuned.backbone.vision_blocks[-1]
    for name in ("q_proj", "k_proj"):
        getattr(last.self_attn, name).register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    last.mlp.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    features(tuned, pixels(), "float32", Inference(tuned.backbone, tuned, "float32"))
    assert seen == [1, 17, 1]


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
