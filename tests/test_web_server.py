"""What happens to a service that is told to end."""

import signal
import subprocess
import sys
import time

import pytest

_SERVICE = """
import contextlib
from starlette.applications import Starlette
from atha.web.limits import Limits
from atha.web.server import bind, run

@contextlib.asynccontextmanager
async def lifespan(_):
    yield

answered = run(Starlette(lifespan=lifespan), bind("127.0.0.1", 0), Limits(), 5, lambda: print("ready", flush=True))
print("answered" if answered else "broken off")
"""


@pytest.mark.parametrize(("times", "said"), [(1, "answered"), (2, "broken off")])
def test_told_to_end(times: int, said: str) -> None:
    """Once, all is answered first; twice, it ends at once, and silently."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVICE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.005)  # both while the first is not yet seen to
        out, err = process.communicate(timeout=20)
    assert (out.strip(), err, process.returncode) == (said, "", 0)
