"""Our own towers against transformers': the same names, in the same order, the same settings, the same features."""

import subprocess
import sys
from functools import cache

import pytest
import torch
import transformers

import tiny_models as tiny_models_file
from adapting import encode_image, encode_text
from atha.backbones import FAMILIES, Prompts, load_backbone
from atha.backbones.configuration import parse
from atha.backbones.layers import ACTIVATIONS, attend
from atha.backbones.towers import MODELS, empty, shapes
from atha.errors import BackboneError

FORBIDDEN = ("transformers", "peft", "torchvision", "scipy", "tokenizers", "torch._dynamo")
# What results that were stored are found by.
NANO_HASH = "8fca6140c526814ddd717caa8d2c837977ebe5c734fba24f666c90f42a5264a1"
OURS = sorted(tiny_models_file.SAVE)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    return cache(lambda kind: tiny_models_file.make(kind, tmp_path_factory.mktemp(kind)).folder)


@pytest.fixture(params=OURS)
def folder(request, folders):
    return folders(request.param)


def theirs(folder):
    """The same family around transformers' own model."""
    model = transformers.AutoModel.from_pretrained(folder, dtype="float32")
    return FAMILIES[model.config.model_type](model, transformers.AutoTokenizer.from_pretrained(folder))


def test_names_shapes_and_order(folder):
    ours, own = load_backbone(str(folder)).model, theirs(folder).model

    def all_of(model):
        return {name: (value.shape, value.dtype) for name, value in model.state_dict().items()}

    def adapted(model):
        return [name for name, _ in model.named_parameters() if "self_attn" in name]

    assert all_of(ours) == all_of(own)
    assert adapted(ours) == adapted(own)  # PEFT draws LoRA's start in this order
    assert not any(value.is_meta for value in (*ours.parameters(), *ours.buffers()))
    assert not any(value.requires_grad for value in ours.parameters()) and not ours.training


def test_content_hash(folder):
    ours, own = load_backbone(str(folder)), theirs(folder)
    assert ours.settings() == own.settings()
    assert ours.content_hash() == own.content_hash()
    assert ours.fingerprint() == own.fingerprint()


def test_content_hash_of_nano():
    assert load_backbone("nano").content_hash() == NANO_HASH


@pytest.mark.numbers
def test_features(folder):
    ours, own = load_backbone(str(folder)), theirs(folder)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts = ours.prompts(["cat", "dog", "green thing"], "a photo of a {}.")
    with torch.no_grad():
        torch.testing.assert_close(encode_image(ours, pixels), encode_image(own, pixels), atol=2e-6, rtol=1e-5)
        found, expected = encode_text(ours, prompts), encode_text(own, prompts)
    torch.testing.assert_close(found.final, expected.final, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(found.penultimate, expected.penultimate, atol=2e-6, rtol=1e-5)


@pytest.mark.numbers
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    x = torch.linspace(-6, 6, 999)
    torch.testing.assert_close(ACTIVATIONS[name](x), transformers.activations.ACT2FN[name](x), atol=1e-6, rtol=1e-5)


@pytest.mark.numbers
@pytest.mark.parametrize("mask", ["none", "causal", "bool", "added"])
def test_attention_step_by_step(mask):
    query, key, value = torch.randn(3, 2, 4, 7, 8, generator=torch.Generator().manual_seed(0)).unbind()
    seen = torch.ones(7, 7, dtype=torch.bool).tril()
    given = {"bool": seen, "added": torch.zeros(7, 7).masked_fill(~seen, -torch.inf)}.get(mask)
    ours = attend(query, key, value, 0.3, given, mask == "causal")
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=None if mask == "none" else seen, scale=0.3
    )
    torch.testing.assert_close(ours, expected)


@pytest.mark.numbers
def test_old_end_token_reads_a_text_at_its_largest_id():
    text = tiny_models_file.TEXT | {"vocab_size": 64, "eos_token_id": 2}
    ids = torch.tensor([[5, 2, 60, 63, 63], [5, 6, 63, 2, 2]])
    for name in ("CLIP", "MetaClip2"):
        config = getattr(transformers, f"{name}Config")(
            vision_config=tiny_models_file.VISION, text_config=text, projection_dim=16
        )
        own = getattr(transformers, f"{name}Model")(config).eval()
        kind, make = MODELS[f"{name}Model"]
        ours = make(parse(kind, config.to_dict(), "it"))
        ours.load_state_dict(own.state_dict())
        with torch.no_grad():
            expected = own.get_text_features(input_ids=ids).pooler_output
            found = encode_text(FAMILIES[config.model_type](ours), Prompts(ids)).final
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_defaults_are_the_librarys(name):
    kind, _ = MODELS[name]
    ours, own = parse(kind, {}, "it"), getattr(transformers, name).config_class()
    for part, expected in (
        (ours, own), (ours.vision_config, own.vision_config), (ours.text_config, own.text_config),
    ):  # fmt: skip
        for key, value in part.model_dump(exclude={"vision_config", "text_config"}).items():
            assert (part.hidden_size if key == "projection_size" else value) == getattr(expected, key, None), key
    with torch.device("meta"):
        other = getattr(transformers, name)(own).state_dict()
    assert shapes(empty(ours)) == {key: value.shape for key, value in other.items()}


def test_old_forms_of_configurations():
    old = {
        "model_type": "clip",
        "text_config": None,
        "text_config_dict": {"hidden_size": 64, "num_attention_heads": 4, "eos_token_id": 2},
        "vision_config": {"hidden_size": 32, "patch_size": 8, "eos_token_id": 2, "num_attention_heads": 2},
        "vision_config_dict": {"patch_size": 16, "num_attention_heads": 4},
        "eos_token_id": 7,
        "auto_map": {"AutoModel": "modeling.Model"},
    }
    ours, own = parse(MODELS["CLIPModel"][0], old, "it"), transformers.CLIPConfig(**old)
    for part in ("vision_config", "text_config"):
        for key in ("hidden_size", "patch_size", "eos_token_id", "num_attention_heads", "intermediate_size"):
            assert getattr(getattr(ours, part), key, None) == getattr(getattr(own, part), key, None), (part, key)
    assert ours.eos_token_id == own.eos_token_id == 7


def test_light():
    """Loading and running the built-in model takes no such library."""
    code = (
        "import sys\nfrom atha.backbones import Prompts, load_backbone\nimport torch\n"
        "from atha.models.forms import prediction_encoder\n"
        "backbone = load_backbone('nano')\n"
        "with torch.no_grad():\n"
        "    encoder = prediction_encoder(backbone, 'float32')\n"
        "    encoder.images(torch.zeros(1, 3, backbone.image_size, backbone.image_size))\n"
        "    encoder.texts(Prompts(torch.tensor([[0, 5, 1]])))\n"
        "backbone.content_hash(), backbone.describe()\n"
        f"print('LOADED', *(name for name in {FORBIDDEN} if name in sys.modules))\n"
        "assert backbone.tokenizer.eos_token_id == 1 and 'tokenizers' in sys.modules\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["LOADED"]


def test_text_alone_needs_the_tokenizer(folder, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("the tokenizer was read")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", never)
    monkeypatch.setattr("atha.backbones.checkpoint.read_tokenizer", never)
    backbone = load_backbone(str(folder))
    encode_image(backbone, torch.zeros(1, 3, 32, 32))
    encode_text(backbone, Prompts(torch.tensor([[0, 1]])))
    with pytest.raises(BackboneError, match="the tokenizer was read"):
        backbone.prompts(["cat"], "a photo of a {}.")
