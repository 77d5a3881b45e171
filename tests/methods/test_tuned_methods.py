"""Methods that train: the same as `Classifier`, and no trace in the shared backbone."""

import gc
import inspect
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from small_episode import FROZEN, QUERY, QUICK, TUNED, WAY, Small, job_of, run, runner_of

import atha
from atha.bench.work import Job
from atha.errors import TrainingError
from atha.methods import ByScores, FileImages, Method, Options, make_method
from atha.models.frozen import ImageFile
from atha.recipe import Recipe


@pytest.fixture(scope="module")
def backbone(tiny_clip):
    return atha.load_backbone(tiny_clip)


@pytest.fixture(scope="module")
def small(tmp_path_factory, backbone):
    return Small(tmp_path_factory.mktemp("tuned"), backbone)


@pytest.fixture(scope="module")
def parts(small):
    return small.parts()


@pytest.fixture(scope="module")
def lora(parts):
    return run("lora", *parts)


def traces(backbone) -> dict:
    """All of a backbone that a method could leave behind, in comparable form."""
    hooks = {
        name: [len(getattr(module, kind)) for kind in vars(module) if kind.endswith("_hooks")]
        for name, module in backbone.model.named_modules()
    }
    return {
        "types": {name: type(module) for name, module in backbone.model.named_modules()},
        "own forward": [name for name, module in backbone.model.named_modules() if "forward" in vars(module)],
        "hooks": hooks,
        "training": {name: module.training for name, module in backbone.model.named_modules()},
        "gradients": {name: (p.requires_grad, p.grad) for name, p in backbone.model.named_parameters()},
    }


class Unchanged:
    """Asserts that a backbone is, to the last bit, what it was."""

    def __init__(self, small: Small) -> None:
        self.small, self.traces = small, traces(small.backbone)
        self.weights = {name: value.clone() for name, value in small.backbone.model.state_dict().items()}
        self.features = self.compute()

    def compute(self):
        support, query = self.small.parts()
        return support.images.features, query.features, support.text_features

    def check(self) -> None:
        assert traces(self.small.backbone) == self.traces
        now = self.small.backbone.model.state_dict()
        assert list(now) == list(self.weights)
        assert all(torch.equal(now[name], value) for name, value in self.weights.items())
        assert all(np.array_equal(a, b) for a, b in zip(self.compute(), self.features, strict=True))


@pytest.mark.parametrize("name", TUNED)
def test_the_backbone_is_left_alone(small, parts, name):
    before = Unchanged(small)
    method, _ = make_method(name, QUICK)
    fitted = method.fit(parts[0])
    found = fitted.probabilities(parts[1])
    before.check()
    fitted.release()
    assert np.array_equal(fitted.probabilities(parts[1]), found)
    before.check()


@pytest.mark.parametrize("name", ["lora", "atha:released-fixed"])
def test_the_backbone_is_left_alone_in_a_failure(small, parts, lora, name):
    before = Unchanged(small)
    method, _ = make_method(name, Options(overrides=("training.lora.lr=1e30", "training.steps=3")))
    with pytest.raises(TrainingError, match=r"lower training.lora.lr"):
        method.fit(parts[0])
    before.check()
    assert np.array_equal(run("lora", *parts), lora)  # and the next method works as ever


@pytest.mark.numbers
@pytest.mark.parametrize("name", ["lora", "clip-lora", "atha:paper"])
def test_same_as_the_classifier(small, parts, name):
    """The benchmark measures what a user gets from `Classifier.fit`."""
    support, query = parts
    recipe = Recipe.load(
        name.removeprefix("atha:"),
        [*QUICK.overrides, "views.transform=cdfsl", "training.precision=float32"],
    )
    found = run(name, support, query)
    clf = atha.Classifier(small.backbone, classes=list(support.texts), recipe=recipe)
    pairs = [
        (file.path, support.texts[label]) for file, label in zip(support.images.files, support.labels, strict=True)
    ]
    expected = clf.fit(pairs, seed=support.seed).predict_proba([file.path for file in query.files])
    assert np.array_equal(found, expected)
    assert np.abs(found - run("zero-shot", support, query)).max() > 1e-3


@pytest.mark.numbers
@pytest.mark.parametrize("recipe", ["atha:paper", "atha:released-fixed"])
def test_strengths_of_zero_are_no_alignment(parts, recipe):
    same = QUICK.overrides
    zero = ("alignment.pull=0", "alignment.push=0", "alignment.learn=false")
    aligned, zeroed, plain = (
        run(recipe, *parts, options=Options(overrides=(*same, *more))) for more in ((), zero, ("alignment=none",))
    )
    assert np.array_equal(zeroed, plain)
    assert not np.array_equal(aligned, plain)


@pytest.mark.numbers
def test_released_fixed_without_alignment_is_lora(parts, lora):
    """The baseline differs from the method by its alignment alone."""
    off = Options(overrides=(*QUICK.overrides, "alignment=none"))
    assert np.array_equal(run("atha:released-fixed", *parts, options=off), lora)


def test_the_seed_of_the_episode_is_the_seed_of_training(parts, lora):
    support, query = parts
    other = type(support)(support.images, support.labels, support.texts, support.template, support.seed + 1)
    assert not np.array_equal(run("lora", other, query), lora)


@pytest.mark.numbers
@pytest.mark.parametrize("name", [*FROZEN, *TUNED])
def test_each_query_image_on_its_own(parts, name):
    """Nothing is learned from the other query images, nor from their order."""
    support, query = parts
    predict = make_method(name, QUICK)[0].fit(support).probabilities
    together = predict(query)
    single = np.concatenate([predict(FileImages([file], query.frozen)) for file in query.files])
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-12)
    assert np.array_equal(single, together)
    assert np.array_equal(predict(FileImages(query.files[::-1], query.frozen))[::-1], together)
    assert np.array_equal(predict(query), together)


@pytest.mark.numbers
def test_neither_order_nor_global_generators_matter(small):
    """Methods run after each other in one process, as a worker has them: bit for bit, whatever came before."""
    names = [*FROZEN, *TUNED]
    found = []
    for order, seed in ((names, 0), (names[::-1], 1)):
        runner = runner_of(small, list(order))
        torch.manual_seed(seed)
        np.random.seed(seed)  # just the generator that must not matter
        if seed == 1:  # another episode before
            list(runner.run(Job(0, (1,), tuple(map(order.index, ("tip-adapter-f", "lora"))))))
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        results = zip(order, runner.run(job_of(runner)), strict=True)
        found.append({name: result.probabilities for name, result in results})
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])
        runner.close()
    for name, values in found[0].items():
        assert np.array_equal(values, found[1][name]), name


GUARD = '''
import os
from pathlib import Path
from atha.methods import Method, make_method

class Guarded(Method):
    """Another method, whose query images are not on the disk until it has learned."""

    def __init__(self, argument=None, options=None):
        super().__init__(argument, options)
        self.inner = make_method(NAME, options)[0]

    @property
    def template(self):
        return self.inner.template

    def fit(self, support):
        for file in HIDDEN:
            assert not Path(file).exists()
        fitted = self.inner.fit(support)
        for file in HIDDEN:
            os.rename(file + ".away", file)
        return fitted
'''


@pytest.mark.parametrize("name", [*FROZEN, "clip-lora", "atha:released-fixed"])
def test_query_images_are_not_needed_to_learn(tmp_path, backbone, name):
    """They are away until `fit` has returned: no method can have looked at one."""
    own = Small(tmp_path, backbone)
    files = [own.setting.files[one].path for row in own.drawn.episodes[0].query for one in row]
    module = tmp_path / "guard.py"
    module.write_text(f"NAME = {name!r}\nHIDDEN = {[str(file) for file in files]!r}\n{GUARD}")
    runner = runner_of(own, [f"{module}:Guarded"])
    for file in files:
        file.rename(f"{file}.away")
    (found,) = runner.run(job_of(runner))
    assert np.array_equal(found.probabilities, np.float32(run(name, *own.parts())))
    assert all(file.exists() for file in files)


class Curious(Method):
    """Looks through everything that can be reached from what it is given."""

    summary = "for a test"
    seen: tuple[int, set[Path], set[str]] = (0, set(), set())

    def fit(self, support):
        paths, digests, done, todo = set(), set(), set(), [support]
        while todo:
            one = todo.pop()
            if id(one) in done or isinstance(one, type | types.ModuleType | types.FrameType | torch.Tensor):
                continue
            done.add(id(one))
            if isinstance(one, ImageFile):
                paths.add(one.path)
                digests.add(one.digest)
            elif isinstance(one, Path):
                paths.add(one)
            elif isinstance(one, types.FunctionType):
                todo += inspect.getclosurevars(one).nonlocals.values()  # not its module
            else:
                todo += gc.get_referents(one)
        Curious.seen = (len(done), paths, digests)
        return ByScores(lambda query: np.zeros((len(query), WAY)))


def test_nothing_leads_from_the_support_set_to_query_images(small):
    runner = runner_of(small, ["zero-shot"])
    list(runner.run(job_of(runner, 1)))  # another episode, other query images
    runner._methods = [Curious()]
    list(runner.run(job_of(runner, 0)))
    objects, paths, digests = Curious.seen
    episode = small.drawn.episodes[0]
    support, query = (
        [small.setting.files[name] for row in side for name in row] for side in (episode.support, episode.query)
    )
    assert objects > 100
    assert {file.path for file in support} <= paths
    assert not {file.path for file in query} & paths
    assert {file.digest for file in support} <= digests
    assert not {file.digest for file in query} & digests
    assert not {name for row in episode.query for name in row} & {str(path) for path in paths}


@pytest.mark.parametrize("wrong", ["labels", "texts"])
def test_what_the_support_set_says_is_what_is_learned(parts, wrong):
    """Other labels, other predictions: the tests above would pass for a method that learns nothing."""
    support, query = parts
    labels = np.roll(support.labels, 2) if wrong == "labels" else support.labels
    texts = support.texts[1:] + support.texts[:1] if wrong == "texts" else support.texts
    other = type(support)(support.images, labels, texts, support.template, support.seed)
    names = ("prototypes", "linear-probe") if wrong == "labels" else ("zero-shot",)
    for name in (*names, "tip-adapter", "tip-adapter-f", "lora"):
        assert not np.allclose(run(name, other, query), run(name, support, query), atol=1e-4), name


@pytest.mark.numbers
def test_more_query_images_than_fit_in_a_batch(parts, lora):
    support, query = parts
    many = FileImages([file for _ in range(5) for file in query.files], query.frozen)
    found = run("lora", support, many)
    assert found.shape == (5 * WAY * QUERY, WAY)
    assert np.array_equal(found, np.tile(lora, (5, 1)))


def test_run_options_reach_the_recipe():
    options = Options("processor", "bfloat16", "a sketch of a {}.", ("lora.rank=3",))
    made, definition = make_method("atha:paper", options)
    recipe = made.recipe
    assert (recipe.views.transform, recipe.training.precision, recipe.lora.rank) == ("processor", "bfloat16", 3)
    assert made.template == recipe.prompt.template == "a sketch of a {}."
    assert definition["recipe"]["training"]["precision"] == "bfloat16"
    own = make_method("atha:paper", Options(precision="bfloat16", overrides=("training.precision=float32",)))[0]
    assert own.recipe.training.precision == "float32"  # what a recipe itself says stays
