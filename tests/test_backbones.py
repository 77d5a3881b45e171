"""One matrix over the families, each a tiny random model of the library's own classes, saved and loaded for real."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

import atha
from atha.backbones import FAMILIES, NANO, Prompts, load_backbone
from atha.backbones.clip import ClipBackbone
from atha.backbones.siglip2 import patchify
from atha.errors import BackboneError
from atha.recipe import Recipe
from atha.tuners import TunedModel, cosine

NANO_FOLDER = Path(atha.backbones.__file__).parent / NANO
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
VISION |= {"image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}


def save_clip(folder: Path) -> None:
    text = TEXT | {"vocab_size": 2048, "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 1}
    config = transformers.CLIPConfig(vision_config=VISION, text_config=text | {"pad_token_id": 1}, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(NANO_FOLDER / name, folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )


def make_head_lifelike(head: torch.nn.Module) -> None:
    """Attention that tells tokens apart, and a W that can be inverted: random ones have condition numbers of 1e4."""
    torch.nn.init.normal_(head.probe, std=0.5)
    torch.nn.init.orthogonal_(head.attention.out_proj.weight)
    torch.nn.init.orthogonal_(head.attention.in_proj_weight.data[2 * head.attention.embed_dim :])


def save_siglip(folder: Path) -> None:
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_prefix=str(folder / "spiece"),
        vocab_size=45,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    tokenizer = transformers.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=40)
    text = TEXT | {"vocab_size": len(tokenizer) + 8, "max_position_embeddings": 40, "projection_size": 32}
    model = transformers.SiglipModel(transformers.SiglipConfig(vision_config=VISION, text_config=text))
    make_head_lifelike(model.vision_model.head)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


SENTENCES = [f"a photo of a {name}." for name in ("red thing", "green thing", "blue thing", "cat", "dog")]


def train_bpe() -> dict:
    """Vocabulary and merges as Gemma's are: no merge across words, bytes for what is unknown."""
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False)
    trained.train_from_iterator(SENTENCES, trainer)
    model = json.loads(trained.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"]]}


def save_siglip2(folder: Path) -> None:
    tokenizer = transformers.Siglip2Tokenizer(
        **train_bpe(), model_max_length=40, padding_side="right", add_bos_token=False, add_eos_token=True
    )
    tokenizer.save_pretrained(folder)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 40, "projection_size": 32}
    text |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    vision = {key: value for key, value in VISION.items() if key != "image_size"} | {"num_patches": 16}
    model = transformers.Siglip2Model(transformers.Siglip2Config(vision_config=vision, text_config=text))
    make_head_lifelike(model.vision_model.head)
    model.save_pretrained(folder)
    transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16).save_pretrained(folder)


def save_metaclip_2(folder: Path) -> None:
    trained = tokenizers.Tokenizer(tokenizers.models.Unigram())
    split = [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()]
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(split)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(special_tokens=special, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(SENTENCES, trainer)
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    tokenizer = transformers.XLMRobertaTokenizer(vocab=[(piece, score) for piece, score in pieces])
    tokenizer.save_pretrained(folder)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 40}
    text |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = transformers.MetaClip2Config(vision_config=VISION, text_config=text, projection_dim=16)
    transformers.MetaClip2Model(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**sizes).save_pretrained(folder)


SAVE = {"clip": save_clip, "metaclip_2": save_metaclip_2, "siglip": save_siglip, "siglip2": save_siglip2}
# Of a square, the library makes the very grid that is used here; of another shape, a grid of that shape.
SHAPE = {"siglip2": (70, 70)}


def noise(family: str) -> Image.Image:
    height, width = SHAPE.get(family, (50, 70))
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def folder(request, tmp_path_factory):
    assert SAVE.keys() == FAMILIES.keys(), "a family without a tiny model"
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(request.param)
    SAVE[request.param](path)
    return path


@pytest.fixture
def backbone(folder):
    return load_backbone(str(folder))


def test_features_equal_the_librarys_own(backbone, folder):
    image = noise(backbone.family)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    recipe = Recipe.load("lora", ["training.precision=float32"])  # `auto` is bfloat16 on some processors
    clf = atha.Classifier(backbone, classes=["cat", "dog"], recipe=recipe)
    ours = clf._predictor().frozen_features([clf._views.plain(image)])
    with torch.no_grad():
        pixels = processor(images=[image], return_tensors="pt")
        theirs = model.get_image_features(**pixels).pooler_output
        torch.testing.assert_close(torch.from_numpy(ours), theirs, atol=1e-5, rtol=0)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        full = tokenizer(
            ["a photo of a cat.", "a photo of a dog."],
            padding="max_length",
            max_length=backbone.context_length,
            return_tensors="pt",
        )
        texts = model.get_text_features(input_ids=full["input_ids"]).pooler_output
        found = backbone.encode_text(backbone.prompts(["cat", "dog"], "a photo of a {}."))
        torch.testing.assert_close(found.final, texts, atol=1e-5, rtol=0)
        # Zero-shot probabilities are the model's own, a bias that is equal for all classes left out.
        logits = model(**pixels, input_ids=full["input_ids"]).logits_per_image
        own = logits.double().softmax(-1).numpy()
        np.testing.assert_allclose(clf.predict_proba([image]), own, atol=1e-5)


def test_penultimate_text_features_skip_the_last_block(backbone):
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    with torch.no_grad():
        before = backbone.encode_text(prompts)
        for parameter in backbone.text_blocks[-1].parameters():
            parameter.zero_()  # attention and MLP add nothing: the last block passes its input on
        after = backbone.encode_text(prompts)
    torch.testing.assert_close(after.final, before.penultimate, atol=1e-6, rtol=0)
    assert not torch.allclose(before.final, before.penultimate, atol=1e-4)


@pytest.mark.parametrize("preset", ["paper", "released", "released-fixed", "lora"])
def test_fit_lowers_the_loss_and_saves(folder, preset, support, tmp_path):
    recipe = Recipe.load(preset, ["training.steps=12", "training.lora.lr=5e-3", "lora.dropout=0"])
    clf = atha.Classifier.from_pretrained(str(folder), recipe=recipe)
    clf.fit(support)
    assert clf.history[-1] < clf.history[0]
    files = sorted(support.glob("*/*.png"))
    before = clf.predict_proba(files)
    clf.save_pretrained(tmp_path / "adapter")
    again = atha.Classifier.from_pretrained(tmp_path / "adapter")
    assert np.array_equal(again.predict_proba(files), before)


@pytest.mark.parametrize("preset", ["paper", "released-fixed"])
def test_strengths_at_zero_equal_lora_alone_bit_for_bit(folder, preset, support):
    """Through training too, dropout on: not a bit of loss, weights or probabilities differs."""
    steps = ["training.steps=4", "training.lora.lr=1e-2"]
    zero = [*steps, "alignment.pull=0", "alignment.push=0", "alignment.learn=false"]
    files = sorted(support.glob("*/*.png"))
    made = []
    for overrides in (zero, [*steps, "alignment=none"]):
        clf = atha.Classifier.from_pretrained(str(folder), recipe=Recipe.load(preset, overrides)).fit(support)
        weights = {name: value.clone() for name, value in clf.backbone.model.state_dict().items() if "lora_" in name}
        made.append((clf.history, weights, clf.predict_proba(files)))
    (losses, weights, probabilities), (other_losses, other_weights, other_probabilities) = made
    assert losses == other_losses
    assert weights.keys() == other_weights.keys() and weights
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert np.array_equal(probabilities, other_probabilities)


def test_backbone_is_as_it_was_after_detach(backbone):
    names = list(backbone.model.state_dict())
    before = backbone.fingerprint()
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    tuned = TunedModel(backbone, Recipe.load("released-fixed"), prompts)
    assert backbone.fingerprint() == before  # seen through LoRA
    tuned.detach()
    assert list(backbone.model.state_dict()) == names
    assert not backbone.token_embedding._forward_hooks
    assert not any(block._forward_pre_hooks for block in backbone.vision_blocks)


def test_lora_layer_count(backbone):
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    assert TunedModel(backbone, Recipe.load("paper"), prompts).lora_layer_count == (3 + 3) * 3


@pytest.mark.parametrize("anchors", ["adjoint", "inverse"])
def test_a_token_moved_along_its_anchor_raises_its_class(backbone, anchors):
    """At the last block, where a token's own path into the feature is shortest; CLS for CLIP, all tokens for SigLIP."""
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 3, 32, 32, generator=generator)
    with torch.no_grad():
        texts = backbone.encode_text(prompts)
        directions = torch.nn.functional.normalize(backbone.anchors(texts, anchors), dim=-1)
        target = texts.final if anchors == "adjoint" else texts.penultimate
        raised = []
        for index in range(2):
            scores = []
            for push in (-0.3, 0.3):
                # Behind the last block, where the anchor is defined: in front of the last LayerNorm.
                handle = backbone.post_norm.register_forward_pre_hook(
                    lambda module, args, move=push * directions[index]: (args[0] + move,)
                )
                scores.append(cosine(backbone.encode_image(pixels), target)[:, index])
                handle.remove()
            raised.append(scores[1] > scores[0])
    assert torch.stack(raised).float().mean() > 0.7


def test_context_is_shared_and_starts_as_the_words(backbone):
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    plain = backbone.encode_text(prompts).final
    tuned = TunedModel(backbone, Recipe.load("lora"), prompts)
    torch.testing.assert_close(tuned.texts().features, plain.float(), atol=1e-6, rtol=0)
    tuned.texts().features.sum().backward()
    assert tuned.context.vectors.grad.abs().sum() > 0
    with torch.no_grad():
        tuned.context.vectors.add_(torch.randn_like(tuned.context.vectors))
        moved = tuned.texts().features
        assert (moved - plain).abs().amax(dim=1).min() > 1e-4  # every class text
        with tuned.disabled():
            torch.testing.assert_close(backbone.encode_text(prompts).final, plain, atol=1e-6, rtol=0)


def test_text_too_long_names_the_class(backbone):
    with pytest.raises(BackboneError, match="class 'very very"):
        backbone.prompts(["cat", " ".join(["very"] * 60)], "a photo of a {}.")


def test_processor_that_makes_another_size(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    if not settings.get("size"):
        pytest.skip("a processor without a size of its own is given the model's")
    for key in ("size", "crop_size"):
        if settings.get(key):
            settings[key] = dict.fromkeys(settings[key], 48)
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(BackboneError, match="48x48 images and the model takes 32x32"):
        atha.Classifier.from_pretrained(str(copy))


def test_processor_settings_are_respected(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    settings |= {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7], "resample": 0}
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    clf = atha.Classifier.from_pretrained(str(copy), classes=["cat", "dog"])
    image = noise(clf.backbone.family)
    made = clf._views.normalise(clf._views.plain(image)[None])
    processor = transformers.AutoImageProcessor.from_pretrained(copy)
    expected = processor(images=[image], return_tensors="pt")["pixel_values"]
    if clf.backbone.family == "siglip2":
        made = patchify(made, 8)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)


def test_patches_are_cut_as_the_library_cuts_them():
    images = torch.arange(2 * 3 * 6 * 4.0).view(2, 3, 6, 4)
    assert torch.equal(patchify(images, 2), torch.stack([convert_image_to_patches(image, 2) for image in images]))


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_gemmas_tokenizer_is_given_lower_case_and_pads_behind(family, tmp_path):
    """As checkpoints of SigLIP 2 have it, those of a fixed resolution (`SiglipModel`) among them."""
    SAVE[family](tmp_path)
    (tmp_path / "spiece.model").unlink(missing_ok=True)
    tokenizer = transformers.GemmaTokenizer(**train_bpe(), add_bos_token=False, add_eos_token=True)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    rows = config["text_config"]["vocab_size"] = len(tokenizer)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "model.safetensors")
    weights["text_model.embeddings.token_embedding.weight"] = torch.randn(rows, 32)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    backbone = load_backbone(str(tmp_path))
    capitals = backbone.prompts(["Cat", "DOG"], "A Photo of a {}.")
    small = tokenizer(["a photo of a cat.", "a photo of a dog."], padding="max_length", max_length=40)
    behind = [[*(token for token in row if token), *([0] * 40)][:40] for row in small["input_ids"]]
    assert capitals.input_ids.tolist() == behind
    assert capitals.context == slice(0, len(tokenizer("a photo of a", add_special_tokens=False)["input_ids"]))


def test_metaclip_2_with_another_end_token_is_refused(tmp_path):
    save_metaclip_2(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="ends texts with token 2 and its text tower reads them at token 3"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize(("size", "patch", "rows"), [(224, 32, 7), (224, 14, 16), (336, 14, 24)])
def test_published_shapes_of_clip(size, patch, rows):
    """ViT-B/32, ViT-L/14 and ViT-L/14-336 in image and patch size."""
    vision = VISION | {"num_hidden_layers": 2, "image_size": size, "patch_size": patch}
    text = TEXT | {"num_hidden_layers": 2, "vocab_size": 64, "eos_token_id": 63}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    backbone = ClipBackbone(transformers.CLIPModel(config))
    assert (backbone.grid, backbone.image_size) == ((rows, rows), size)
    seen = []
    backbone.vision_blocks[-1].register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    tuned = TunedModel(backbone, Recipe.load("paper"), Prompts(torch.tensor([[1, 2, 63], [1, 3, 63]])))
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        aligned, plain = tuned.image_features(pixels, tuned.texts()), backbone.encode_image(pixels)
    assert seen == [1 + rows**2] * 2
    assert aligned.shape == plain.shape == (2, 16)
    assert aligned.isfinite().all() and not torch.equal(aligned, plain)
