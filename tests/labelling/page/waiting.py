"""What tests of work beside them wait with."""

import time
from collections.abc import Callable
from typing import Any


def until(what: Callable[[], Any]) -> Any:
    """What a function gives, once it gives something."""
    end = time.monotonic() + 120
    while not (found := what()):
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)
    return found
