"""Shared fixtures: small labelled images, tiny models of every family, and the real images where they are present."""

import gc
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atha import machine

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
PATIENCE = 300  # no test that is not slow takes a tenth of it


def pytest_collectstart() -> None:
    """Imports leave nothing behind: looking for it would be a fifth of their time."""
    gc.disable()


def pytest_collection_modifyitems() -> None:
    """The same for all tests; and not in the process that hands them out, which needs no torch."""
    import torch

    # Tiny models run faster on one thread, and several on few cores get in each other's way.
    torch.set_num_threads(1)
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Else libraries count, at the end, what they think has leaked."""
    gc.unfreeze()


def pytest_xdist_auto_num_workers(config) -> int:
    """As many as the cores that this process may use; each takes about a gigabyte."""
    return min(machine.cores(), 4)


@pytest.fixture(autouse=True)
def end(request):
    """A process or a thread that never ends fails the test that waits for it, and holds up no other."""
    if not hasattr(signal, "SIGALRM") or request.node.get_closest_marker("slow"):
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"not done after {PATIENCE} s"))
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def write_images(root: Path, classes: dict[str, tuple[int, int, int]], count: int, seed: int = 0) -> Path:
    """Class folders of noisy images, each class around a colour of its own."""
    rng = np.random.default_rng(seed)
    for name, colour in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.clip(np.array(colour) + rng.normal(0, 40, (24, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{seed}_{index}.png")
    return root


COLOURS = {"red_thing": (200, 60, 60), "GreenThing": (60, 200, 60), "blue thing": (60, 60, 200)}


@pytest.fixture(scope="session")
def support(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("support"), COLOURS, 2)


@pytest.fixture(scope="session")
def test_folder(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("test"), COLOURS, 4, seed=1)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; tests are skipped where none is installed."""
    from browser import chromium, launched

    if chromium() is None:
        pytest.skip("no Chromium is installed")
    with launched() as made:
        yield made


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> str:
    """A CLIP of three small blocks, for what does not ask how good or how large a model is: a tenth of nano's time."""
    import tiny_models

    return tiny_models.make("clip", tmp_path_factory.mktemp("tiny") / "clip").name


@pytest.fixture(scope="session")
def real_images(tmp_path_factory):
    """A function from the name of a data set to its class folders."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder of real images, shared/data beside the project, is not there")
    root = tmp_path_factory.mktemp("real")

    def unpack(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            with zipfile.ZipFile(SHARED_DATA / f"{name}.zip") as archive:
                archive.extractall(folder)
        return folder

    return unpack
