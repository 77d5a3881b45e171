"""What is shown of the tokens is what the forward pass computed with."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import atha
from atha import alignment
from atha.errors import DataError
from atha.methods import ViewedImages
from tiny_models import NANO_FOLDER, SAVE

STEPS = ["training.steps=2", "training.lora.lr=1e-3", "training.precision=float32"]
ALIGNED = ["paper", "released", "released-fixed"]


@pytest.fixture(scope="module")
def photo(test_folder):
    return str(sorted(test_folder.rglob("*.png"))[0])


@pytest.fixture(scope="module")
def fitted(support):
    made = {}

    def fit(recipe, model="nano"):
        key = (recipe, model)
        if key not in made:
            made[key] = atha.Classifier.from_pretrained(model, recipe=atha.Recipe.load(recipe, STEPS)).fit(support)
        return made[key]

    return fit


@pytest.fixture(scope="module", params=sorted(SAVE))
def tiny(request, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp(f"tokens-{request.param}")
    SAVE[request.param](path)
    return str(path)


def selections_of(clf, image, monkeypatch):
    """The selections of an ordinary prediction, which nobody watches."""
    kept = []
    original = alignment.select_tokens

    def spy(*args, **kwargs):
        kept.append(original(*args, **kwargs))
        return kept[-1]

    with monkeypatch.context() as patch:
        patch.setattr(alignment, "select_tokens", spy)
        probabilities = clf.predict_proba([image])[0]
    return kept, probabilities


@pytest.mark.parametrize("recipe", ALIGNED)
def test_shown_equals_used_number_for_number(recipe, fitted, photo, monkeypatch):
    clf = fitted(recipe)
    used, probabilities = selections_of(clf, photo, monkeypatch)
    shown = clf.explain(photo).after
    rows, columns = clf.backbone.grid
    assert len(used) == shown.blocks == len(clf.backbone.vision_blocks)
    assert np.array_equal(shown.probabilities, probabilities)
    for block, selection in enumerate(used):
        scores = selection.similarity[0].numpy()
        prefix = len(scores) - rows * columns
        assert prefix == (block + 1 if recipe == "released" else 0)
        assert np.array_equal(shown.similarity[block].reshape(rows * columns, -1), scores[prefix:])
        assert np.array_equal(shown.prefix_similarity[block], scores[:prefix])
        for indices, mask, count in (
            (selection.head, shown.head, shown.prefix_head), (selection.tail, shown.tail, shown.prefix_tail)
        ):  # fmt: skip
            chosen = set(indices[0].tolist())
            assert {int(place) + prefix for place in np.flatnonzero(mask[block])} | {
                place for place in chosen if place < prefix
            } == chosen
            assert count[block] == sum(place < prefix for place in chosen)


def test_exactly_the_marked_patches_are_moved(fitted, photo):
    clf = fitted("paper")
    rows, columns = clf.backbone.grid
    seen = {"before": {}, "after": {}}
    fitted_model = clf._fitted
    encoder = fitted_model.encoder

    def recorded(number, block):
        def run(tokens, **options):
            seen["after"][number] = tokens
            return block(tokens, **options)

        return run

    blocks = [recorded(number, block) for number, block in enumerate(encoder.vision_blocks)]
    vars(fitted_model)["encoder"] = replace(encoder, vision_blocks=blocks)
    plain = clf._views.plain(Image.open(photo).convert("RGB"))
    images = ViewedImages(plain[None], clf._views, clf._frozen)
    fitted_model.look(images, lambda block, tokens, _: seen["before"].__setitem__(block, tokens))
    fitted_model.release()
    shown = clf.explain(photo).after
    assert (shown.pull != 0).all()
    assert (shown.push != 0).all()
    for block in range(shown.blocks):
        moved = (seen["before"][block] != seen["after"][block]).any(dim=-1)[0]
        assert not moved[0]
        marked = shown.head[block] | shown.tail[block]
        assert np.array_equal(moved[1:].numpy().reshape(rows, columns), marked)


def test_the_frozen_state_is_scored_on_the_librarys_own_hidden_states(fitted, photo):
    clf = fitted("paper")
    shown = clf.explain(photo).before
    frozen = atha.Classifier.from_pretrained("nano", classes=clf.class_texts, recipe=clf.recipe)
    pixels = frozen._views.normalise(frozen._views.plain(Image.open(photo).convert("RGB"))[None])
    with torch.no_grad():
        own = transformers.CLIPModel.from_pretrained(NANO_FOLDER, dtype="float32").eval()
        hidden = own.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        prompts = frozen.backbone.prompts(frozen.classes.texts, "a photo of a {}.")
        anchors = frozen._frozen.encoder.texts(prompts, "adjoint").anchors
    for block in range(shown.blocks):
        wanted = torch.cosine_similarity(hidden[block][0, 1:, None], anchors[None], dim=-1)
        assert np.allclose(shown.similarity[block].reshape(-1, len(anchors)), wanted.numpy(), atol=1e-5)
        best = wanted.amax(dim=1)
        assert best[torch.from_numpy(shown.head[block].flatten())].min() >= best.sort().values[-6] - 1e-5
    assert np.array_equal(shown.probabilities, frozen.predict_proba([photo])[0])
    assert not shown.moves


def test_every_family_with_and_without_alignment(tiny, fitted, photo):
    untouched = atha.Classifier.from_pretrained(tiny, classes=["red", "green", "blue"]).explain(photo)
    assert untouched.after is None
    assert untouched.last is untouched.before
    for recipe in ("lora", "paper"):
        clf = fitted(recipe, tiny)
        found = clf.explain(photo)
        for maps in found.states.values():
            assert maps.similarity.shape == (3, 4, 4, 3)
            assert (abs(maps.similarity) <= 1 + 1e-6).all()
            assert maps.head.sum(axis=(1, 2)).tolist() == maps.tail.sum(axis=(1, 2)).tolist() == [1, 1, 1]
            assert np.allclose(maps.heat(1), maps.similarity[..., 1].sum(axis=0))
        assert found.after.moves == (recipe == "paper")
        assert np.array_equal(found.after.probabilities, clf.predict_proba([photo])[0])


def test_a_fixed_strength_of_nought_selects_and_moves_nothing(support, photo):
    recipe = atha.Recipe.load("paper", [*STEPS, "alignment.learn=false", "alignment.push=0"])
    found = atha.Classifier.from_pretrained("nano", recipe=recipe).fit(support).explain(photo).after
    assert np.flatnonzero(found.pull).tolist() == [7 * 8 // 12]
    assert not found.push.any()
    assert found.head.any(axis=(1, 2)).all()


def test_looking_changes_nothing(fitted, photo):
    clf = fitted("released-fixed")
    before, state = clf.predict_proba([photo]), torch.get_rng_state()
    first, second = clf.explain(photo), clf.explain(photo)
    assert np.array_equal(clf.predict_proba([photo]), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(first.after.similarity, second.after.similarity)


def test_a_loaded_adapter_explains_the_same(fitted, photo, tmp_path):
    for recipe in ("paper", "lora"):
        clf = fitted(recipe)
        clf.save_pretrained(tmp_path / recipe)
        loaded = atha.Classifier.from_pretrained(tmp_path / recipe).explain(photo)
        for name, maps in clf.explain(photo).states.items():
            assert np.array_equal(loaded.states[name].similarity, maps.similarity)


def test_plain_types_hold_the_same_numbers(fitted, photo):
    found = fitted("paper").explain(photo)
    read = json.loads(json.dumps(found.to_dict()))
    assert np.array_equal(np.array(read["after"]["similarity"], dtype=np.float32), found.after.similarity)
    assert read["after"]["head"] == found.after.head.tolist()
    assert read["grid"] == [8, 8]
    assert read["label"] == found.classes[int(found.after.probabilities.argmax())]


def test_unknown_class_and_block_are_named(fitted, photo):
    found = fitted("paper").explain(photo)
    with pytest.raises(DataError, match="no class 'cat', the classes are"):
        found.index("cat")
    with pytest.raises(DataError, match="no block 8, the model's are 0 to 7"):
        found.after.heat(0, 8)
