"""``atha bench``: the same command goes on, parts make a whole, and what is wrong is said before anything changes."""

import csv
import io
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from atha.cli import common
from commands import run
from conftest import COLOURS, write_images

Refused = Callable[..., str]

OPTIONS = {
    "dataset": "pool",
    "method": "zero-shot,prototypes",
    "way": "3",
    "shot": "1",
    "query": "2",
    "episodes": "3",
    "model": "tiny",
    "workers": "1",
    "store": "new.db",
}
DRAWN = ("dataset", "way", "shot", "query", "episodes")


@pytest.fixture(scope="module", autouse=True)
def quiet_transformers() -> Iterator[None]:
    """As `main` sets it."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(verbosity)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, beside the working directory."""
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of six images; for copying."""
    return write_images(tmp_path_factory.mktemp("images"), COLOURS, 6)


@pytest.fixture
def here(tmp_path: Path, images: Path, tiny_clip: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the images as ``pool`` and a model."""
    folder = tmp_path / "here"
    shutil.copytree(images, folder / "pool")
    (folder / "tiny").symlink_to(tiny_clip)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(here: Path) -> Refused:
    """Runs a command, which must refuse and leave everything as it was; returns the sentence."""

    def refuse(*arguments: object, naming: tuple[str, ...]) -> str:
        before = snapshot(here)
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        sentences = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(sentences) == 1, result.stderr
        assert result.stderr.rstrip("\n").endswith(sentences[0]), "the sentence is the last line"
        assert not result.stdout, "no result is printed"
        for text in naming:
            assert text in sentences[0]
        assert snapshot(here) == before
        return sentences[0]

    return refuse


def options(names: tuple[str, ...] = tuple(OPTIONS), **changes: object) -> list[str]:
    """The options of a run, some changed; None leaves one out, True makes a flag."""
    chosen = {name: OPTIONS[name] for name in names} | changes
    made: list[str] = []
    for name, value in chosen.items():
        if value is not None:
            made += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return made


def bench(**changes: object) -> dict[str, Any]:
    """What a run says of itself, as JSON."""
    result = run("bench", "run", *options(**changes), "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def printed(*arguments: object) -> str:
    result = run("bench", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def snapshot(folder: Path) -> dict[str, str]:
    """Everything below a folder, hidden files too, and what is in it."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def content(store: Path) -> dict[str, list[Any]]:
    """All results of a store but how long they took and which run they are of."""
    queries = {
        "experiments": "SELECT hash, method, model, definition FROM experiments",
        "episodes": "SELECT * FROM episodes",
        "results": "SELECT e.hash, r.episode, r.hash, accuracy, brier, calibration, classes, correct "
        "FROM results r JOIN experiments e ON e.id = r.experiment",
        "probabilities": "SELECT e.hash, p.episode, probabilities "
        "FROM probabilities p JOIN experiments e ON e.id = p.experiment",
    }
    with closing(sqlite3.connect(store)) as connection:
        return {name: sorted(connection.execute(query).fetchall()) for name, query in queries.items()}


# Running


def test_run_makes_a_store(here: Path) -> None:
    before = snapshot(here)
    result = run("bench", "run", *options())
    assert result.exit_code == 0, result.output
    assert "6 results written" in result.stderr
    assert "pool, 3-way 1-shot, 2 queries, tiny" in result.stdout
    assert "zero-shot" in result.stdout
    after = snapshot(here)
    assert set(after) - set(before) == {"new.db"}, "no log of the database is left"
    assert {name: after[name] for name in before} == before
    kept = content(here / "new.db")
    assert [len(kept[name]) for name in ("experiments", "episodes", "results", "probabilities")] == [2, 3, 6, 6]


def test_the_same_command_again_writes_nothing(here: Path) -> None:
    first = bench()
    assert (first["written"], first["known"], first["store"]) == (6, 0, "new.db")
    shown = [printed("report", "new.db", *more) for more in ([], ["--json"], ["--per-class", "--time"])]
    kept = content(here / "new.db")
    again = bench()
    assert (again["written"], again["known"]) == (0, 6)
    assert again["results"] == first["results"]
    assert [printed("report", "new.db", *more) for more in ([], ["--json"], ["--per-class", "--time"])] == shown
    assert content(here / "new.db") == kept
    with closing(sqlite3.connect("new.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,), "a run that ran nothing is none"


def test_without_a_cache_all_is_the_same(here: Path, cache: Path) -> None:
    bench(store="with.db")
    kept = snapshot(cache)
    assert kept
    bench(store="without.db", cache_size="0")
    assert content(here / "with.db") == content(here / "without.db")
    shutil.rmtree(cache)
    assert bench(store="without.db", cache_size="0")["written"] == 0
    assert not cache.exists()


def test_more_episodes_and_more_methods_are_added(here: Path) -> None:
    bench()
    kept = content(here / "new.db")
    more = bench(episodes=5)
    assert (more["written"], more["known"]) == (4, 6)
    assert set(kept["results"]) <= set(content(here / "new.db")["results"])
    most = bench(episodes=5, method="prototypes,linear-probe,zero-shot")
    assert (most["written"], most["known"]) == (5, 10)
    fewer = bench(episodes=2)
    assert (fewer["written"], fewer["known"]) == (0, 4)
    bench(episodes=5, method="zero-shot,prototypes,linear-probe", store="at-once.db")
    assert content(here / "new.db") == content(here / "at-once.db")
    assert printed("report", "new.db", "--json") == printed("report", "at-once.db", "--json")


def test_two_halves_merged_are_a_whole(here: Path) -> None:
    for part in (1, 2):
        bench(shard=f"{part}/2", store=f"half{part}.db", episodes=5)
    halves = [content(here / f"half{part}.db") for part in (1, 2)]
    assert [len(half["results"]) for half in halves] == [6, 4]
    said = printed("merge", "half1.db", "half2.db", "--store", "both.db")
    assert "half1.db: 6 results are new, 0 were here already" in said
    assert "half2.db: 4 results are new, 0 were here already" in said
    bench(store="whole.db", episodes=5)
    assert content(here / "both.db") == content(here / "whole.db")
    for more in ([], ["--json"], ["--per-class", "--format", "markdown"], ["--format", "csv"]):
        assert printed("report", "both.db", *more) == printed("report", "whole.db", *more)
    assert [content(here / f"half{part}.db") for part in (1, 2)] == halves
    assert "0 results are new, 6 were here already" in printed("merge", "half1.db", "--store", "both.db")
    assert bench(store="both.db", episodes=5)["written"] == 0


def test_shards_into_one_store(here: Path) -> None:
    assert bench(shard="2/2")["written"] == 2
    assert bench(shard="1/2")["written"] == 4
    bench(store="whole.db")
    assert content(here / "new.db") == content(here / "whole.db")


def test_episodes_from_a_file_are_the_same(here: Path) -> None:
    said = printed("episodes", "--out", "episodes.json", *options(DRAWN))
    written = json.loads((here / "episodes.json").read_text())
    assert f"3 episodes in episodes.json, hash {written['hash']}" in said
    first = bench()
    again = bench(episodes_file="episodes.json", way=None, shot=None, query=None, episodes=None)
    assert (again["written"], again["known"]) == (0, 6)
    assert [one["experiment"] for one in again["results"]] == [one["experiment"] for one in first["results"]]
    again = bench(episodes_file="episodes.json", way=None, shot=None, query=None, episodes=None, store="file.db")
    assert content(here / "file.db") == content(here / "new.db")


def test_edited_episodes_are_other_experiments(here: Path) -> None:
    printed("episodes", "--out", "episodes.json", *options(DRAWN))
    written = json.loads((here / "episodes.json").read_text())
    from atha.episodes import EpisodeSet, EpisodeSpec, _parse

    one = written["episodes"][0]
    one["support"][0], one["query"][0] = one["query"][0][:1], [*one["support"][0], *one["query"][0][1:]]
    rows = tuple(_parse(item) for item in written["episodes"])
    written["hash"] = EpisodeSet(EpisodeSpec("", "", (), False, 0, 0, 0, 0), "", rows).hash
    (here / "episodes.json").write_text(json.dumps(written))
    first = bench()
    edited = bench(episodes_file="episodes.json", way=None, shot=None, query=None, episodes=None)
    assert edited["written"] == 6
    found = [{one["experiment"] for one in each["results"]} for each in (first, edited)]
    assert not found[0] & found[1]


def test_several_shots_and_data_sets(here: Path) -> None:
    shutil.copytree(here / "pool", here / "other")
    found = bench(dataset="pool,other", shot="1,2", episodes=2)
    assert found["written"] == 2 * 2 * 2 * 2
    assert [(one["dataset"], one["shot"], one["method"]) for one in found["results"]] == [
        (dataset, shot, method)
        for dataset in ("pool", "other")
        for shot in (1, 2)
        for method in ("zero-shot", "prototypes")
    ]
    wide = printed("report", "new.db", "--wide", "--format", "markdown")
    assert "| method | pool | other | mean |" in wide
    assert len([line for line in wide.splitlines() if "-shot |" in line]) == 4


def test_a_changed_image_or_text_is_another_experiment(here: Path) -> None:
    before = bench(method="zero-shot")
    (here / "classes.json").write_text(json.dumps({"red_thing": "tomato"}))
    text = bench(method="zero-shot", classes="classes.json")
    write_images(here / "pool", {"red_thing": (10, 10, 10)}, 1)
    image = bench(method="zero-shot")
    assert [each["written"] for each in (before, text, image)] == [3, 3, 3]
    assert len({each["results"][-1]["experiment"] for each in (before, text, image)}) == 3


def test_seed_and_way_are_other_experiments(here: Path) -> None:
    assert [bench(method="zero-shot", **change)["written"] for change in ({}, {"seed": 0}, {"way": 2})] == [3, 3, 3]
    assert bench(method="zero-shot", seed=1)["written"] == 0, "1 is the default"


def test_probabilities_are_kept(here: Path) -> None:
    from atha.bench.store import Store

    found = bench()
    with Store(here / "new.db") as store:
        for one in found["results"]:
            kept = dict(store.probabilities(one["experiment"]))
            assert list(kept) == [0, 1, 2]
            assert all(each.shape == (6, 3) for each in kept.values())
            assert all(abs(each.sum(axis=1) - 1).max() < 1e-5 for each in kept.values())


def test_two_names_of_one_folder_are_one_data_set(here: Path) -> None:
    found = bench(dataset="pool,./pool", method="zero-shot")
    assert (found["written"], found["known"], len(found["results"])) == (3, 0, 1)


# Printing


@pytest.fixture(scope="module")
def made(images: Path, tiny_clip: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two methods, whose classes have names that are markup elsewhere; for reading."""
    root = tmp_path_factory.mktemp("made")
    for name, odd in zip(COLOURS, ("a|b", "<script>", "50%_x"), strict=True):
        shutil.copytree(images / name, root / "odd" / odd)
    before = os.environ.get("ATHA_CACHE")
    os.environ["ATHA_CACHE"] = str(root / "cache")
    try:
        bench(model=tiny_clip, dataset=root / "odd", store=root / "made.db", method="zero-shot,prototypes,linear-probe")
    finally:
        os.environ.pop("ATHA_CACHE")
        if before is not None:
            os.environ["ATHA_CACHE"] = before
    return root / "made.db"


@pytest.mark.parametrize("verb", [("report",), ("compare", "--baseline", "zero-shot")], ids=lambda verb: verb[0])
def test_formats_say_the_same(made: Path, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    name, *more = verb
    monkeypatch.setattr(common.out, "_width", 200)
    before = snapshot(made.parent)
    shown = {
        form: printed(name, made, *more, "--format", form) for form in ("table", "markdown", "latex", "csv", "json")
    }
    values = json.loads(shown["json"])
    assert printed(name, made, *more, "--json") == shown["json"]
    assert [one["method"] for one in values] == [
        label for label in ("zero-shot", "prototypes", "linear-probe") if name == "report" or label != "zero-shot"
    ]
    rows = list(csv.DictReader(io.StringIO(shown["csv"])))
    assert len(rows) == len(values)
    for row, one in zip(rows, values, strict=True):
        assert list(row) == list(one)
        for key, value in one.items():
            assert row[key] == ("" if value is None else str(value))
        accuracy = f"{100 * one['accuracy']:.2f}"
        assert accuracy in shown["table"]
        assert f"| {one['method']} | {one['episodes']} | {accuracy} ± " in shown["markdown"]
        assert f"{one['method']} & {one['episodes']} & {accuracy} $\\pm$ " in shown["latex"]
    assert "3-way 1-shot" in shown["table"]
    assert shown["latex"].count("\\begin{table}") == shown["latex"].count("\\end{table}") == 1
    assert snapshot(made.parent) == before, "reading changes nothing"


def test_class_names_are_text_in_every_format(made: Path) -> None:
    shown = {
        form: printed("report", made, "--per-class", "--format", form)
        for form in ("table", "markdown", "latex", "json")
    }
    for odd in ("a|b", "<script>", "50%_x"):
        assert odd in shown["table"]
        assert {one["class"] for one in json.loads(shown["json"])[0]["per_class"]} >= {odd}
    assert "<script>" not in shown["markdown"]
    assert "a\\|b" in shown["markdown"]
    assert "50\\%\\_x" in shown["latex"]
    assert "<script" not in shown["latex"]


def test_per_class_is_in_csv_too(made: Path) -> None:
    shown = printed("report", made, "--per-class", "--format", "csv")
    assert shown != printed("report", made, "--format", "csv")
    assert "<script>" in shown


@pytest.mark.parametrize(
    "verb", [("report", "--time"), ("compare", "--baseline", "zero-shot")], ids=lambda verb: verb[0]
)
def test_tables_are_whole_in_80_columns(made: Path, verb: tuple[str, ...]) -> None:
    name, *more = verb
    shown = printed(name, made, *more)
    for one in json.loads(printed(name, made, *more, "--json")):
        assert one["method"] in shown
        assert f"{100 * one['accuracy']:.2f}" in shown


def test_choosing_methods_and_data_sets(made: Path) -> None:
    chosen = json.loads(printed("report", made, "--method", "zero-shot,linear-probe", "--dataset", "odd", "--json"))
    assert [one["method"] for one in chosen] == ["zero-shot", "linear-probe"]
    compared = ("compare", made, "--baseline", "zero-shot", "--method", "linear-probe", "--json")
    assert [one["method"] for one in json.loads(printed(*compared))] == ["linear-probe"]


def test_compare_of_one_episode(here: Path) -> None:
    bench(episodes=1)
    for form in ("table", "markdown", "latex", "csv"):
        assert not re.search(r"\bnan\b", printed("compare", "new.db", "--baseline", "zero-shot", "--format", form))
    (one,) = json.loads(printed("compare", "new.db", "--baseline", "zero-shot", "--json"))
    assert (one["p"], one["p_holm"], one["verdict"]) == (None, None, "not resolved")


# Wrong input


def foreign(here: Path) -> None:
    with closing(sqlite3.connect(here / "new.db")) as connection:
        connection.execute("CREATE TABLE mine (id INTEGER)")


def text(here: Path) -> None:
    (here / "new.db").write_text("my notes\n" * 100)


def folder(here: Path) -> None:
    (here / "new.db").mkdir()


def taken(here: Path) -> None:
    (here / "nowhere").write_text("a file where a folder should be")


def truncated(here: Path) -> None:
    path = here / "pool" / "blue thing" / "0_0.png"
    path.write_bytes(path.read_bytes()[:-400])


def emptied(here: Path) -> None:
    (here / "pool" / "blue thing" / "0_0.png").write_bytes(b"")


def dangling(here: Path) -> None:
    (here / "pool" / "blue thing" / "0_0.png").unlink()
    (here / "pool" / "blue thing" / "0_0.png").symlink_to("nowhere.png")


def other_labels(here: Path) -> None:
    printed("episodes", "--out", "episodes.json", *options(DRAWN))
    (here / "pool" / "blue thing" / "0_0.png").rename(here / "pool" / "red_thing" / "new.png")


def no_json(here: Path) -> None:
    (here / "episodes.json").write_text("{")


def edited(here: Path) -> None:
    printed("episodes", "--out", "episodes.json", *options(DRAWN))
    said = (here / "episodes.json").read_text()
    (here / "episodes.json").write_text(said.replace("0_1.png", "0_99.png"))


WRONG: dict[str, tuple[dict[str, object], tuple[str, ...], Callable[[Path], None] | None]] = {
    "unknown method": ({"method": "zero-shott"}, ("'zero-shott'", "did you mean 'zero-shot'?"), None),
    "one unknown method of two": ({"method": "zero-shot,mine"}, ("'mine'", "FILE.py:CLASS"), None),
    "unknown preset": ({"method": "atha:papr"}, ("'papr'", "paper"), None),
    "atha without a recipe": ({"method": "atha"}, ("atha needs a recipe", "atha:"), None),
    "method that takes nothing": ({"method": "zero-shot:x"}, ("'x'", "leave it out"), None),
    "missing method file": ({"method": "mine.py:Mine"}, ("mine.py", "check the path"), None),
    "method twice": ({"method": "zero-shot,lora,zero-shot"}, ("twice", "zero-shot", "once"), None),
    "no method": ({"method": None}, ("--method zero-shot",), None),
    "empty method": ({"method": ","}, ("--method zero-shot",), None),
    "no data set": ({"dataset": None}, ("--dataset",), None),
    "unknown data set": ({"dataset": "pol"}, ("'pol'", "did you mean", "pool"), None),
    "misspelt benchmark": ({"dataset": "isic2081"}, ("'isic2081'", "did you mean 'isic2018'?"), None),
    "no root": ({"dataset": "isic2018"}, ("isic2018", "--root DIR"), None),
    "root that is not there": ({"dataset": "isic2018", "root": "nowhere"}, ("nowhere",), None),
    "too few images": (
        {"shot": 5, "query": 3},
        ("pool", "5 + 3 = 8", "blue thing 6", "red_thing 6", "--without"),
        None,
    ),
    "more ways than classes": ({"way": 4}, ("3 classes", "--way is 4", "lower it to 3"), None),
    "one way": ({"way": 1}, ("way is 1", "at least 2"), None),
    "no way": ({"way": 0}, ("way is 0", "at least 2"), None),
    "no query": ({"query": 0}, ("query is 0", "at least 1"), None),
    "negative query": ({"query": -1}, ("query is -1", "at least 1"), None),
    "no episodes": ({"episodes": 0}, ("episodes is 0", "at least 1"), None),
    "negative episodes": ({"episodes": -2}, ("episodes is -2", "at least 1"), None),
    "shot that is no number": ({"shot": "x"}, ("--shot is 'x'", "such as 1,5"), None),
    "shot with a gap": ({"shot": "1,,2"}, ("--shot is '1,,2'", "such as 1,5"), None),
    "empty shot": ({"shot": ""}, ("--shot is ''", "such as 1,5"), None),
    "no shot": ({"shot": "1,0"}, ("shot is 0", "at least 1"), None),
    "negative seed": ({"seed": -1}, ("seed is -1", "negative"), None),
    "shard 0": ({"shard": "0/2"}, ("'0/2'", "such as 1/2"), None),
    "shard beyond": ({"shard": "3/2"}, ("'3/2'", "such as 1/2"), None),
    "shard that is none": ({"shard": "x"}, ("'x'", "such as 1/2"), None),
    "shard cut off": ({"shard": "1/"}, ("'1/'", "such as 1/2"), None),
    "shard of odd digits": ({"shard": "1/²"}, ("'1/²'", "such as 1/2"), None),
    "unknown key": (
        {"method": "atha:paper", "set": "training.stepz=3"},
        ("training.stepz", "nearest is 'training.steps'"),
        None,
    ),
    "unknown key and no recipe": ({"set": "training.stepz=3"}, ("training.stepz",), None),
    "key without a value": ({"method": "lora", "set": "training.steps"}, ("training.steps", "="), None),
    "value of another kind": ({"method": "lora", "set": "training.steps=x"}, ("training.steps", '"x"'), None),
    "template without a place": ({"template": "a photo"}, ('"a photo"', "{}"), None),
    "template that is too long": ({"template": "very " * 90 + "{}"}, ("tokens", "shorten"), None),
    "unknown model": ({"model": "./nowhere"}, ("nowhere",), None),
    "model folder that is none": ({"model": "./pool"}, ("pool",), None),
    "unknown device": ({"device": "gpu"}, ("'gpu' is no device", "choose auto, cpu"), None),
    "unknown suite": ({"suite": "papr"}, ("'papr'", "did you mean 'paper'?"), None),
    "unknown class": ({"without": "newt"}, ("'newt'", "blue thing", "red_thing"), None),
    "one class left": ({"without": "blue thing,GreenThing"}, ("1 class left", "leave two"), None),
    "pattern that is none": ({"group_pattern": "("}, ("'('", "regular expression"), None),
    "pattern that fits none": ({"group_pattern": "x(y)"}, ("'x(y)'", "fits all names"), None),
    "one group": ({"group_pattern": "^(0)"}, ("in 1 groups", "--shot"), None),
    "missing class texts": ({"classes": "nowhere.json"}, ("nowhere.json",), None),
    "missing list": ({"keep": "nowhere.csv"}, ("'nowhere.csv'", "--write-list"), None),
    "address without ray": ({"ray_address": "auto"}, ("--ray-address", "--executor ray"), None),
    "address without ray, several workers": (
        {"ray_address": "auto", "workers": 2},
        ("--ray-address", "--executor ray"),
        None,
    ),
    "store in no folder": ({"store": "nowhere/new.db"}, ("nowhere to write new.db", "choose another --store"), None),
    "store below a file": ({"store": "nowhere/new.db"}, ("nowhere to write new.db", "choose another --store"), taken),
    "store is a folder": ({}, ("new.db is a folder",), folder),
    "store is foreign": ({}, ("new.db", "another program", "another --store"), foreign),
    "store is a text": ({}, ("new.db", "no store", "another --store"), text),
    "missing image": ({}, ("0_0.png",), dangling),
    "empty image": ({}, ("0_0.png",), emptied),
    "missing episodes": ({"episodes_file": "nowhere.json"}, ("nowhere.json", "check the path"), None),
    "episodes that are no JSON": ({"episodes_file": "episodes.json"}, ("episodes.json", "is not JSON"), no_json),
    "edited episodes": ({"episodes_file": "episodes.json"}, ("episodes.json", "was changed"), edited),
    "episodes of other labels": ({"episodes_file": "episodes.json"}, ("episodes.json", "other labels"), other_labels),
    "episodes of one of two data sets": (
        {"episodes_file": "episodes.json", "dataset": "pool,other"},
        ("episodes.json", "one --dataset"),
        None,
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(here: Path, refused: Refused, case: str) -> None:
    changes, naming, prepare = WRONG[case]
    if prepare is not None:
        prepare(here)
    if "episodes_file" in changes:
        changes = {**dict.fromkeys(("way", "shot", "query", "episodes")), **changes}
    refused("bench", "run", *options(**{"method": "zero-shot", **changes}), naming=naming)


@pytest.mark.parametrize("case", ["unknown method", "unknown model"])
def test_wrong_input_leaves_a_store_as_it_is(here: Path, refused: Refused, case: str) -> None:
    bench()
    changes, naming, _ = WRONG[case]
    refused("bench", "run", *options(**{"method": "zero-shot", **changes}), naming=naming)


def test_repair_does_damaged_results_again(here: Path) -> None:
    bench()
    before = printed("report", "new.db", "--json")
    with sqlite3.connect(here / "new.db") as connection:
        connection.execute("UPDATE results SET accuracy = 'x' WHERE experiment = 1 AND episode = 1")
    connection.close()
    again = options()
    stopped = run("bench", "run", *again)
    assert stopped.exit_code == 2
    assert "Error: episode 1 of the experiment zero-shot" in stopped.stderr
    assert "add --repair" in stopped.stderr
    assert "Warning: new.db: episode 1 of the experiment zero-shot" in run("bench", "report", "new.db").stderr
    done = run("bench", "run", *again, "--repair")
    assert done.exit_code == 0, done.output
    assert "1 results written" in done.stderr
    assert printed("report", "new.db", "--json") == before


@pytest.mark.parametrize("options_given", [{"shot": "2"}, {"way": "2"}, {"query": "1"}, {"seed": "5"}])
def test_episodes_from_a_file_and_drawn_exclude_each_other(
    here: Path, refused: Refused, options_given: dict[str, object]
) -> None:
    printed("episodes", "--out", "episodes.json", *options(DRAWN))
    left_out: dict[str, object] = dict.fromkeys(("way", "shot", "query", "episodes"))
    (name,) = options_given
    given = {"episodes_file": "episodes.json", **left_out, **options_given}
    refused("bench", "run", *options(**given), naming=("--episodes-file", f"--{name}"))


def test_an_image_that_cannot_be_decoded(here: Path) -> None:
    """Its bytes are there, so that it comes to light in an episode; what was done before stays."""
    truncated(here)
    result = run("bench", "run", *options(method="zero-shot", query=5, episodes=1))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    said = result.stderr.splitlines()[-1]
    for part in ("Error: zero-shot on episode 0 of pool", "0_0.png", "truncated"):
        assert part in said
    write_images(here / "pool", {"blue thing": (60, 60, 200)}, 1)
    assert bench(method="zero-shot", query=5, episodes=1)["written"] == 1


@pytest.mark.parametrize(
    ("arguments", "naming"),
    [
        (("report", "nowhere.db"), ("there is no store nowhere.db", "atha bench run --store")),
        (("report", "pool"), ("pool is a folder",)),
        (("report", "new.db", "--method", "tip"), ("no method 'tip'", "prototypes, zero-shot")),
        (("report", "new.db", "--dataset", "tame"), ("no data set 'tame'", "it has pool")),
        (("compare", "new.db", "--baseline", "tip"), ("'tip'", "prototypes, zero-shot")),
        (("compare", "new.db", "--baseline", "zero-shot", "--method", "tip"), ("tip", "zero-shot", "check the names")),
        (("compare", "nowhere.db", "--baseline", "lora"), ("there is no store nowhere.db",)),
        (("merge", "new.db", "nowhere.db", "--store", "all.db"), ("there is no store nowhere.db",)),
        (("merge", "new.db", "--store", "new.db"), ("new.db", "itself")),
        (("merge", "new.db", "--store", "nowhere/all.db"), ("nowhere/all.db", "check the folder")),
        (("merge", "new.db", "--store", "pool"), ("pool is a folder",)),
        (("merge", "new.db", "notes.txt", "--store", "all.db"), ("notes.txt", "no store")),
        (("episodes", "--out", "taken.json", *options(DRAWN)), ("taken.json", "--overwrite")),
        (("episodes", "--out", "e.json", *options(DRAWN, shot="1,2")), ("these are 2", "one --shot")),
        (("episodes", "--out", "e.json", *options(DRAWN, dataset=None)), ("--dataset",)),
        (("episodes", "--out", "e.json", *options(DRAWN, way=0)), ("way is 0",)),
        (("episodes", "--out", "e.json", *options(DRAWN, way=4)), ("3 classes", "lower it to 3")),
        (("episodes", "--out", "taken.json/e.json", *options(DRAWN)), ("taken.json/e.json", "another place")),
    ],
    ids=lambda value: " ".join(map(str, value))[:60] if value[0] in ("report", "compare", "merge", "episodes") else "",
)
def test_wrong_input_of_other_verbs(
    here: Path, refused: Refused, made: Path, arguments: tuple[str, ...], naming: tuple[str, ...]
) -> None:
    (here / "taken.json").write_text("mine")
    (here / "notes.txt").write_text("my notes\n" * 100)
    if "new.db" in arguments:
        bench(episodes=1)
    refused("bench", *arguments, naming=naming)


def test_a_store_without_results(here: Path, refused: Refused) -> None:
    from atha.bench.store import Store

    Store(here / "new.db", create=True).close()
    for verb in (("report", "new.db"), ("compare", "new.db", "--baseline", "lora"), ("report", "new.db", "--wide")):
        refused("bench", *verb, naming=("new.db has no results yet", "atha bench run"))


def test_two_results_in_one_cell(here: Path, refused: Refused) -> None:
    for seed in (1, 2):
        bench(episodes=1, seed=seed)
    refused("bench", "report", "new.db", "--wide", naming=("zero-shot", "pool", "leave --wide out"))
