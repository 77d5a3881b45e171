"""Work in a process of its own, which can be ended, and whose end is nobody else's: for what comes from others' files.

A new Python costs a fraction of a second, so that this is for what may take long, or bring its process down.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import Any


class BrokenOffError(Exception):
    """The process ended without an answer."""


class TooLongError(Exception):
    """The process took too long, and was ended."""


def ask(module: str, asked: Any, seconds: float) -> tuple[dict[str, Any], bytes]:
    """Runs the function ``main`` of a module, which reads JSON from its input and answers with a line of it.

    Args:
        module: its full name.
        asked: values of JSON.
        seconds: until the process is ended, on a machine that may have other work.

    Returns:
        The answer, and what comes behind its line.

    Raises:
        BrokenOffError: there is no answer.
        TooLongError: there is none in time, or not within what the process allowed itself by `limit`.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and no shell
            _command(module), input=json.dumps(asked).encode(), capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise TooLongError from None
    if done.returncode == -getattr(signal, "SIGXCPU", 0) != 0:
        raise TooLongError
    return _read(done.stdout)


class Asking:
    """A process that works beside this one, as `ask` has it, for as long as it likes; it ends when this one does.

    Once it has read what it is asked, it is to call `end_with_input`. Windows lets other work come
    before it; elsewhere it is to see to that itself.

    Args:
        module: its full name.
        asked: values of JSON.
    """

    def __init__(self, module: str, asked: Any) -> None:
        # A pipe would hold the process up until somebody reads it.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(  # noqa: S603 - this Python, and no shell
            _command(module),
            stdin=subprocess.PIPE,
            stdout=self._said,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "IDLE_PRIORITY_CLASS", 0),
        )
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, which `answer` finds
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self) -> tuple[dict[str, Any], bytes] | None:
        """What it answered, see `ask`; None while it works.

        Raises:
            BrokenOffError: it ended without an answer.
        """
        if self._process.poll() is None:
            return None
        self._said.seek(0)
        return _read(self._said.read())

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._said.close()


def _command(module: str) -> list[str]:
    return [sys.executable, "-P", "-c", f"from {module} import main; main()"]


def _read(said: bytes) -> tuple[dict[str, Any], bytes]:
    first, _, rest = said.partition(b"\n")
    try:
        answer = json.loads(first)
    except ValueError:
        raise BrokenOffError from None
    if not isinstance(answer, dict):
        raise BrokenOffError
    return answer, rest


def asked() -> Any:
    """What this process was asked, by `ask` or by `Asking`."""
    return json.loads(sys.stdin.buffer.readline())


def end_with_input() -> None:
    """Let this process end when its input does, as it does when whoever asked is no more; returns at once."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, name="atha-input", daemon=True).start()


def answer(what: dict[str, Any], rest: bytes = b"") -> None:
    """Answer what was asked."""
    sys.stdout.buffer.write(json.dumps(what).encode() + b"\n")
    sys.stdout.buffer.write(rest)


def limit(kind: str, most: int) -> None:
    """Ends this process by itself, should nobody be left to do it, or keeps it from taking too much.

    Args:
        kind: as the system calls it, such as ``RLIMIT_CPU``.
        most: seconds of processors or bytes.
    """
    with suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        # Of time, the system tells that it was too much at the first limit, and only ends the process at the second.
        resource.setrlimit(getattr(resource, kind), (most, most + (kind == "RLIMIT_CPU")))
