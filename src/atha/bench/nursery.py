"""Workers that begin with everything imported: forked from a process that has imported it and done nothing else.

Imports are seconds of each worker's life, so that a fork is worth much; but a fork has one thread, and what other
threads of its parent held is held for ever. Hence from a process of our own, which computes nothing, and never from the
one that runs the benchmark: neither OpenMP's threads nor PyTorch's, nor any of Python's, have been started there. The
threads that OpenBLAS starts when it is loaded end before a fork and come back when they are needed; it sees to that
itself. What a user's main module does is done after the fork.

A GPU's driver does not survive a fork, and on a Mac the system's own libraries do not: workers are spawned there.
"""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from multiprocessing import active_children, connection, get_context, process, spawn
from multiprocessing.connection import Connection
from typing import Any, NoReturn

# What every worker needs, and what some methods do: torch's classes of optimisers import its compiler.
_IMPORTED = ("atha.bench.executors", "atha.data.opening", "tokenizers", "PIL.features")
_IMPORTED_FOR = {
    "linear-probe": ("sklearn.linear_model", "sklearn.preprocessing"),
    "tip-adapter-f": ("torch._dynamo",),
}


def possible(device: str) -> bool:
    """Whether workers for a device can be forked on this system."""
    return sys.platform == "linux" and device == "cpu"


class Nursery:
    """The process that workers are forked from. It and they end with this process, however that ends.

    It is started with the first worker, and nothing waits for its imports but the workers themselves.

    Args:
        methods: that will be run, by name.

    Raises:
        RuntimeError: Python's own, in a process that is importing the main module of another.
    """

    def __init__(self, methods: Iterable[str]) -> None:
        self._modules = [
            *_IMPORTED,
            *(one for name in methods for one in _IMPORTED_FOR.get(name.partition(":")[0], ())),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._preparation = spawn.get_preparation_data("worker")
        self._preparation["authkey"] = bytes(self._preparation["authkey"])  # else it refuses to be sent
        self._life = os.pipe()  # nothing is written: its end says that this process has ended

    def _start(self) -> None:
        self._orders, orders = socket.socketpair()
        inherited, modules = (orders.fileno(), self._life[0]), self._modules
        path = self._preparation["sys_path"]
        code = (
            f"import sys; sys.path[:] = {path!r}; from atha.bench import nursery; nursery._main{(*inherited, modules)}"
        )
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
        with orders:
            self._process = subprocess.Popen(  # noqa: S603 - our own code
                [spawn.get_executable(), *flags, "-c", code], stdin=subprocess.DEVNULL, pass_fds=inherited
            )

    def bear(self) -> "Forked":
        """Ask for a worker; it is on its way."""
        if self._process is None or self._process.poll() is not None:  # killed; its workers live on
            self._start()
        if (made := self._order()) is None:  # killed just now, and not gone yet
            assert self._process is not None
            self._process.wait()
            self._start()
            made = self._order()
        if made is None:
            raise OSError("workers cannot be started: the process that forks them ends at once")
        return made

    def _order(self) -> "Forked | None":
        ours, theirs = get_context("spawn").Pipe()
        with theirs:
            try:
                ours.send(self._preparation)
                socket.send_fds(self._orders, [b"1"], [theirs.fileno()])
            except OSError:
                ours.close()
                return None
        return Forked(ours)

    def close(self) -> None:
        """Have no more workers, and the end of those that are left."""
        if self._process is not None:
            self._process.terminate()  # while it imports, this ends it; later, what follows does
            self._orders.close()
        for end in self._life:
            os.close(end)

    def join(self) -> None:
        """Wait for its end, which comes when its last worker has ended."""
        if self._process is not None:
            self._process.wait()


class Forked:
    """A forked worker: no child of this process, so that the end of its pipe is its own."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.pid: int | None = None

    def kill(self) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def join(self) -> None:
        """Tell it that there is no more work, and wait for its end."""
        with suppress(OSError), socket.socket(fileno=os.dup(self.pipe.fileno())) as both:
            both.shutdown(socket.SHUT_WR)
        with suppress(EOFError, OSError):
            while True:
                self.pipe.recv_bytes()
        self.pipe.close()


def _main(orders: int, life: int, modules: list[str]) -> None:
    """The nursery's life: a worker for each pipe that it is sent."""
    for name in modules:
        with suppress(ImportError):  # the worker that needs it will say so
            import_module(name)
    from atha.bench.executors import work

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from now on it reaps its workers before it ends
    gc.freeze()  # what is there is looked at no more, and so stays one copy for all workers
    with socket.socket(fileno=orders) as sent:
        while True:
            _, pipes, _, _ = socket.recv_fds(sent, 1, 1)
            if not pipes:
                break
            pipe = Connection(pipes[0])
            # Dead ones are reaped here: multiprocessing does so whenever it starts another.
            get_context("fork").Process(target=_begin, args=(work, pipe, sent, life), daemon=True).start()
            pipe.close()
    for worker in active_children():
        worker.join()
    gc.unfreeze()  # else libraries print, at the end, what they think has leaked


def _begin(work: Callable[[Connection], None], pipe: Connection, orders: socket.socket, life: int) -> None:
    """A worker's life: first what `multiprocessing` does for a spawned one, then its work."""
    orders.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    import numpy as np

    np.random.seed()  # its global generator would be the same in all workers; Python's sees to that itself
    preparation: dict[str, Any] = pipe.recv()
    here: Any = process.current_process()
    here._inheriting = True  # while it imports the main module: that one must start no processes then
    try:
        spawn.prepare(preparation)
    finally:
        del here._inheriting
    work(pipe)


def _end_with(life: int) -> NoReturn:
    connection.wait([life])
    os._exit(1)
