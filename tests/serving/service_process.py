"""``atha serve`` in a process of its own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Running(NamedTuple):
    """Where it listens, and its process."""

    address: str
    process: "subprocess.Popen[str]"


@contextmanager
def served(adapter: Path | str, *options: str) -> Iterator[Running]:
    """The service of an adapter, on any port that is free; ended when the block ends."""
    command = [sys.executable, "-m", "atha", "serve", str(adapter), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://\S+?/", line)
            assert found, line + process.stderr.read()
            yield Running(found[0], process)
        finally:
            process.kill()
