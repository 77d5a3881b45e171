"""The tutorials' commands, as they stand in the pages, print what the pages show."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "hooks"))
import tutorials


@pytest.mark.tutorial
@pytest.mark.parametrize("page", tutorials.PAGES, ids=lambda page: page.stem)
def test_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATHA_CACHE", str(tmp_path / "cache"))
    steps = tutorials.run(page)
    assert len(steps) > 3
    wrong = {step.code: why for step in steps if (why := tutorials.differs(step.shown, step.printed))}
    assert not wrong


def test_what_differs_is_seen():
    shown = "| zero-shot | 10.0% | 7.0 |\nSaved in digits\n"
    assert not tutorials.differs(shown, "│ zero-shot  │  11.5% │ 8.0 │\nSaved in digits")
    assert "31.5" in tutorials.differs(shown, "│ zero-shot │ 31.5% │ 7.0 │\nSaved in digits")
    assert "lines" in tutorials.differs(shown, "│ zero-shot │ 10.0% │ 7.0 │")
    assert not tutorials.differs("10.0%\n...\n", "10.0%\nmuch more\nand more")
    assert "60.0" in tutorials.differs("10.0%\n...\n", "60.0%\nmuch more")
    assert "1 lines" in tutorials.differs("10.0%\nmore\n...\n", "10.0%")
    assert "better" in tutorials.differs("no difference", "better")
