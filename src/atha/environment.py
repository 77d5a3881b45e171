"""What a bug report needs to know of a machine and of what is installed on it."""

import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from atha.machine import cores, memory

#: Of what the processor tells of itself, what results and speed depend on.
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
#: Settings of others that change what happens here.
_SETTINGS = (
    "ATEN_CPU_CAPABILITY",
    "CUDA_VISIBLE_DEVICES",
    "HF_HUB_OFFLINE",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "TRANSFORMERS_OFFLINE",
)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*(?:;.*extra\s*==\s*['\"]([^'\"]+)['\"])?")


def environment() -> dict[str, Any]:
    """This machine and installation: no names of users, files or networks.

    Returns:
        JSON-able: ``atha``, ``python``, ``system``, ``processor`` with the instructions that results depend on,
        ``cores``, ``memory`` in bytes, ``device`` and ``precision`` that are taken by themselves, ``accelerator``,
        ``packages`` and, by name, ``extras`` with their packages; a package that is missing is None.
    """
    import torch

    from atha.devices import resolve_device, resolve_precision

    packages, extras = _packages()
    device = resolve_device()
    return {
        "atha": version("atha"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "memory": memory(),
        "device": str(device),
        "precision": resolve_precision("auto", device),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda of torch": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "settings": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
        "packages": packages,
        "extras": extras,
    }


def _processor() -> str:
    name, features = platform.processor() or platform.machine(), set[str]()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name":
                name = value
            elif key in ("flags", "Features"):
                features = set(value.split())
                break
    return ", ".join([name, *(feature for feature in _FEATURES if feature in features)])


def _packages() -> tuple[dict[str, str | None], dict[str, dict[str, str | None]]]:
    """Versions of what the package needs, and of what its extras need, as its metadata says."""
    packages: dict[str, str | None] = {}
    extras: dict[str, dict[str, str | None]] = {}
    for requirement in requires("atha") or ():
        found = _REQUIREMENT.match(requirement)
        assert found is not None
        name, extra = found.groups()
        try:
            installed: str | None = version(name)
        except PackageNotFoundError:
            installed = None
        (extras.setdefault(extra, {}) if extra else packages)[name] = installed
    return packages, extras
