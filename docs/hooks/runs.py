"""Pictures, tables and a report on the site, from runs of the commands as a reader runs them.

What they give is kept by the content of the package, so that a page that is written anew costs no run.
"""

import hashlib
import html
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Photos to label and presses, and how the page tells that the next one is there and that the curve has all of them.
_PHOTOS, _PRESSED = 240, 40
_SHOWN = "(before) => document.body.dataset.place !== before && document.getElementById('wait').hidden"
_DRAWN = """(labels) => document.getElementById('curve').textContent.includes(`${labels} labels`)
  && document.querySelector('#curve .line').getAttribute('points').split(' ').length > 6"""


def files() -> dict[str, str | bytes]:
    """Content by path in the site."""
    folder = _made()
    return {f"made/{path.name}": path.read_bytes() for path in folder.iterdir() if path.suffix in (".html", ".png")}


@cache
def texts() -> dict[str, str]:
    """Markdown by the name that pages ask for it by."""
    folder = _made()
    shown = "report.png" if (folder / "report.png").is_file() else "maps.png"
    picture = (
        f'<a href="made/report.html"><img class="look" src="made/{shown}" alt="Top of a report: accuracy with '
        'interval beside zero-shot and a linear probe, and what to do next"></a>'
    )
    compared = json.loads((folder / "compared.json").read_text("utf-8"))
    rows = [
        f"| {html.escape(name)} | {100 * one['accuracy']:.1f}% | "
        f"{100 * one['interval95'][0]:.1f} to {100 * one['interval95'][1]:.1f} |"
        for name, one in compared.items()
    ]
    table = "\n".join(["| method | accuracy | 95% interval |", "|---|---:|---:|", *rows])
    label = ""
    if (folder / "label.png").is_file():
        label = (
            '<img class="look" src="../made/label.png" alt="The labelling page: a photo, a button for each class with '
            'its key, and beside it the estimated accuracy with its interval, its curve and what was labelled last">'
        )
    return {"picture": picture, "table": table, "label": label}


def _atha(*arguments: str, folder: Path) -> str:
    """What a command prints."""
    environment = {**os.environ, "COLUMNS": "100", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "atha", *arguments]
    found = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(f"atha {' '.join(arguments)} ended with {found.returncode}: {found.stderr[-2000:]}")
    return found.stdout


@cache
def _made() -> Path:
    """The folder with what the runs gave; they are made where it is not there."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix in (".py", ".toml", ".safetensors", ".html", ".css", ".js"):
            digest.update(path.read_bytes())
    folder = ROOT / ".cache" / "site" / digest.hexdigest()[:16]
    if folder.is_dir():
        return folder
    work = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    _atha("demo", "--images", "40", "--out", ".", folder=work)
    said = _atha(
        "fit",
        "digits/support",
        "--model",
        "nano",
        "--recipe",
        "probes",
        "--eval",
        "digits/test",
        "--out",
        "adapter",
        "--json",
        folder=work,
    )
    compared = json.loads(said)["evaluation"]
    compared["class texts and probes, blended"] = compared.pop("adapted")
    (work / "compared.json").write_text(json.dumps(compared), "utf-8")
    _atha("report", "adapter", "--test", "digits/test", "--out", "report.html", folder=work)
    photo = next((work / "digits" / "test" / "digit_seven").iterdir())
    _atha("explain", "adapter", str(photo), "--out", "maps.png", folder=work)
    with _browser() as browser:
        if browser is not None:
            shown = browser.new_page(viewport={"width": 900, "height": 320}, color_scheme="light")
            shown.goto((work / "report.html").resolve().as_uri(), wait_until="load")
            shown.screenshot(path=work / "report.png")
            _label(browser, work)
    for kept in ("digits", "adapter"):
        shutil.rmtree(work / kept)
    work.rename(folder)
    return folder


@contextmanager
def _browser() -> Iterator[Any]:
    """A browser; None where none is installed."""
    chromium = next((found for name in _NAMES if (found := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        yield None
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def _label(browser: Any, work: Path) -> None:
    """The labelling page after some keys were pressed."""
    from atha.demo import NAMES

    files = sorted((work / "digits" / "test").glob("*/*.png"))
    random.Random(0).shuffle(files)  # noqa: S311 - no secret
    del files[_PHOTOS:]
    keys: dict[str, str] = {}
    (work / "photos").mkdir()
    for number, file in enumerate(files):
        name = f"{number:04}.png"
        shutil.copy(file, work / "photos" / name)
        keys[name] = "1234567890"[NAMES.index(file.parent.name.removeprefix("digit_"))]
    command = [sys.executable, "-m", "atha", "label", "photos", "--model", "nano", "--no-browser"]
    command += ["--out", "labels.csv", "--classes", ",".join(f"digit {word}" for word in NAMES)]
    with subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme="light")
            page.set_default_timeout(120_000)  # of a machine with other work
            page.goto(address)
            page.wait_for_function("() => document.getElementById('looked').hidden && document.body.dataset.place")
            for _ in range(_PRESSED):
                place = page.evaluate("document.body.dataset.place")
                page.keyboard.press(keys[Path(page.get_attribute("#name", "title")).name])
                page.wait_for_function(_SHOWN, arg=place)
            page.wait_for_function(_DRAWN, arg=_PRESSED)
            page.screenshot(path=work / "label.png")
        finally:
            process.terminate()
    shutil.rmtree(work / "photos")


if __name__ == "__main__":  # renew the picture of the README: python docs/hooks/runs.py
    shutil.copy(_made() / "report.png", ROOT / "docs" / "report.png")
