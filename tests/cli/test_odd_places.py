"""Names that no file can have, outputs that nobody reads, links in a circle: a sentence, and no wait."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from atha.cli import app
from atha.cli.common import write
from atha.data.finding import find_images
from atha.errors import AthaError
from atha.files import whole_file
from commands import run

LONG = "x" * 300
IMAGES = ("data", "check", "images")


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", LONG),
        ("info", "--model", LONG),
        ("fit", LONG, "--out", "new"),
        ("fit", "images", "--out", LONG),
        ("fit", "images", "--out", "new", "--classes", LONG),
        ("fit", "images", "--out", "new", "--recipe", f"{LONG}.toml"),
        ("fit", "images", "--out", "new", "--eval", LONG),
        ("predict", LONG, "images"),
        ("predict", "nothing", "images", "--csv", LONG),
        ("report", "nothing", "--test", "images", "--out", f"{LONG}.html"),
        ("explain", "nothing", "image.png", "--out", f"{LONG}.png"),
        ("bench", "run", "--store", LONG, "--dataset", "images", "--method", "zero-shot"),
        ("bench", "report", LONG),
        ("bench", "merge", LONG, "--store", "r.db"),
        ("bench", "episodes", "--dataset", LONG, "--out", "e.json"),
        (*IMAGES, "--write-list", LONG),
        ("data", "check", "eurosat", "--root", LONG),
        ("study", "tail", "--data", "images", "--out", LONG),
        ("demo", "--out", LONG),
        ("serve", LONG),
        ("serve", "--onnx", LONG),
        ("serve", "nothing", "--token-file", LONG),
        ("push", LONG, "org/name"),
        ("export", "nothing", "--format", "onnx", "--out", LONG),
        ("label", "images", "--no-browser", "--out", f"{LONG}.csv"),
        ("label", LONG, "--no-browser", "--out", "labels.csv"),
        ("suggest", LONG),
        ("suggest", "images", "--csv", LONG),
        ("suggest", "images", "--classes", f"{LONG}.json"),
        ("suggest", "images", "--adapter", LONG),
        ("data", "audit", "images", "--html", LONG),
        ("data", "audit", "images", "--csv", LONG),
        ("data", "audit", "images", "--write", LONG),
        ("data", "audit", "images", "--adapter", LONG),
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"),
)
def test_a_name_that_is_too_long(
    support: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").symlink_to(support)
    result = run(*arguments, code=2)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert LONG in last
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@contextmanager
def to_nobody(kind: str) -> Iterator[TextIO | None]:
    if kind == "closed":
        yield None
        return
    if kind == "full":
        opened = os.open("/dev/full", os.O_WRONLY)
    else:
        unread, opened = os.pipe()
        os.close(unread)
    stream = os.fdopen(opened, "w")
    yield stream
    stream.close()  # what it holds must go nowhere by now, or Python complains at its end


@pytest.mark.parametrize("arguments", [("data", "list"), ("data", "list", "--json"), ("info", "paper")])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("full", "the output cannot be written (No space left on device): free space"),
        ("gone", "the reader of the output has gone"),
        ("closed", "there is no output to print to, it is closed"),
    ],
)
def test_output_that_nobody_gets(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    kind: str,
    sentence: str,
) -> None:
    with to_nobody(kind) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as ended:
            app(arguments)
        monkeypatch.undo()
    assert ended.value.code == 2
    assert capfd.readouterr().err.startswith(f"Error: {sentence}")


def test_a_reader_that_has_gone_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with to_nobody("gone") as stream, pytest.raises(AthaError, match="reader of the output"):
        monkeypatch.setattr(sys, "stdout", stream)
        with whole_file(tmp_path / "p.csv"):
            write("a line")


def test_links_in_a_circle_end(support: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).symlink_to(".")
    (tmp_path / "images").symlink_to(support)
    monkeypatch.chdir(tmp_path)
    expected = sorted(Path("images", path.relative_to(support)) for path in support.rglob("*.png"))
    for pattern in ("**/*.png", "**/**/*.png", "**/images/**", "images/**/*.png"):
        assert find_images([pattern]) == expected
    assert find_images(["a/**/red_thing/*.png"]) == [
        Path("a", path) for path in expected if path.parent.name == "red_thing"
    ]
