"""What a bug report needs, and what it must not tell."""

import getpass
import tomllib
from pathlib import Path

from atha.environment import environment
from commands import run


def test_every_package_and_extra_of_the_project_is_told():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    found = environment()
    assert set(found["extras"]) == set(project["optional-dependencies"])
    assert len(found["packages"]) == len(project["dependencies"])
    assert found["packages"]["torch"].startswith("2.")


def test_it_names_nobody(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    told = run("env")
    assert told.exit_code == 0
    assert "HF_HUB_OFFLINE 1" in told.output
    assert "hf_secret" not in told.output
    assert str(Path.home()) not in told.output
    assert getpass.getuser() == "root" or getpass.getuser() not in told.output
