"""``atha env``: what a bug report needs."""

from typing import Any

from atha.cli import common
from atha.cli.common import verb
from atha.documents.escaping import terminal


@verb
def env(json: common.Json = False, debug: common.Debug = False) -> None:
    """Say what a bug report needs: versions, processor, device, extras. No names of users or files."""
    from atha.environment import environment

    found = environment()
    if json:
        common.print_json(found)
        return
    for name, value in found.items():
        for line in _lines(name, value):
            common.out.print(terminal(line), markup=False, soft_wrap=True)


def _lines(name: str, value: Any) -> list[str]:
    if name == "memory":
        return [f"memory: {value / (1 << 30):.1f} GiB"]
    if name == "extras":
        return [f"extra {extra}: {_versions(packages)}" for extra, packages in value.items()]
    if isinstance(value, dict):
        return [f"{name}: {_versions(value) or 'none'}"]
    return [f"{name}: {'none' if value is None else value}"]


def _versions(packages: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {installed or 'not installed'}" for name, installed in packages.items())
