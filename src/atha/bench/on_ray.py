"""A Ray cluster as executor: episodes are tasks, and the driver alone writes the store.

Every node needs the same files at the same paths (images, model, recipe and method files) and the same atha. A task's
process loads the model once and keeps it for the tasks that follow.
"""

import os
import uuid
from collections.abc import Generator, Iterable
from typing import Any

from atha.bench.executors import DEATHS, died
from atha.bench.plan import Plan
from atha.bench.results import Result
from atha.bench.work import BenchError, EpisodeRunner, Job
from atha.errors import AthaError

# Read when Ray is imported, and by the processes that it starts. Under uv run, Ray would have every worker build an
# environment anew, for minutes or in vain, while nodes have atha installed. Nothing is to be told to anybody. Ray gives
# workers niceness 15, and gives up those that need more than a minute to start: on a busy machine, all of them.
for _name, _value in {
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": "600",
}.items():
    os.environ.setdefault(_name, _value)
# One per process of the cluster: the runner of the run that the process last worked for.
_kept: dict[str, EpisodeRunner] = {}


def run_on_ray(
    plan: Plan, jobs: Iterable[Job], address: str | None = None, workers: int | None = None
) -> Generator[Result]:
    """Run jobs as tasks of a Ray cluster; each takes the plan's threads as CPUs, or one GPU.

    Args:
        plan: what to run.
        jobs: taken one by one, as the cluster has room.
        address: of the cluster; None starts one on this machine, ``auto`` finds one that is there.
        workers: tasks at once; by default as many as the cluster has CPUs (or GPUs) for.

    Raises:
        BenchError: Ray is not installed or cannot be reached, or a job killed several workers.
        AthaError: what a task says.
    """
    try:
        import ray
    except ImportError:
        raise BenchError("ray is not installed, install it with: pip install 'atha[ray]'") from None
    started = not ray.is_initialized()
    if started:
        _start(ray, address, workers, plan)
    gpu = plan.device.startswith("cuda")
    task = ray.remote(num_cpus=0 if gpu else plan.threads, num_gpus=1 if gpu else 0, max_retries=DEATHS - 1)(_episode)
    run, shared = uuid.uuid4().hex, [ray.put(plan)]
    running: dict[Any, Job] = {}
    waiting = iter(jobs)
    try:
        while True:
            while len(running) < (workers or _room(ray, plan, gpu)) and (job := next(waiting, None)) is not None:
                running[task.remote(run, shared, job)] = job
            if not running:
                return
            for reference in ray.wait(list(running))[0]:
                job = running.pop(reference)
                yield from _results(ray, reference, job, plan)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def _results(ray: Any, reference: Any, job: Job, plan: Plan) -> list[Result]:
    """What a task gave."""
    try:
        found = ray.get(reference)
    except ray.exceptions.WorkerCrashedError:
        raise BenchError(died(plan, job)) from None
    except ray.exceptions.RayError as error:
        raise BenchError(f"Ray failed ({_first_line(error)}): all results so far are kept") from error
    if isinstance(found, str):
        raise BenchError(found)
    return list(found)


def _start(ray: Any, address: str | None, workers: int | None, plan: Plan) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        options["include_dashboard"] = False
        if workers is not None and not plan.device.startswith("cuda"):
            options["num_cpus"] = workers * plan.threads
    try:
        ray.init(address, **options)
    except Exception as error:  # connection, version and resource errors have no common class
        where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        token = ", and set RAY_AUTH_MODE=token if it asks for a token" if address else ""
        raise BenchError(f"cannot use {where} ({_first_line(error)}): check --ray-address{token}") from error


def _room(ray: Any, plan: Plan, gpu: bool) -> int:
    """Tasks that the cluster has room for, as it is now: nodes come and go."""
    resources = ray.cluster_resources()
    return max(1, int(resources.get("GPU", 0) if gpu else resources.get("CPU", 1) // plan.threads))


def _episode(run: str, shared: list[Any], job: Job) -> list[Result] | str:
    """A task: the job's results, or the sentence that says why there are none.

    The plan comes as a reference in a list, which Ray leaves alone: it is fetched once in each process.
    """
    import ray
    import torch

    try:
        if run not in _kept:
            plan = ray.get(shared[0])
            _kept.clear()
            torch.set_num_threads(plan.threads)
            _kept[run] = EpisodeRunner(plan)
        return list(_kept[run].run(job))
    except AthaError as error:
        return str(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
