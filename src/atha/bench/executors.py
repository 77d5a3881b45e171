"""Who runs the jobs: this process, worker processes on this machine, or a Ray cluster. Results come as they are made.

A worker that dies takes nothing with it: its job is given to another, less the results that had arrived.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from atha import machine
from atha.backbones import Backbone
from atha.bench import nursery
from atha.bench.nursery import Forked, Nursery
from atha.bench.plan import Plan
from atha.bench.results import Result
from atha.bench.work import BenchError, EpisodeRunner, Job
from atha.documents.escaping import terminal
from atha.errors import AthaError, AthaWarning

#: Workers that may die of one job before the run is given up.
DEATHS = 3


def run_here(plan: Plan, jobs: Iterable[Job], backbone: Backbone | None = None) -> Generator[Result]:
    """Run jobs in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    runner = EpisodeRunner(plan, backbone)
    # While a processor is idle, and only then: times are measured.
    ahead = plan.device != "cpu" or machine.cores() > plan.threads
    waiting = iter(jobs)
    job = next(waiting, None)
    try:
        while job is not None:
            following = next(waiting, None)
            if ahead and following is not None:
                runner.prepare(following)
            yield from runner.run(job)
            job = following
    finally:
        runner.close()
        torch.set_num_threads(threads)


def run_in_workers(plan: Plan, jobs: Iterable[Job], workers: int) -> Generator[Result]:
    """Run jobs in processes on this machine, each of which loads the model once.

    Args:
        plan: what to run.
        jobs: taken one by one, when a worker is free.
        workers: how many processes.

    Raises:
        BenchError: a job killed several workers.
        AthaError: what a worker says.
    """
    crew: list[_Worker] = []
    source = Nursery(plan.methods) if nursery.possible(plan.device) else _Spawning()
    waiting = iter(jobs)
    again: list[_Assignment] = []

    def next_assignment() -> "_Assignment | None":
        if again:
            return again.pop(0)
        job = next(waiting, None)
        return None if job is None else _Assignment(job)

    try:
        while True:
            while len(crew) < workers and (first := next_assignment()) is not None:
                with _keyboard_waits():
                    crew.append(_Worker(first, source.bear()))
            if not crew:
                return
            for worker in connection.wait([worker.pipe for worker in crew]):
                member = next(one for one in crew if one.pipe is worker)
                try:
                    yield from member.receive(plan)
                except EOFError:
                    crew.remove(member)
                    member.process.join()
                    again.append(member.assignment.after_death(plan))
                    continue
                if member.assignment.finished:
                    following = next_assignment()
                    if following is None:
                        crew.remove(member)
                        member.process.join()
                    else:
                        member.give(following)
    finally:
        source.close()
        for member in crew:  # all, before any pipe is closed: what is dead prints nothing about a closed pipe
            member.process.kill()
        for member in crew:
            member.process.join()
        source.join()


def died(plan: Plan, job: Job) -> str:
    """The sentence on a job that killed its workers."""
    setting = plan.settings[job.setting]
    ends = (job.episodes[0], job.episodes[-1])
    numbers = dict.fromkeys(str(setting.episodes.episodes[position].index) for position in ends)
    return (
        f"{DEATHS} workers died on episode {' to '.join(numbers)} of {setting.pool.name}, "
        "probably for want of memory: lower --workers, or choose a smaller --model; all results so far are kept"
    )


@dataclass
class _Assignment:
    """A job in a worker's hands."""

    job: Job
    deaths: int = 0
    arrived: set[tuple[int, int]] = field(default_factory=set)  # (method, episode), as in the job
    finished: bool = False

    def arrive(self, plan: Plan, result: Result) -> None:
        """Note a result."""
        episodes = plan.settings[self.job.setting].episodes.episodes
        position = next(one for one in self.job.episodes if episodes[one].index == result.episode)
        self.arrived.add((plan.experiments[self.job.setting].index(result.experiment), position))

    def after_death(self, plan: Plan) -> "_Assignment":
        """What is left of the job when its worker died."""
        if self.deaths + 1 >= DEATHS:
            raise BenchError(died(plan, self.job))
        return _Assignment(self.job._replace(done=self.job.done | self.arrived), self.deaths + 1)


class _Worker:
    """A process and the pipe to it.

    It is started with next to nothing, so that starting does not wait for its imports, and asks for the plan when it
    can read it.

    Args:
        assignment: its first.
        process: that works.
    """

    def __init__(self, assignment: _Assignment, process: "Forked | _Spawned") -> None:
        self.assignment, self.process, self.pipe = assignment, process, process.pipe

    def give(self, assignment: _Assignment) -> None:
        self.assignment = assignment
        self._send(assignment.job)

    def _send(self, message: Plan | Job) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # a dead worker is noticed when it is read from
            self.pipe.send(message)

    def receive(self, plan: Plan) -> Iterator[Result]:
        try:
            message = self.pipe.recv()
        except ConnectionResetError:
            raise EOFError from None
        if isinstance(message, Result):
            self.assignment.arrive(plan, message)
            yield message
        elif isinstance(message, AthaError):
            raise message
        elif isinstance(message, int):
            self.process.pid = message
            self._send(plan)
            self._send(self.assignment.job)
        elif message is None:
            self.assignment.finished = True
        else:
            raise RuntimeError(message)


class _Spawning:
    """What has a `Nursery`'s methods where workers cannot be forked."""

    def bear(self) -> "_Spawned":
        return _Spawned()

    def close(self) -> None:
        pass

    def join(self) -> None:
        pass


class _Spawned:
    """A worker that begins with nothing imported."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_begin, args=(theirs,), daemon=True)
        self._process.start()
        self.pid = self._process.pid
        theirs.close()  # so that the worker's end is gone when the worker is

    def kill(self) -> None:
        self._process.kill()

    def join(self) -> None:
        self.pipe.close()
        self._process.join()


def _begin(pipe: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work(pipe)


def _show(message: Warning | str, *_: object, **__: object) -> None:
    print(f"Warning: {terminal(str(message))}", file=sys.stderr)


def work(pipe: Connection) -> None:
    """A worker's life: its number out, the plan and jobs in, results and then None out; or the error that ends it."""
    warnings.simplefilter("ignore")  # libraries' own; the parent has shown them, or left them out
    warnings.simplefilter("default", AthaWarning)
    warnings.showwarning = _show
    runner: EpisodeRunner | None = None
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            pipe.send(os.getpid())
            plan = pipe.recv()
            torch.set_num_threads(plan.threads)
            runner = EpisodeRunner(plan)
            while True:
                job = pipe.recv()
                for result in runner.run(job):
                    pipe.send(result)
                pipe.send(None)
        except AthaError as error:
            pipe.send(_portable(error))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass
        except Exception as error:
            pipe.send(f"{type(error).__name__} in a worker: {error}")
    if runner is not None:
        runner.close()


def _portable(error: AthaError) -> AthaError:
    """An error that another process can be sent: its class may want other arguments than its sentence."""
    return BenchError(str(error))


@contextmanager
def _keyboard_waits() -> Iterator[None]:
    """Ctrl-C reaches this process when it is over, and never a process that is started meanwhile.

    The parent says when to stop; a worker that is interrupted in its imports, or is told half of what it needs to
    start, would print a traceback. Blocking the signal keeps it from the worker, which inherits that; but here any
    thread of a library may be given it instead, so that what it does must wait too.
    """
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    # Python acts on signals in the main thread alone, and cannot put back a handler that is not Python's.
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    handler = signal.signal(signal.SIGINT, note) if ours else None
    try:
        with _blocked():
            yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started with the first worker, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
