"""Suites: whole tables by name."""

from importlib import resources

import pytest
from pydantic import ValidationError

from atha.bench.suites import Suite, load_suite, suites
from atha.data.sources.cdfsl import benchmarks
from atha.errors import DataError
from atha.methods import METHODS, Options, make_method


def test_names_are_those_of_the_files():
    folder = resources.files("atha") / "bench" / "suites"
    assert suites() == sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))
    assert "paper" in suites()


@pytest.mark.parametrize("name", suites())
def test_every_suite_can_be_run(name):
    suite = load_suite(name)
    assert suite.summary
    assert suite.datasets
    assert set(suite.datasets) <= set(benchmarks())
    assert len(set(suite.methods)) == len(suite.methods) > 1
    for method in suite.methods:
        assert make_method(method, Options(suite.transform))[1]["name"]
    assert suite.way >= 2
    assert suite.query >= 1
    assert all(shot >= 1 and episodes >= 1 for shot, episodes in suite.episodes.items())


def test_the_table_of_the_paper():
    suite = load_suite("paper")
    assert set(suite.datasets) == {"eurosat", "cropdiseases", "isic2018", "chestx"}
    assert suite.episodes == {1: 800, 5: 400}
    assert (suite.way, suite.query) == (5, 15)
    assert {"lora", "atha:paper"} <= set(suite.methods)
    assert set(METHODS) >= {method.partition(":")[0] for method in suite.methods}


@pytest.mark.parametrize(
    ("name", "hint"), [("papr", "(did you mean 'paper'?)"), ("zzz", "the suites are"), ("../paper", "the suites are")]
)
def test_unknown_suite(name, hint):
    with pytest.raises(DataError) as caught:
        load_suite(name)
    assert f"'{name}'" in str(caught.value)
    assert hint in str(caught.value)
    assert "paper" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"episodes": {1: 0}}, {"episodes": {"one": 3}}, {"transform": "square"}, {"ways": 5}, {"way": "five"}],
    ids=lambda change: next(iter(change)),
)
def test_a_suite_is_checked(change):
    with pytest.raises(ValidationError):
        Suite.model_validate(load_suite("paper").model_dump() | change)
