"""What the verbs that run benchmarks share: a store that can be used, and who does the work."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from atha.bench.runner import Executor

RUN_PANEL = "How to run"
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes. (default: one per core, on a GPU 1)", rich_help_panel=RUN_PANEL),
]
Threads = Annotated[int, typer.Option(min=1, help="Of each worker, on a CPU.", rich_help_panel=RUN_PANEL)]
Together = Annotated[
    int,
    typer.Option(
        min=1,
        help="Episodes trained in one pass: faster for small models and GPUs. Last bits differ with it.",
        rich_help_panel=RUN_PANEL,
    ),
]


def check_store(path: Path) -> None:
    """Whether the store can be used, before anything takes long; a new one is not made yet."""
    from atha.bench.store import Store
    from atha.bench.store_file import StoreError
    from atha.data.finding import kind_of
    from atha.files import check_free

    if kind_of(path) and (not path.is_file() or path.stat().st_size):
        Store(path).close()
        if not os.access(path, os.W_OK):
            raise StoreError(f"{path} can only be read: check its permissions, or give another --store")
    else:
        check_free(path, overwrite=True, option="--store")


def choose_executor(kind: str, address: str | None, workers: int | None, device: str, backbone: Any) -> "Executor":
    """Runs jobs in this process, in several, or on a Ray cluster."""
    from atha.bench.executors import run_here, run_in_workers
    from atha.machine import cores

    if kind == "ray":
        from atha.bench.on_ray import run_on_ray

        return lambda plan, jobs: run_on_ray(plan, jobs, address, workers)
    count = workers or (cores() if device == "cpu" else 1)
    if count == 1:
        return lambda plan, jobs: run_here(plan, jobs, backbone)
    return lambda plan, jobs: run_in_workers(plan, jobs, count)
