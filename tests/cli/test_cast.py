"""Every command with names that mean harm: in all that it prints and writes, text stays text."""

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from typer.testing import Result

import commands
from atha import Classifier, backbones
from atha.adapter.files import read_adapter
from atha.adapter.hub import CARD
from atha.adapter.pushing import packed
from atha.documents.escaping import from_csv, visible
from atha.export import LABELS, PREDICT, README
from atha.export.base import Options, Subject
from atha.export.companions import write_companions, write_readme
from atha.export.onnx_graph import Exporter
from cast import CLASSES, FILES, obeyed
from parsed_page import Parsed

RECIPE = 'name = "<script>alert(1)</script>[x](javascript:alert(1))\\u001b[2J"\n[blend]\nmembers = ["prototypes"]\n'
QUICK = ["--method", "zero-shot,prototypes", "--episodes", "2", "--way", "3", "--shot", "1", "--query", "1"]


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """The backbone, whose weights no command changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "load_backbone", cache(backbones.load_backbone))
        yield


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_clip: str) -> Path:
    """The working directory, with images of the cast, a model and an adapter of them."""
    folder = tmp_path_factory.mktemp("cast")
    (folder / "tiny").symlink_to(tiny_clip)
    noise = np.random.default_rng(0)
    for part in ("support", "test", "more"):
        for name in CLASSES:
            for file in FILES[:: 1 if part == "test" else 2]:
                (folder / part / name).mkdir(parents=True, exist_ok=True)
                pixels = noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / file, format="png")
    (folder / "support" / CLASSES[0] / FILES[1]).write_bytes(b"")  # named, as it cannot be read
    (folder / "recipe.toml").write_text(RECIPE)
    before = Path.cwd()
    os.chdir(folder)
    try:
        fitted = run(
            "fit", "support", "--out", "adapter", "--model", "tiny", "--recipe", "recipe.toml", "--eval", "test"
        )
    finally:
        os.chdir(before)
    assert "Accuracy" not in fitted.stderr
    return folder


@pytest.fixture
def there(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(here)
    monkeypatch.setenv("ATHA_CACHE", str(here / "cache"))
    return here


def run(*arguments: str, code: int = 0) -> Result:
    """A command that does what it does on names of the cast, and prints nothing that is obeyed."""
    result = commands.run(*arguments, code=code)
    assert not obeyed(result.stdout), arguments
    assert not obeyed(result.stderr), arguments
    assert not re.search(r"^Error: line", result.output, re.MULTILINE), "a name begins no line"
    return result


def cells(text: str) -> list[list[str]]:
    """Of CSV; none is a formula."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert not obeyed(text)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@", "\t", "\r"))]
    return rows


def check_page(file: Path) -> None:
    text = file.read_text("utf-8")
    assert not obeyed(text)
    parsed = Parsed(text)
    assert not [tag for tag, _ in parsed.tags if tag in ("script", "b")]
    links = [attributes.get(name) or "" for _, attributes in parsed.tags for name in ("href", "xlink:href", "src")]
    assert not [link for link in links if link and not link.startswith(("#", "data:image/"))]


def check_markdown(text: str) -> None:
    assert not obeyed(text)
    body = text.partition("\n---\n")[2] if text.startswith("---\n") else text
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    tokens += [child for token in tokens for child in token.children or ()]
    assert {"html_block", "html_inline", "link_open", "image"}.isdisjoint(token.type for token in tokens)


def test_card_and_record(there: Path) -> None:
    check_markdown((there / "adapter" / "README.md").read_text("utf-8"))
    assert [json.loads(file.read_text("utf-8")) for file in (there / "adapter").glob("*.json")]


def test_info_and_evaluate(there: Path) -> None:
    for name in ("adapter", "recipe.toml"):
        run("info", name)
        json.loads(run("info", name, "--json").stdout)
    run("evaluate", "adapter", "test")


def test_predict(there: Path) -> None:
    rows = [line.split("\t") for line in run("predict", "adapter", "test", "--all").stdout.splitlines()]
    assert len(rows) == len(CLASSES) * len(FILES)
    assert {len(row) for row in rows} == {3 + len(CLASSES)}
    printed = run("predict", "adapter", "test", "--all", "--json", "--csv", "=p.csv").stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    assert {line["label"] for line in lines} <= set(CLASSES) == set(lines[0]["probabilities"])
    header, *found = cells((there / "=p.csv").read_text("utf-8"))
    assert set(map(from_csv, header[3:])) == set(CLASSES)
    assert [from_csv(row[0]) for row in found] == [line["label"] for line in lines]


def test_sets_and_unknown(there: Path) -> None:
    asked = ("predict", "adapter", "test", "--sets", "0.6", "--unknown", "0.3")
    rows = [line.split("\t") for line in run(*asked).stdout.splitlines()]
    assert {len(row) for row in rows} == {4}
    assert {label for row in rows for label in row[3].split("|")} <= {
        visible(name).replace("|", "\\x7c") for name in CLASSES
    }
    lines = [json.loads(line) for line in run(*asked, "--json", "--csv", "=s.csv").stdout.splitlines()]
    assert {label for line in lines for label in line["set"]} <= set(CLASSES)
    assert len(cells((there / "=s.csv").read_text("utf-8"))) == len(lines) + 1
    run("evaluate", "adapter", "test", "--sets", "0.6", "--unknown-set", "more")


def test_suggest_and_label(there: Path) -> None:
    run("suggest", "test", "--adapter", "adapter", "--csv", "next.csv")
    header, *rows = cells((there / "next.csv").read_text("utf-8"))
    assert {from_csv(row[header.index("guess")]) for row in rows} <= set(CLASSES)
    files = [os.path.normpath(from_csv(row[0])) for row in rows]
    assert files and all(os.path.lexists(file) for file in files)
    run("suggest", "test", "--adapter", "adapter")
    json.loads(run("suggest", "test", "--model", "tiny", "--labels", "support", "--json").stdout)
    for name in CLASSES[:1] + CLASSES[5:]:
        (there / "one.json").write_text(json.dumps([name, "other"]))
        run("label", "test", "--out", "l.csv", "--classes", "one.json", "--no-browser", code=2)


def test_audit(there: Path) -> None:
    made = ("--html", "a.html", "--csv", "a.csv", "--write", "kept.csv")
    run("data", "audit", "test", "--model", "tiny", *made)
    json.loads(run("data", "audit", "test", "--model", "tiny", "--json").stdout)
    check_page(there / "a.html")
    assert len(cells((there / "a.csv").read_text("utf-8"))) > 1
    header, *rows = cells((there / "kept.csv").read_text("utf-8"))
    assert {from_csv(row[header.index("label")]) for row in rows} <= set(CLASSES)


def test_push(there: Path) -> None:
    run("push", "adapter", "org/name", code=2)
    run("push", "adapter", f"org/{CLASSES[0]}", code=2)
    with packed(read_adapter("adapter"), "org/name") as parcel:
        check_markdown((parcel.folder / CARD).read_text("utf-8"))


def test_export(there: Path) -> None:
    """What is beside an exported model, and the program that reads it."""
    subject = Subject.of(Classifier.from_pretrained("adapter")._now)
    made = Exporter(subject, Options(None, [], False), lambda *_: None)
    folder = there / "exported"
    folder.mkdir()
    write_companions(folder, made)
    write_readme(folder, made, {"compared": {"support_pictures": 0, "random_images": 1, "largest_difference": 0.0,
                                             "labels_agree": 1.0}, "views": [], "left_out": CLASSES})  # fmt: skip
    check_markdown((folder / README).read_text("utf-8"))
    text = (folder / LABELS).read_text("utf-8")
    assert json.loads(text) == list(subject.classes.labels) and not obeyed(text)
    started = (folder / PREDICT).read_text("utf-8")
    assert not obeyed(started) and not any(name in started for name in CLASSES)
    shown = re.search(r"def shown.*?\n\n", started, re.DOTALL)
    assert shown is not None
    found: dict[str, Any] = {}
    exec(shown[0], found)
    assert not obeyed("".join(found["shown"](name) for name in (*CLASSES, *FILES)))


def test_data_check_and_its_list(there: Path) -> None:
    run("data", "check", "test", "--write-list", "keep.csv")
    json.loads(run("data", "check", "test", "--json", "--no-duplicates").stdout)
    listed = cells((there / "keep.csv").read_text("utf-8"))
    assert {from_csv(row[1]) for row in listed[1:]} == set(CLASSES)
    json.loads(run("data", "classes", "test").stdout)
    made = run("bench", "episodes", "--dataset", "test", "--keep", "keep.csv", "--out", "e.json", "--way", "2",
               "--shot", "1", "--query", "1", "--episodes", "1")  # fmt: skip
    assert "1 episodes in e.json" in made.stdout


def test_bench(there: Path) -> None:
    run("bench", "run", "--store", "r.db", "--dataset", "test", "--model", "tiny", "--workers", "1", *QUICK)
    for form in ("table", "markdown", "latex", "csv", "json"):
        shown = run("bench", "report", "r.db", "--per-class", "--format", form).stdout
        run("bench", "compare", "r.db", "--baseline", "zero-shot", "--format", form)
        if form == "csv":
            assert {from_csv(row[-3]) for row in cells(shown)[1:]} <= set(CLASSES)
        if form == "markdown":
            check_markdown(shown)
    run("bench", "report", "r.db", "--format", "html", "--out", "r.html")
    check_page(there / "r.html")


def test_explain_report_and_add(there: Path) -> None:
    photo = f"test/{CLASSES[0]}/{FILES[2]}"
    run("explain", "adapter", photo, "--out", "e.svg")
    assert not obeyed((there / "e.svg").read_text("utf-8"))
    ElementTree.parse(there / "e.svg")
    run("report", "adapter", "--test", "test", "--out", "report.html", "--mistakes", "0")
    check_page(there / "report.html")
    run("add", "adapter", "more", "--out", "bigger")
    run("predict", "adapter", *(f"nowhere-{name}" for name in CLASSES), code=2)
