"""What a workload is, and what all of them need.

A workload opens its own pool, gives it some work, and returns one number for each of its metrics. Each checks what
came back: a fast wrong answer is an error and not a record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.tasks import successor

WORKERS = len(os.sched_getaffinity(0))
SECONDS = 1.0
"""About what the work of one sample may take; slow contenders get less of it."""

Measure = Callable[[Contender, int], Sequence[float]]


@dataclass(frozen=True)
class Metric:
    """One number that comes out, and whether more of it is better."""

    name: str
    unit: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Workload:
    """A row or more of the table; ``measure(contender, count)`` returns a number for each metric."""

    name: str
    metrics: tuple[Metric, ...]
    measure: Measure
    count: int  # of tasks, at most
    watched: bool = False  # the memory that it takes is measured from outside
    limit: float = 180.0  # seconds after which a contender is taken to hang


@contextmanager
def warm_pool(contender: Contender, workers: int = WORKERS, **options: Any) -> Iterator[Any]:
    """A pool all of whose workers have run something."""
    pool = contender.open(workers, **options)
    try:
        pool.map(successor, range(64), 1)
        yield pool
    finally:
        pool.terminate()
        pool.join()


def expect(right: bool) -> None:
    """Stop everything at a wrong answer."""
    if not right:
        raise AssertionError("a pool gave a wrong answer")


def affordable(work: Callable[[int], object], count: int, least: int = 32) -> int:
    """How many of ``count`` tasks to give, by the time that a few took: about ``SECONDS`` of work."""
    few = least
    while True:
        began = time.perf_counter()
        work(few)
        seconds = time.perf_counter() - began
        if seconds > SECONDS / 20 or few >= count:
            return max(least, min(count, int(few * SECONDS / seconds)))
        few = min(few * 8, count)
