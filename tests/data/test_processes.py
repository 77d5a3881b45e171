"""Work in a process of its own."""

import pytest

from atha.data.processes import BrokenOffError, TooLongError, ask

MAIN = """
import os, signal, resource
from atha.data.processes import answer, asked, limit
def main():
    limit("RLIMIT_CPU", asked())
    if asked_to_die: os.kill(os.getpid(), asked_to_die)
    answer({"limits": resource.getrlimit(resource.RLIMIT_CPU)}, b"more")
"""


def test_the_ends_of_a_process(tmp_path, monkeypatch):
    signal = pytest.importorskip("signal")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, number in {"whole": 0, "late": signal.SIGXCPU, "killed": signal.SIGKILL}.items():
        (tmp_path / f"{name}.py").write_text(f"asked_to_die = {int(number)}" + MAIN)
    assert ask("whole", 5, 60) == ({"limits": [5, 6]}, b"more"), "told before it is ended"
    with pytest.raises(TooLongError):
        ask("late", 5, 60)
    with pytest.raises(BrokenOffError):
        ask("killed", 5, 60)
