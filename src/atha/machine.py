"""What this process has of the machine: cores, memory, and the most of it that it has used."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil

# Linux keeps a process's peak, and lets it be reset; elsewhere the peak is that of the process since its start.
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# What a container may use, in the two versions of control groups.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def cores() -> int:
    """CPU cores that this process may use, which can be fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or less where its group of processes has a limit."""
    found = [int(psutil.virtual_memory().total)]
    for limit in _LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(int(limit.read_text()))
    return min(found)


def reset_peak() -> None:
    """Begin a new peak, where the system can."""
    if _RESET.exists():
        with suppress(OSError):
            _RESET.write_text("5")


def peak_memory() -> int | None:
    """Most bytes of memory since `reset_peak`, or since the start; None where the system does not tell."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
