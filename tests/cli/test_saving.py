"""What was trained is not lost where it cannot be saved."""

import tempfile
from pathlib import Path

import pytest

from atha.adapter import files
from atha.adapter.files import read_adapter
from atha.cli import common
from commands import run

FIT = ["--recipe", "prototypes", "--model"]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Folders of a disk without space."""
    disk: list[Path] = []
    real = files._write_tensors

    def write(path: Path, *values: object) -> None:
        if any(path.is_relative_to(folder) for folder in disk):
            raise OSError(28, "No space left on device")
        real(path, *values)

    monkeypatch.setattr(files, "_write_tensors", write)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return disk


def test_a_full_disk_costs_no_training(support: Path, tiny_clip: str, tmp_path: Path, full: list[Path]) -> None:
    full.append(tmp_path / "disk")
    out = tmp_path / "disk" / "adapter"
    result = run("fit", support, "--out", out, *FIT, tiny_clip, code=2)
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith(f"Error: cannot write {out} (No space left on device)")
    assert list(out.parent.iterdir()) == []
    kept = Path(sentence.rpartition(" ")[2])
    assert kept.is_relative_to(tmp_path / "temporary")
    assert set(read_adapter(kept).classes.labels) == {one.name for one in support.iterdir()}


def test_somebody_who_is_there_is_asked(
    support: Path, tiny_clip: str, tmp_path: Path, full: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    full += [tmp_path / "disk", tmp_path / "temporary", Path("/dev/shm")]
    monkeypatch.setattr(common, "is_interactive", lambda: True)
    answers = f"{tmp_path / 'disk' / 'other'}\n{tmp_path / 'elsewhere'}\n"
    arguments = ["fit", str(support), "--out", str(tmp_path / "disk" / "adapter"), *FIT, tiny_clip]
    result = run(*arguments, answers=answers, code=0)
    assert result.stderr.count("No space left on device") == 2
    assert "elsewhere" in result.stdout
    assert read_adapter(tmp_path / "elsewhere").classes
    assert list((tmp_path / "temporary").iterdir()) == []
