"""With how many threads a model was fitted is chosen and said."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from atha.adapter.files import read_adapter
from commands import run

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.setenv(name, "1")
    with threadpool_limits():
        yield
    torch.set_num_threads(1)


def test_threads_are_used_and_noted(support: Path, tiny_clip: str, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    torch.set_num_threads(2)
    run("fit", support, "--out", out, "--model", tiny_clip, "--recipe", "prototypes", "--threads", 1, code=0)
    assert torch.get_num_threads() == read_adapter(out).record.run.threads == 1
    assert "cpu with 1 thread;" in (out / "README.md").read_text()


def test_what_is_no_number_of_threads() -> None:
    run("predict", "a", "b", "--threads", "0", code=2)
