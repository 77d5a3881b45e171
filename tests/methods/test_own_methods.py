"""Methods of one's own from a file, and what defines and names a method."""

import numpy as np
import pytest
from small_episode import QUERY, WAY, Small, job_of, plan_of, run, runner_of, same_definition

import atha
from atha.bench.work import BenchError
from atha.errors import DataError
from atha.methods import Method, Options, make_method

OWN = '''"""Nearest support image."""
import numpy as np
from atha.methods import ByScores, Fitted, Method
from atha.methods.base import unit

class Nearest(Method):
    summary = "nearest support image"
    scale = 10.0

    def fit(self, support):
        keys, values = unit(support.images.features), support.one_hot

        def scores(query):
            likeness = unit(query.features) @ keys.T
            best = np.stack([likeness[:, values[:, c] == 1].max(axis=1) for c in range(values.shape[1])], axis=1)
            return self.scale * best

        return ByScores(scores)

    def definition(self):
        return super().definition() | {"scale": self.scale}

class Shapeless(Nearest):
    def fit(self, support):
        return ByScores(lambda query: np.ones((len(query), 1)))

class Ones(Fitted):
    def scores(self, images):
        return np.ones((len(images), 3))

    def probabilities(self, images):
        return self.scores(images)

class Improbable(Nearest):
    def fit(self, support):
        return Ones()

class NotANumber(Nearest):
    def fit(self, support):
        return ByScores(lambda query: np.full((len(query), len(support.texts)), np.nan))

class Unfinished(Method):
    summary = "has no fit"

class Foreign:
    pass

number = 3
'''


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_clip):
    return Small(tmp_path_factory.mktemp("own"), atha.load_backbone(tiny_clip))


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    return file


def test_a_method_from_a_file(small, own):
    method, definition = make_method(f"{own}:Nearest")
    assert isinstance(method, Method)
    assert definition["name"] == "mine.py:Nearest"
    assert definition["scale"] == 10.0
    support, query = small.parts()
    found = run(method, support, query)
    features, keys = query.features.astype(float), support.images.features.astype(float)
    likeness = (features @ keys.T) / np.outer(np.linalg.norm(features, axis=1), np.linalg.norm(keys, axis=1))
    best = likeness.reshape(WAY * QUERY, WAY, -1).max(axis=2)
    expected = np.exp(10 * best) / np.exp(10 * best).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    runner = runner_of(small, [f"{own}:Nearest", "zero-shot"])
    one, other = runner.run(job_of(runner))
    np.testing.assert_allclose(one.probabilities, found, atol=1e-6)
    assert one.experiment != other.experiment


def test_its_source_defines_it_and_its_place_does_not(own, tmp_path):
    _, before = make_method(f"{own}:Nearest")
    (tmp_path / "elsewhere").mkdir()
    moved = own.rename(tmp_path / "elsewhere" / "mine.py")
    assert same_definition(make_method(f"{moved}:Nearest")[1], before)
    moved.write_text(OWN.replace("max(axis=1)", "mean(axis=1)"))
    assert not same_definition(make_method(f"{moved}:Nearest")[1], before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py:Nearest", "there is no method file .*none.py"),
        ("mine.py:", "which class of .*mine.py"),
        ("mine.py", "which class of .*mine.py"),
        ("mine.py:Nearer", "has no class 'Nearer' that is an atha.methods.Method"),
        ("mine.py:Foreign", "has no class 'Foreign' that is an atha.methods.Method"),
        ("mine.py:number", "has no class 'number'"),
        ("mine.py:np", "has no class 'np'"),
    ],
)
def test_files_and_classes_that_are_not_there(own, name, message):
    with pytest.raises(DataError, match=message):
        make_method(f"{own.parent}/{name}")


@pytest.mark.parametrize("name", ["Unfinished", "Method"])
def test_a_class_that_is_not_finished(own, name):
    """It is a Method, and has no `fit` yet: what a user writes first."""
    with pytest.raises(DataError, match=r"mine\.py"):
        make_method(f"{own}:{name}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def (:", "cannot be imported .SyntaxError"),
        ("import not_a_module_of_this_world", "cannot be imported .ModuleNotFoundError"),
        ("1 / 0", "cannot be imported .ZeroDivisionError: division by zero"),
        ("\0", "cannot be imported"),
    ],
)
def test_files_that_cannot_be_imported(tmp_path, source, message):
    file = tmp_path / "broken.py"
    file.write_text(source)
    with pytest.raises(DataError, match=message):
        make_method(f"{file}:Mine")


def test_a_file_that_python_itself_imports(tmp_path):
    """Data classes look their module up by its name."""
    file = tmp_path / "modern.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from atha.methods import Method\n"
        "@dataclass\nclass Settings:\n    rate: float = 0.1\n"
        "class Mine(Method):\n    summary = 'm'\n    def fit(self, support):\n        return Settings()\n"
    )
    assert make_method(f"{file}:Mine")[0].summary == "m"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Shapeless", r"gives probabilities of shape \(9, 1\), and \(query images, classes\) is \(9, 3\)"),
        ("Improbable", "gives rows that are no probabilities"),
        ("NotANumber", "scores of the classes are not finite"),
    ],
)
def test_what_is_no_probability_is_refused(small, own, name, message):
    runner = runner_of(small, [f"{own}:{name}"])
    with pytest.raises(BenchError, match=message):
        list(runner.run(job_of(runner)))


def test_labels():
    plain, changed = Options(), Options(overrides=("training.steps=7",))
    for name in ("zero-shot", "prototypes", "linear-probe", "tip-adapter", "tip-adapter-f"):
        for options in (plain, changed):
            assert make_method(name, options)[1]["name"] == name
    for name in ("lora", "clip-lora", "atha:paper", "atha:released-fixed"):
        assert make_method(name, plain)[1]["name"] == name
        assert make_method(name, changed)[1]["name"] == f"{name}+"
        # What the run fixes for all methods is no change of one.
        assert make_method(name, Options("processor", "float32", "a {}."))[1]["name"] == name


RECIPE = 'name = "mine"\n[lora]\nrank = 4\n[training]\nsteps = 3\n'


def test_a_recipe_file_is_called_by_its_name(tmp_path):
    file = tmp_path / "some_file.toml"
    file.write_text(RECIPE)
    _, before = make_method(f"atha:{file}")
    assert before["name"] == "atha:mine"
    assert str(tmp_path) not in str(before)
    moved = file.rename(tmp_path / "another_name.toml")
    assert same_definition(make_method(f"atha:{moved}")[1], before)
    moved.write_text(RECIPE + "# a remark\n")
    assert same_definition(make_method(f"atha:{moved}")[1], before)
    moved.write_text(RECIPE.replace("rank = 4", "rank = 5"))
    assert not same_definition(make_method(f"atha:{moved}")[1], before)
    assert make_method(f"atha:{moved}", Options(overrides=("lora.rank=4",)))[1]["name"] == "atha:mine+"
    unnamed = tmp_path / "stem.toml"
    unnamed.write_text(RECIPE.split("\n", 1)[1])
    assert make_method(f"atha:{unnamed}")[1]["name"] == "atha:stem"


@pytest.mark.parametrize(
    "change", ["training.steps=99", "lora.rank=15", "training.lora.lr=1e-4", "prompt.template=a {}"]
)
def test_a_number_that_changes_is_another_definition(change):
    plain = make_method("atha:paper")[1]
    changed = make_method("atha:paper", Options(overrides=(change,)))[1]
    assert plain["recipe"] != changed["recipe"]


@pytest.mark.parametrize("options", [Options(precision="bfloat16"), Options(template="a {}")])
@pytest.mark.parametrize("name", ["zero-shot", "tip-adapter-f", "lora"])
def test_options_that_change_results_are_in_the_definition(name, options):
    assert not same_definition(make_method(name)[1], make_method(name, options)[1])


def test_experiments_differ_where_results_do(small):
    """The hash under which results are stored."""
    names = ["zero-shot", "lora", "atha:paper"]
    plain = plan_of(small, names, Options())[0].experiments[0]
    assert len(set(plain)) == 3
    assert plan_of(small, names, Options())[0].experiments[0] == plain
    changed = plan_of(small, names, Options("processor"))[0].experiments[0]
    assert not set(plain) & set(changed)
    steps = plan_of(small, names, Options(overrides=("training.steps=99",)))[0].experiments[0]
    assert steps[0] == plain[0]  # zero-shot has no steps
    assert not set(steps[1:]) & set(plain)
