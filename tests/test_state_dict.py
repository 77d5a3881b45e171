"""One file in OpenAI's names: there and back without a bit lost, and the same features as those who wrote it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

import atha
from adapting import encode_image, encode_text
from atha.backbones import Prompts, load_backbone
from atha.backbones.openai_names import from_openai, to_openai
from atha.backbones.state_dict import CONFIG, clip_config
from atha.errors import AthaWarning, BackboneError
from test_golden import CASES, WEIGHTS, golden_backbone

GOLDEN = {name: value for name, value in WEIGHTS.items() if not name.startswith("lora.")}
SAID = {"vision_heads": "1", "text_heads": "1", "activation": "quick_gelu"}


def save_words(folder: Path, count: int = 128) -> None:
    """A tokenizer of ``count`` words, the last of which ends a text."""
    words = ["a", "photo", "of", "cat", "dog", "red", "green", "blue", "thing", "."]
    words += [f"word{index}" for index in range(count - 2 - len(words))] + ["<s>", "</s>"]
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, "word0"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    ends = [("<s>", count - 2), ("</s>", count - 1)]
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "word0"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)


def save_golden(folder: Path, metadata: dict | None = None, words: int = 128, **changes: torch.Tensor | None) -> Path:
    """The golden model in OpenAI's names, with some weights changed, or left out (None)."""
    weights = to_openai(GOLDEN) | {name.replace("__", "."): value for name, value in changes.items()}
    file = folder / "weights.safetensors"
    save_file({name: value for name, value in weights.items() if value is not None}, file, metadata)
    save_words(folder, words)
    return file


def test_names_there_and_back(tmp_path):
    openai = to_openai(GOLDEN)
    again = from_openai(openai)
    assert again.keys() == GOLDEN.keys() == golden_backbone().model.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in GOLDEN.items())
    save_file(again, tmp_path / "model.safetensors")  # which refuses tensors that share memory
    there = to_openai(again)
    assert there.keys() == openai.keys() and all(torch.equal(there[name], value) for name, value in openai.items())
    assert len(openai) == 8 + 3 * 2 + 2 * 12 * 12  # single ones, three norms, two towers of 12 blocks with 12 each
    assert {"visual.transformer.resblocks.11.attn.in_proj_bias", "transformer.resblocks.0.ln_1.weight"} <= openai.keys()


def test_configuration_from_shapes():
    config, own = clip_config(to_openai(GOLDEN), "quick_gelu", 1, 1), golden_backbone().model.config
    for tower in ("vision_config", "text_config"):
        for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act"):
            assert getattr(getattr(config, tower), key) == getattr(getattr(own, tower), key)
    assert (config.vision_config.image_size, config.vision_config.patch_size) == (64, 16)
    assert (config.text_config.max_position_embeddings, config.text_config.vocab_size) == (24, 128)
    assert config.text_config.eos_token_id == 127
    assert config.projection_dim == 32


def test_loaded_model_gives_the_golden_features(tmp_path, recwarn):
    backbone, golden = load_backbone(str(save_golden(tmp_path, SAID))), golden_backbone()
    assert not [warning for warning in recwarn if warning.category is AthaWarning]
    assert (backbone.family, backbone.image_size, backbone.grid) == ("clip", 64, (4, 4))
    assert backbone.name == str(tmp_path / "weights.safetensors")
    prompts = Prompts(CASES["input_ids"])
    with torch.no_grad():
        for ours, theirs in (
            (encode_image(backbone, CASES["pixel_values"]), encode_image(golden, CASES["pixel_values"])),
            (encode_text(backbone, prompts).final, encode_text(golden, prompts).final),
            (encode_text(backbone, prompts).penultimate, encode_text(golden, prompts).penultimate),
        ):
            torch.testing.assert_close(ours, theirs, atol=3e-6, rtol=0)


@pytest.mark.parametrize("form", ["module", "half", "scalars", "one dimension"])
def test_forms_that_checkpoints_have(form, tmp_path):
    file = save_golden(tmp_path, SAID)
    plain = load_backbone(str(file))
    weights = load_file(file)
    if form == "module":
        weights = {f"module.{name}": value for name, value in weights.items()}
    elif form == "half":
        weights = {name: value.half() for name, value in weights.items()}
    elif form == "scalars":
        weights |= {name: torch.tensor(3) for name in ("input_resolution", "context_length", "vocab_size")}
        weights |= {"attn_mask": torch.zeros(24, 24), "position_ids": torch.arange(24)}
    else:
        weights["logit_scale"] = weights["logit_scale"].reshape(1)
    save_file(weights, file, SAID)
    backbone = load_backbone(str(file))
    assert {value.dtype for value in backbone.model.state_dict().values()} == {torch.float32}
    for name, value in plain.model.state_dict().items():
        expected = value.half().float() if form == "half" else value
        assert torch.equal(backbone.model.state_dict()[name], expected)


def test_activation_that_is_not_said(tmp_path):
    file = save_golden(tmp_path, {"vision_heads": "1", "text_heads": "1"})
    with pytest.warns(AthaWarning, match="quick_gelu is taken"):
        assert load_backbone(str(file)).model.config.vision_config.hidden_act == "quick_gelu"
    (tmp_path / CONFIG).write_text(json.dumps({"quick_gelu": False}))
    assert load_backbone(str(file)).model.config.text_config.hidden_act == "gelu"
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    assert load_backbone(str(file)).model.config.text_config.hidden_act == "quick_gelu"


ZEROS = torch.zeros(2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visual__proj": None}, "'visual.proj': get the whole"),
        ({"transformer__resblocks__3__ln_2__bias": None}, "'transformer.resblocks.3.ln_2.bias': get the whole"),
        ({"text_projection": None}, "'text_projection' of CLIP's weights is missing"),
        ({"visual__proj": ZEROS}, r"'visual.proj' has shape \(2,\) and should have \(64, 32\)"),
        ({"positional_embedding": ZEROS}, r"'positional_embedding' has shape \(2,\), which is not CLIP's"),
        ({"visual__positional_embedding": torch.zeros(16, 64)}, r"has shape \(16, 64\) and should have \(10, 64\)"),
        ({"logit_bias": ZEROS}, "'logit_bias': load it through open_clip, as --model open_clip:ARCH/FILE"),
        ({"visual__layer1__0__conv1__weight": ZEROS}, "convolutional vision tower.* open_clip:ARCH/FILE"),
        ({"text__ln_final__weight": ZEROS}, "towers of open_clip's own.* open_clip:ARCH/FILE"),
        ({"visual__trunk__norm__weight": ZEROS}, "towers of open_clip's own.* open_clip:ARCH/FILE"),
        ({"visual__conv1__weight": None}, "no visual.conv1.weight"),
        ({"vision_model__post_layernorm__bias": ZEROS}, "has transformers' names.*: give "),
    ],
)
def test_weights_that_are_not_clips(changes, message, tmp_path):
    file = save_golden(tmp_path, SAID, **changes)
    with pytest.raises(BackboneError, match=f"^{re.escape(str(file))}.*{message}"):
        load_backbone(str(file))


@pytest.mark.parametrize(
    ("metadata", "beside", "message"),
    [
        ({}, {}, "the number of attention heads is not known for a width of 48.*text_heads"),
        ({"text_heads": "7"}, {}, "7 attention heads do not fit for a width of 48"),
        ({"text_heads": "many"}, {}, "cannot be loaded.*'many'"),
        (SAID | {"activation": "relu"}, {}, "activation 'relu' is not known"),
        (SAID, {"vision_cfg": {"width": 128}}, "says width 128 of the vision tower and the weights have 64"),
        (
            SAID,
            {"text_cfg": {"context_length": 77}},
            "says context_length 77 of the text tower and the weights have 24",
        ),
        (SAID, {"text_cfg": {"no_causal_mask": True}}, "no_causal_mask True, which is no CLIP.*open_clip:ARCH/FILE"),
        (SAID, {"vision_cfg": {"pool_type": "avg"}}, "pool_type 'avg', which is no CLIP"),
        (SAID, {"vision_cfg": 3}, "vision_cfg in open_clip_config.json is no table"),
    ],
)
def test_settings_that_do_not_fit(metadata, beside, message, tmp_path):
    file = save_golden(tmp_path, metadata)
    if beside:
        (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": beside}))
    with pytest.raises(BackboneError, match=message):
        load_backbone(str(file))


def test_files_that_cannot_be_read(tmp_path):
    for name, message in {
        "torn.safetensors": "cannot be read as safetensors",
        "weights.pt": "not safetensors, and no other is opened",
        "weights.bin": "not safetensors, and no other is opened",
    }.items():
        (tmp_path / name).write_bytes(b"version https://example.org/spec\n" * 9)
        with pytest.raises(BackboneError, match=message):
            load_backbone(str(tmp_path / name))
    with pytest.raises(BackboneError, match=r"there is no file .*gone.safetensors"):
        load_backbone(str(tmp_path / "gone.safetensors"))
    file = save_golden(tmp_path, SAID)
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(str(file))


def test_tokenizer_of_another_model(tmp_path, monkeypatch):
    file = save_golden(tmp_path, SAID, words=100)
    with pytest.raises(BackboneError, match="a vocabulary of 128 and its tokenizer one of 100"):
        load_backbone(str(file)).token_ids(["cat"])
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    save_words(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<s>"}))
    with pytest.raises(BackboneError, match="ends texts with token 126 and OpenAI's CLIP reads them at the last, 127"):
        load_backbone(str(file)).token_ids(["cat"])
    (tmp_path / "tokenizer.json").unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"pip install 'atha\[open-clip\]', or put the tokenizer's files"):
        load_backbone(str(file))


def test_image_processor_beside_the_weights(tmp_path):
    file = save_golden(tmp_path, SAID)
    own = load_backbone(str(file)).image_processor
    assert own.image_mean == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert (own.size["shortest_edge"], own.crop_size["height"], own.rescale_factor) == (64, 64, 1 / 255)
    images = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": {}, "preprocess_cfg": images}))
    squashed = load_backbone(str(file)).image_processor
    assert (*squashed.image_mean, *squashed.image_std) == (0.5, 0.5, 0.5, 0.25, 0.25, 0.25)
    assert squashed.plain(Image.new("RGB", (90, 30))).shape == (3, 64, 64)
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": {}, "preprocess_cfg": {"resize_mode": "longest"}}))
    with pytest.raises(BackboneError, match="resizes images by 'longest'"):
        load_backbone(str(file))
    transformers.CLIPImageProcessor(size={"shortest_edge": 64}, image_mean=[0.1, 0.2, 0.3]).save_pretrained(tmp_path)
    assert load_backbone(str(file)).image_processor.image_mean == pytest.approx([0.1, 0.2, 0.3])


def test_adapter_finds_the_file_again(support, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    file = save_golden(tmp_path / "models", SAID)
    file.rename(file.with_name("blob"))  # as caches have it: the name is a link to a file without an ending
    file.symlink_to("blob")
    monkeypatch.chdir(tmp_path)
    clf = atha.Classifier.from_pretrained("models/weights.safetensors", recipe=short("paper"))
    clf.fit(support).save_pretrained("adapter")
    files = sorted(support.glob("*/*.png"))
    monkeypatch.chdir("models")
    again = atha.Classifier.from_pretrained(tmp_path / "adapter")
    assert np.array_equal(again.predict_proba(files), clf.predict_proba(files))


def short(preset: str) -> atha.Recipe:
    return atha.Recipe.load(preset, ["training.steps=6", "training.lora.lr=5e-3"])


TEXTS = [
    "a photo of a cat.", "Histology of adenocarcinoma, stage 3!", "it's the dog's 2nd   walk (we've seen)", "",
    "naïve café über straße", "日本語 текст", "x-ray: 10.5% #hash a_b/c", "don't I'll you're he'd", "🙂 ok",
]  # fmt: skip


@pytest.fixture(scope="module")
def theirs():
    """open_clip's own CLIP, tiny, with random weights."""
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    settings = {
        "embed_dim": 24,
        "quick_gelu": False,
        "vision_cfg": {"layers": 3, "width": 64, "head_width": 16, "patch_size": 8, "image_size": 32},
        "text_cfg": {"layers": 2, "width": 32, "heads": 2, "context_length": 77, "vocab_size": 49408},
    }
    return settings, open_clip.model.CLIP(**settings).eval(), open_clip.get_tokenizer("ViT-B-32")


@pytest.fixture
def file(theirs, tmp_path):
    settings, model, _ = theirs
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": {}}))
    return tmp_path / "open_clip_model.safetensors"


@pytest.mark.parametrize("quick", [False, True])
def test_features_equal_open_clips(quick, theirs, file):
    import open_clip

    settings, model, tokenize = theirs
    settings = settings | {"quick_gelu": quick}
    other = open_clip.model.CLIP(**settings).eval()
    other.load_state_dict(model.state_dict())
    (file.parent / CONFIG).write_text(json.dumps({"model_cfg": settings}))
    backbone = load_backbone(str(file))
    pixels = torch.randn(3, 3, 32, 32)
    names = ["cat", "lymph node", "Red-Thing"]
    with torch.no_grad():
        torch.testing.assert_close(encode_image(backbone, pixels), other.encode_image(pixels), atol=1e-6, rtol=0)
        texts = other.encode_text(tokenize([f"a photo of a {name}." for name in names]))
        prompts = backbone.prompts(names, "a photo of a {}.")
        torch.testing.assert_close(encode_text(backbone, prompts).final, texts, atol=1e-6, rtol=0)
    assert backbone.logit_scale == pytest.approx(model.logit_scale.exp().item())


def test_tokens_equal_open_clips(theirs, file):
    ids = load_backbone(str(file)).token_ids(TEXTS)
    for text, found, expected in zip(TEXTS, ids, theirs[2](TEXTS).tolist(), strict=True):
        assert found == expected[: len(found)] and not any(expected[len(found) :]), text
    assert ids[0][0] == 49406 and ids[0][-1] == 49407


def test_fit_save_and_load(file, support, tmp_path):
    clf = atha.Classifier.from_pretrained(str(file), recipe=short("paper")).fit(support)
    assert clf.history[-1] < clf.history[0]
    clf.save_pretrained(tmp_path / "adapter")
    files = sorted(support.glob("*/*.png"))
    again = atha.Classifier.from_pretrained(tmp_path / "adapter")
    assert np.array_equal(again.predict_proba(files), clf.predict_proba(files))
