"""Work on many images ahead of whoever wants the results: in background threads, in order, in bounded memory.

Threads and not processes: Pillow and torch let other threads run while they decode and resize, and a process would
import torch and transformers first, for seconds and hundreds of megabytes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from atha import machine
from atha.devices import on_one_core

_MOST = 8

Source = TypeVar("Source")
Result = TypeVar("Result")


def load_ahead(
    load: Callable[[Source], Result], sources: Iterable[Source], ahead: int, threads: int | None = None
) -> Iterator[Result]:
    """``map(load, sources)``, computed up to ``ahead`` results before they are wanted.

    Args:
        load: called in background threads; an exception comes out where its result would.
        sources: taken as they are needed.
        ahead: results that are kept ready, those being computed included.
        threads: how many; by default one per core, and few enough for each to hold a large photo. No result depends
            on it.
    """
    waiting: deque[Future[Result]] = deque()
    rest = iter(sources)
    with ThreadPoolExecutor(threads or min(machine.cores(), _MOST), initializer=on_one_core) as pool:
        try:
            waiting.extend(pool.submit(load, source) for source in islice(rest, ahead))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(load, source) for source in islice(rest, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
