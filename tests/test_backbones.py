"""One matrix over the families, each a tiny random model of the library's own classes, saved and loaded for real."""

import copy
import importlib
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

import atha
import tiny_models as tiny_models_file
import tiny_open_clip
from adapting import Adapting, plain_encoder
from atha.backbones import FAMILIES, Prompts, load_backbone
from atha.backbones.clip import ClipBackbone
from atha.backbones.siglip2 import patchify
from atha.errors import BackboneError
from atha.models.encoder import cosine
from atha.models.forms import prediction_encoder
from atha.recipe import Recipe
from atha.reports.adaptation import adaptation_report

# Of a square, the library makes the very grid that is used here; of another shape, a grid of that shape.
SHAPE = {"siglip2": (70, 70)}


def noise(kind: str) -> Image.Image:
    height, width = SHAPE.get(kind, (50, 70))
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """A function from a kind to its model, each of which is made once."""
    return cache(lambda kind: tiny_models_file.make(kind, tmp_path_factory.mktemp(kind)))


@pytest.fixture(params=tiny_models_file.KINDS)
def tiny(request, tiny_models):
    return tiny_models(request.param)


@pytest.fixture(params=sorted(tiny_models_file.SAVE))
def folder(request, tiny_models):
    """Of a model of transformers."""
    return tiny_models(request.param).folder


@pytest.fixture(scope="session")
def loaded(tiny_models):
    """A function from a kind to its backbone, which is loaded once: nothing that uses one changes it."""
    return cache(lambda kind: load_backbone(tiny_models(kind).name))


@pytest.fixture
def backbone(tiny, loaded):
    return loaded(tiny.kind)


@pytest.fixture(params=tiny_models_file.WITH_TOKENS)
def tiny_with_tokens(request, tiny_models):
    return tiny_models(request.param)


@pytest.fixture
def aligned(tiny_with_tokens, loaded):
    """A backbone whose tokens can be aligned."""
    return loaded(tiny_with_tokens.kind)


@pytest.mark.numbers
def test_features_equal_the_librarys_own(backbone, tiny):
    images, texts = [noise(tiny.kind)], ["a photo of a cat.", "a photo of a dog."]
    recipe = Recipe.load("lora", ["training.precision=float32"])  # `auto` is bfloat16 on some processors
    clf = atha.Classifier(backbone, classes=["cat", "dog"], recipe=recipe)
    ours = clf._now.predictor().frozen_features([clf._views.plain(images[0])])
    # open_clip resizes by Pillow, and we by transformers: a level of 255 here and there.
    same_pixels = not tiny.kind.startswith(tiny_models_file.OPEN_CLIP)
    close = {"atol": 1e-5 if same_pixels else 3e-2, "rtol": 0}
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(ours), tiny.theirs.images(images), **close)
        prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
        for encoder in (plain_encoder(backbone), prediction_encoder(backbone, "float32")):
            torch.testing.assert_close(encoder.texts(prompts).features, tiny.theirs.texts(texts), atol=1e-5, rtol=0)
        # Zero-shot probabilities are the model's own, a bias that is equal for all classes left out.
        own = tiny.theirs.logits(images, texts).double().softmax(-1).numpy()
        np.testing.assert_allclose(clf.predict_proba(images), own, atol=close["atol"])
        if not same_pixels:
            pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
            own = tiny.theirs.model.encode_image(pixels, normalize=False)
            torch.testing.assert_close(plain_encoder(backbone).images(pixels), own, atol=1e-5, rtol=0)


@pytest.mark.numbers
def test_penultimate_text_features_skip_the_last_block(backbone):
    backbone, given = copy.copy(backbone), []
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    encoder = plain_encoder(backbone)
    object.__setattr__(backbone, "anchors", lambda texts, kind: given.append(texts) or texts)
    with torch.no_grad():
        final = encoder.texts(prompts, "inverse").features
        shorter = replace(encoder, text_blocks=encoder.text_blocks[:-1]).texts(prompts).features
    torch.testing.assert_close(given[0], shorter, atol=0, rtol=0)
    assert not torch.allclose(final, given[0], atol=1e-4)


def presets_of(kind):
    """All for our own families; for others' towers both kinds of anchors, and a prompt and tokens that grow."""
    if kind in tiny_models_file.SAVE:
        return ["paper", "released", "released-fixed", "lora"]
    if kind in tiny_models_file.CONVOLUTIONAL:
        return ["lora"]
    return ["paper", "released-fixed" if kind in tiny_models_file.ROTARY else "released"]


PRECISION = {"paper": "bfloat16", "released": "float32", "released-fixed": "float32", "lora": "bfloat16"}
PRESETS = [(kind, preset) for kind in tiny_models_file.KINDS for preset in presets_of(kind)]


@pytest.mark.numbers
@pytest.mark.parametrize(("kind", "preset"), PRESETS)
def test_fit_lowers_the_loss_and_saves(loaded, kind, preset, support, tmp_path):
    settings = ["training.steps=8", "training.lora.lr=5e-3", f"training.precision={PRECISION[preset]}"]
    recipe = Recipe.load(preset, [*settings, "lora.dropout=0"])
    clf = atha.Classifier(loaded(kind), recipe=recipe)
    clf.fit(support)
    assert clf.history[-1] < clf.history[0]
    files = sorted(support.glob("*/*.png"))
    before = clf.predict_proba(files)
    clf.save_pretrained(tmp_path / "adapter")
    again = atha.Classifier.from_pretrained(tmp_path / "adapter")
    assert np.array_equal(again.predict_proba(files), before)


ZEROED = ("paper", "released-fixed")  # of other towers, each one of them


@pytest.mark.numbers
@pytest.mark.parametrize(
    ("kind", "preset"),
    [
        (kind, preset)
        for place, kind in enumerate(tiny_models_file.WITH_TOKENS)
        for preset in (ZEROED if kind in tiny_models_file.SAVE else ZEROED[place % 2 :][:1])
    ],
)
def test_strengths_at_zero_equal_lora_alone_bit_for_bit(loaded, kind, preset, support):
    """Through training too, dropout on: not a bit of loss, weights or probabilities differs."""
    steps = ["training.steps=3", "training.lora.lr=1e-2", f"training.precision={PRECISION[preset]}"]
    zero = [*steps, "alignment.pull=0", "alignment.push=0", "alignment.learn=false"]
    files = sorted(support.glob("*/*.png"))
    made = []
    for overrides in (zero, [*steps, "alignment=none"]):
        clf = atha.Classifier(loaded(kind), recipe=Recipe.load(preset, overrides)).fit(support)
        weights = clf._fitted.adaptation.tuners.lora.state()
        made.append((clf.history, weights, clf.predict_proba(files)))
    (losses, weights, probabilities), (other_losses, other_weights, other_probabilities) = made
    assert losses == other_losses
    assert weights.keys() == other_weights.keys() and weights
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    assert np.array_equal(probabilities, other_probabilities)


def everything(module):
    """All that is set on a model, down to hooks and methods."""
    return {name: {key: id(value) for key, value in vars(part).items()} for name, part in module.named_modules()}


def test_a_backbone_is_not_touched(aligned, support, tmp_path):
    """Fitting, predicting, explaining, saving: not an attribute of any module is another one."""
    modules, weights = everything(aligned.model), aligned.content_hash()
    clf = atha.Classifier(aligned, recipe=Recipe.load("released-fixed", ["training.steps=2"])).fit(support)
    file = next(support.glob("*/*.png"))
    clf.predict([file])
    clf.explain(file)
    clf.save_pretrained(tmp_path / "adapter")
    assert everything(aligned.model) == modules
    assert aligned.content_hash() == weights


@pytest.mark.numbers
def test_lora_reaches_every_projection_and_merges_to_equal_outputs(tiny):
    backbone = load_backbone(tiny.name)  # of its own: weights are merged into it
    recipe = Recipe.load("lora", ['lora.projections=["q", "k", "v", "out"]', "prompt.learn_context=false"])
    model = Adapting(backbone, recipe, backbone.prompts(["cat", "dog"], "a photo of a {}."))
    has_tokens = tiny.kind in tiny_models_file.WITH_TOKENS
    assert len(model.tuners.lora.names) == (3 + 3 * has_tokens) * 4
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def both(encoder):
        return encoder.images(pixels), encoder.texts(model.prompts).features

    with torch.no_grad():
        before = both(model.plain())
        for b in model.tuners.lora.b:
            torch.nn.init.normal_(b, std=0.2)
        beside = both(model.plain())
        for layer, pair in model.tuners.lora.pairs(backbone).items():
            layer.weight += model.tuners.lora.scaling * pair.b @ pair.a
        merged = both(plain_encoder(backbone))
    for own, adapted, inside in list(zip(before, beside, merged, strict=True))[0 if has_tokens else 1 :]:
        torch.testing.assert_close(inside, adapted, atol=2e-5, rtol=1e-4)
        assert not torch.allclose(adapted, own, atol=1e-2)


def test_explain_has_the_grid_of_the_model(aligned, tiny_with_tokens):
    clf = atha.Classifier(aligned, classes=["cat", "dog"], recipe="paper")
    found = clf.explain(noise(tiny_with_tokens.kind))
    assert found.before.similarity.shape == (3, 4, 4, 2)
    assert aligned.tokens == aligned.prefix_tokens + 16
    assert found.before.head.sum(axis=(1, 2)).tolist() == found.before.tail.sum(axis=(1, 2)).tolist() == [1, 1, 1]


@pytest.mark.numbers
def test_the_tokens_aligned_are_the_patches(aligned):
    """A patch of the image that alone is changed changes the token of its place most, at the first block."""
    seen = []
    pixels = torch.zeros(1, 3, 32, 32)
    changed = pixels.clone()
    changed[..., 8:16, 16:24] = 1  # row 1, column 2
    with torch.no_grad():
        for given in (pixels, changed):
            plain_encoder(aligned).images(given, watch=lambda block, tokens, _: block or seen.append(tokens))
    moved = (seen[1] - seen[0]).norm(dim=-1)[0]
    assert len(moved) == aligned.tokens
    assert moved.argmax() == aligned.prefix_tokens + 1 * 4 + 2
    assert moved.count_nonzero() == 1


@pytest.mark.parametrize("kind", tiny_models_file.CONVOLUTIONAL)
def test_convolutional_towers_do_all_but_alignment(tiny_models, kind, support, test_folder):
    tiny = tiny_models(kind)
    clf = atha.Classifier.from_pretrained(tiny.name, classes=["red_thing", "GreenThing", "blue thing"])
    assert clf.predict(sorted(test_folder.glob("*/*.png")))  # zero-shot, whatever the recipe
    for refused in (lambda: clf.fit(support), lambda: clf.explain(next(test_folder.glob("*/*.png")))):
        with pytest.raises(BackboneError, match="without patch tokens") as error:
            refused()
        assert "probes or lora, or a method of atha bench" in str(error.value)
    clf = atha.Classifier.from_pretrained(tiny.name, recipe=Recipe.load("lora", ["training.steps=2"]))
    assert set(clf.fit(support).compare(test_folder)) == {"zero-shot", "linear probe", "adapted"}
    assert "There are no token maps" in adaptation_report(clf, test_folder)


@pytest.mark.parametrize("kind", tiny_models_file.ROTARY)
def test_rotary_positions_allow_no_more_tokens(tiny_models, kind, support):
    clf = atha.Classifier.from_pretrained(tiny_models(kind).name, recipe="released")
    with pytest.raises(BackboneError, match="keep_cls_out"):
        clf.fit(support)


@pytest.mark.numbers
@pytest.mark.parametrize("anchors", ["adjoint", "inverse"])
def test_a_token_moved_along_its_anchor_raises_its_class(aligned, anchors):
    """At the last block, where a token's own path into the feature is shortest; CLS for CLIP, all tokens for SigLIP."""
    backbone = aligned
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 3, 32, 32, generator=generator)
    encoder = plain_encoder(backbone)
    with torch.no_grad():
        directions = torch.nn.functional.normalize(encoder.texts(prompts, anchors).anchors, dim=-1)
        blocks = encoder.text_blocks if anchors == "adjoint" else encoder.text_blocks[:-1]
        target = replace(encoder, text_blocks=blocks).texts(prompts).features
        raised = []
        for index in range(2):
            scores = []
            for push in (-0.3, 0.3):
                # Behind the last block, where the anchor is defined: in front of the last LayerNorm.
                handle = backbone.post_norm.register_forward_pre_hook(
                    lambda module, args, move=push * directions[index]: (args[0] + move,)
                )
                scores.append(cosine(encoder.images(pixels), target)[:, index])
                handle.remove()
            raised.append(scores[1] > scores[0])
    assert torch.stack(raised).float().mean() > 0.7


@pytest.mark.numbers
def test_context_is_shared_and_starts_as_the_words(backbone):
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    plain = plain_encoder(backbone).texts(prompts).features
    model = Adapting(backbone, Recipe.load("lora"), prompts)
    encoder, vectors = model.plain(), model.tuners.context.vectors
    torch.testing.assert_close(encoder.texts(prompts).features, plain.float(), atol=1e-6, rtol=0)
    encoder.texts(prompts).features.sum().backward()
    assert vectors.grad.abs().sum() > 0
    with torch.no_grad():
        vectors.add_(torch.randn_like(vectors))
        moved = encoder.texts(prompts).features
        assert (moved - plain).abs().amax(dim=1).min() > 1e-4  # every class text
        torch.testing.assert_close(plain_encoder(backbone).texts(prompts).features, plain, atol=0, rtol=0)


def test_text_too_long_names_the_class(backbone):
    with pytest.raises(BackboneError, match="class 'very very"):
        backbone.prompts(["cat", " ".join(["very"] * 60)], "a photo of a {}.")


# The processor of siglip2 has no size of its own and is given the model's.
@pytest.mark.parametrize("kind", sorted(tiny_models_file.SAVE.keys() - {"siglip2"}))
def test_processor_that_makes_another_size(tiny_models, kind, tmp_path):
    folder, copy = tiny_models(kind).folder, tmp_path / "copy"
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "preprocessor_config.json").read_text())
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
    tiny_models_file.make(family, tmp_path)
    (tmp_path / "spiece.model").unlink(missing_ok=True)
    tokenizer = transformers.GemmaTokenizer(**tiny_models_file.train_bpe(), add_bos_token=False, add_eos_token=True)
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
    tiny_models_file.make("metaclip_2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match="ends texts with token 2 and its text tower reads them at token 3"):
        load_backbone(str(tmp_path)).prompts(["cat"], "a photo of a {}.")


@pytest.mark.parametrize(("size", "patch", "rows"), [(224, 32, 7), (224, 14, 16), (336, 14, 24)])
def test_published_shapes_of_clip(size, patch, rows):
    """ViT-B/32, ViT-L/14 and ViT-L/14-336 in image and patch size."""
    vision = tiny_models_file.VISION | {"num_hidden_layers": 2, "image_size": size, "patch_size": patch}
    text = tiny_models_file.TEXT | {"num_hidden_layers": 2, "vocab_size": 64, "eos_token_id": 63}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    backbone = ClipBackbone(transformers.CLIPModel(config))
    assert (backbone.grid, backbone.image_size) == ((rows, rows), size)
    seen = []
    model = Adapting(backbone, Recipe.load("paper"), Prompts(torch.tensor([[1, 2, 63], [1, 3, 63]])))
    pixels, encoder = torch.randn(2, 3, size, size), model.predicting()
    with torch.no_grad():
        anchors = encoder.texts(model.prompts).anchors
        aligned = encoder.images(pixels, anchors)
        plain = encoder.images(pixels, watch=lambda block, tokens, _: seen.append(tokens.shape[1]))
    assert seen == [1 + rows**2] * 2
    assert aligned.shape == plain.shape == (2, 16)
    assert aligned.isfinite().all() and not torch.equal(aligned, plain)


@pytest.mark.numbers
def test_the_documents_example_of_a_family_works(tmp_path, monkeypatch, support):
    """The code of docs/how-to/add-a-backbone.md, in a file of its own and with its one line."""
    document = (Path(__file__).parents[1] / "docs" / "how-to" / "add-a-backbone.md").read_text()
    (tmp_path / "chinese_clip_of_the_document.py").write_text(document.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    family = importlib.import_module("chinese_clip_of_the_document").ChineseClipBackbone
    monkeypatch.setitem(FAMILIES, family.family, family)
    torch.manual_seed(0)
    text = tiny_models_file.TEXT | {"vocab_size": 64, "max_position_embeddings": 64}
    config = transformers.ChineseCLIPConfig(vision_config=tiny_models_file.VISION, text_config=text, projection_dim=16)
    model = transformers.ChineseCLIPModel(config).eval()
    model.save_pretrained(tmp_path / "model")
    tiny_open_clip.save_letters(tmp_path / "model")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.CLIPImageProcessor(**size).save_pretrained(tmp_path / "model")
    backbone = load_backbone(str(tmp_path / "model"))
    prompts = backbone.prompts(["cat", "dog"], "a photo of a {}.")
    read = backbone.tokenizer(["a photo of a cat.", "a photo of a dog."], padding=True, return_tensors="pt")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        own = model.get_text_features(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).pooler_output
        torch.testing.assert_close(plain_encoder(backbone).texts(prompts).features, own, atol=1e-5, rtol=0)
        own = model.get_image_features(pixel_values=pixels).pooler_output
        torch.testing.assert_close(plain_encoder(backbone).images(pixels), own, atol=1e-5, rtol=0)
    recipe = Recipe.load("paper", ["training.steps=8", "training.lora.lr=5e-3", "lora.dropout=0"])
    clf = atha.Classifier.from_pretrained(str(tmp_path / "model"), recipe=recipe).fit(support)
    assert clf.history[-1] < clf.history[0]
    assert clf.record.run.lora_layers == (3 + 3) * 3
    clf.save_pretrained(tmp_path / "adapter")
    files = sorted(support.glob("*/*.png"))
    again = atha.Classifier.from_pretrained(tmp_path / "adapter")
    assert np.array_equal(again.predict_proba(files), clf.predict_proba(files))
