"""One answer for an image, bit for bit: alone, in any batch, at any place, with one thread and two, in many threads.

Every product is made with a fixed number of rows by one core, see `atha.models.inference`: no tolerance is needed.
"""

import copy
import os
import pickle
import subprocess
import sys
import threading
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

import atha
from adapting import Adapting
from atha.backbones.clip import ClipBackbone
from atha.data.reading import AS_BEFORE
from atha.data.views import Views
from atha.fitting import Learned
from atha.methods.tuned import FittedRecipe
from atha.models import inference
from atha.models.adaptation import Adaptation
from atha.models.forms import prediction_encoder
from atha.models.inference import group_size, in_groups
from atha.recipe import Recipe
from conftest import COLOURS, write_images
from tiny_models import NANO_FOLDER

CLASSES = ["red thing", "a green thing", "blue"]
# A ViT-B/16 in all but depth: one block of all tokens, and the last, which works for the first token alone.
VISION = {"patch_size": 16, "num_hidden_layers": 2}
TEXT = {"num_hidden_layers": 1, "vocab_size": 2048, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


@cache
def backbone_of(size: str):
    """One of each size, which nothing changes."""
    nano = atha.load_backbone("nano")
    if size == "nano":
        return nano
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT))
    return ClipBackbone(model, nano.tokenizer, CLIPImageProcessor(), name=size)


def classifier_of(backbone, precision: str) -> atha.Classifier:
    """Adapted, with values of some size in all that is trained."""
    recipe = Recipe.load("released-fixed", {"training.precision": precision})
    clf = atha.Classifier(backbone, classes=CLASSES, recipe=recipe, device="cpu")
    model = Adapting(backbone, recipe, backbone.prompts(CLASSES, recipe.prompt.template)).shake(0.02)
    with torch.no_grad():
        texts = model.plain().texts(model.prompts)
    fitted = FittedRecipe(recipe, Adaptation(model.tuners, texts, 20.0), clf._frozen)
    clf._learned = Learned(clf.classes, fitted, None, SimpleNamespace(read_as=AS_BEFORE))
    return clf


def photos(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made():
    return {}


@pytest.fixture(scope="module")
def one_each(tmp_path_factory):
    """A support set of one image of each class."""
    return write_images(tmp_path_factory.mktemp("one_each"), COLOURS, 1)


@pytest.mark.numbers
@pytest.mark.parametrize(
    ("size", "count", "precision"),
    # Fewer images where bfloat16 may be emulated, of three groups still and of a part of one.
    [("nano", 33, "float32"), ("nano", 9, "bfloat16"), ("vit-b-16", 3, "float32"), ("vit-b-16", 2, "bfloat16")],
)
def test_whatever_is_beside_it(made, size, count, precision, threads):
    if (size, precision) not in made:
        made[size, precision] = classifier_of(backbone_of(size), precision), {}
    clf, seen = made[size, precision]
    images = photos(count)

    def in_batches(some, size):
        return np.array([one.probabilities for one in clf.stream(some, batch_size=size)])

    found = in_batches(images, 32)
    assert len({tuple(row) for row in found}) == count, "images differ, and so do their answers"
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12, rtol=0)
    # With another number of threads too.
    assert np.array_equal(seen.setdefault("first", found), found)
    for batch in (2, 7):
        assert np.array_equal(in_batches(images[: 2 * batch], batch), found[: 2 * batch]), batch
    order = np.random.default_rng(1).permutation(count)[:12]
    assert np.array_equal(clf.predict_proba([images[place] for place in order]), found[order])
    few = range(0, count, max(1, count // 3))
    features, views = clf._now.predictor().frozen_features, [clf._views.plain(images[i]) for i in few]
    assert np.array_equal(features(views), np.concatenate([features([view]) for view in views]))
    # Again and again: from the second time on, one image alone may go another way through the model, in float32.
    for _ in range(2 if precision == "float32" else 1):
        assert np.array_equal(np.concatenate([clf.predict_proba([images[place]]) for place in few]), found[few])


class Seen:
    """A view of nano, images of one colour, and sizes and threads of the groups in which they were worked on."""

    def __init__(self, count: int, change: float = 0.0, precision: str = "float32") -> None:
        backbone = atha.load_backbone("nano")
        self.encoder, self.change = prediction_encoder(backbone, precision), change
        self.views = Views(backbone.image_processor, backbone.image_size, "cdfsl")
        self.images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        self.groups: list[tuple[int, int]] = []

    def __call__(self, count: int) -> list[float]:
        """Of each image a number that, with ``change``, depends on what is beside it."""

        def work(pixels: torch.Tensor) -> torch.Tensor:
            self.groups.append((len(pixels), torch.get_num_threads()))
            return pixels[:, 0, 0, 0] + self.change * len(pixels)

        return in_groups(self.images[:count], self.views, self.encoder, work).tolist()


def test_groups_have_one_size():
    seen = Seen(9)
    assert group_size(seen.encoder.backbone) == 4
    found = seen(9)
    assert [count for count, _ in seen.groups] == [4, 4, 4]
    assert found == sorted(set(found))


@pytest.mark.parametrize("change", [0.0, 1e-6])
def test_a_lone_group_is_spared_copies_only_where_no_bit_changes(threads, change):
    seen = Seen(4, change)
    right = seen(4)[:3]
    for _ in range(4):
        assert seen(3) == right
    tried = {(3, 1), (4, 1)} | ({(3, 2), (4, 2)} if threads == 2 else set())
    assert set(seen.groups) == tried
    if change:
        assert {count for count, _ in seen.groups[-2:]} == {4}


def test_in_less_precision_a_lone_group_goes_as_any_other(threads):
    """Most images would hide another order of terms there, which shows in others."""
    seen = Seen(4, precision="bfloat16")
    for _ in range(4):
        seen(3)
    assert set(seen.groups) == {(4, 1)}


def test_all_threads_are_for_one_group_at_a_time(monkeypatch):
    seen = Seen(1)
    monkeypatch.setattr(inference, "_fastest", lambda go, sure, others: (go(sure), inference._Way(1, spread=True)))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen(1), seen(1), seen(1)
        with inference._all_threads:
            seen(1)
    finally:
        torch.set_num_threads(before)
    assert seen.groups == [(4, 1), (4, 1), (1, 2), (4, 1)]


@pytest.mark.parametrize(
    ("size", "calls", "precision"),
    [
        ("nano", 8, "float32"),
        ("nano", 1, "bfloat16"),
        ("vit-b-16", 2, "float32"),  # its fit in bfloat16 takes minutes where that is emulated
        *(
            pytest.param(size, 200, precision, marks=pytest.mark.slow)
            for size in ("nano", "vit-b-16")
            for precision in ("float32", "bfloat16")
        ),
    ],
)
def test_many_threads_and_a_fit_meanwhile(one_each, precision, size, calls):
    """Two classifiers over one loaded backbone, from eight threads, while a third is fitted on it."""
    backbone = backbone_of(size)
    frozen = Recipe.load("lora", {"training.precision": precision})
    one, other = classifier_of(backbone, precision), atha.Classifier(backbone, classes=CLASSES, recipe=frozen)
    steps = 2 if (size, precision) == ("nano", "float32") else 1
    quick = Recipe.load("released-fixed", {"training.steps": steps, "training.precision": precision})
    images = photos(4)
    expected = [one.predict_proba(images), other.predict_proba(images)]
    alone = atha.Classifier(backbone, recipe=quick).fit(one_each).predict_proba(images)
    wrong = []

    def ask(number: int) -> None:
        for call in range(calls):
            clf, right = ((one, expected[0]), (other, expected[1]))[(number + call) % 2]
            place = (number + call) % len(images)
            found = clf.predict_proba(images[place : place + 1])
            if not np.array_equal(found, right[place : place + 1]):
                wrong.append((number, call))

    workers = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(8)]
    for worker in workers:
        worker.start()
    fitted = atha.Classifier(backbone, recipe=quick).fit(one_each).predict_proba(images)
    for worker in workers:
        worker.join(timeout=300)
        assert not worker.is_alive()
    assert not wrong
    assert np.array_equal(fitted, alone)


def test_who_predicts_while_it_is_fitted_anew_has_the_one_before_or_the_new_one(tiny_clip, support, tmp_path):
    """Never the classes of one and the weights of the other."""
    fewer = write_images(tmp_path / "fewer", {"red thing": (200, 60, 60), "blue thing": (60, 60, 200)}, 2)
    image = photos(1)
    clf = atha.Classifier.from_pretrained(tiny_clip, recipe="prototypes").fit(support)

    def said() -> tuple[object, ...]:
        [found] = clf.stream(image)
        return found.label, *found.probabilities

    right = {said()}
    clf.fit(fewer)
    right.add(said())
    seen, wrong, ended = set(), [], threading.Event()

    def ask() -> None:
        while not ended.is_set():
            try:
                seen.add(said())
            except Exception as error:
                wrong.append(error)

    worker = threading.Thread(target=ask, daemon=True)
    worker.start()
    for _ in range(10):
        clf.fit(support), clf.fit(fewer)
    ended.set()
    worker.join(timeout=300)
    assert not worker.is_alive()
    assert not wrong
    assert seen and seen <= right


def test_copies_and_other_processes(support, tmp_path):
    """A copy shares the backbone; what is sent elsewhere says where its backbone came from."""
    recipe = Recipe.load("lora", {"training.steps": 2, "training.precision": "float32"})
    clf = atha.Classifier.from_pretrained("nano", recipe=recipe).fit(support)
    images = photos(3)
    found = clf.predict_proba(images)
    copied = copy.deepcopy(clf)
    assert copied.backbone is clf.backbone
    assert np.array_equal(copied.predict_proba(images), found)
    sent = pickle.dumps(clf)
    assert len(sent) < (NANO_FOLDER / "model.safetensors").stat().st_size
    assert np.array_equal(pickle.loads(sent).predict_proba(images), found)
    nameless = atha.Classifier(ClipBackbone(clf.backbone.model, clf.backbone.tokenizer, clf.backbone.image_processor))
    with pytest.raises(atha.AthaError, match="was not loaded from anywhere"):
        pickle.dumps(nameless)


FORKED = """
import os
import numpy as np, torch
from PIL import Image
import atha
torch.set_num_threads(2)
clf = atha.Classifier.from_pretrained("nano", classes=["a dark thing", "a bright thing"])
images = [Image.new("RGB", (64, 64), (40 * number, 90, 9)) for number in range(6)]
found = clf.predict_proba(images)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(clf.predict_proba(images), found) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_answers_too():
    """A server may predict once before it forks its workers: threads that make groups do not come along."""
    found = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=240, check=True)
    assert found.stdout.strip() == "0"
