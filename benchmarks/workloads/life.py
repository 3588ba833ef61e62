"""The beginning and the end of a pool."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.contenders import START_METHODS, Contender
from benchmarks.tasks import successor
from benchmarks.workloads.base import WORKERS, Measure, Metric, Workload, expect, warm_pool


def start_up(method: str | None) -> Measure:
    """Measure the milliseconds from before ``Pool()`` to the first result; the first pool is not counted."""

    def measure(contender: Contender, count: int) -> Sequence[float]:
        times = []
        for number in range(count + 1):
            began = time.perf_counter()
            pool = contender.open(WORKERS, method)
            answer = pool.apply(successor, (number,))
            times.append(time.perf_counter() - began)
            expect(answer == number + 1)
            pool.terminate()
            pool.join()
        return (statistics.median(times[1:]) * 1e3,)

    return measure


def first(method: str) -> Measure:
    """Measure the same of the program's first pool."""

    def measure(contender: Contender, _: int) -> Sequence[float]:
        began = time.perf_counter()
        pool = contender.open(WORKERS, method)
        answer = pool.apply(successor, (1,))
        seconds = time.perf_counter() - began
        expect(answer == 2)
        pool.terminate()
        pool.join()
        return (seconds * 1e3,)

    return measure


def shutdown(end: Callable[[Any], None]) -> Measure:
    """Measure the milliseconds that it takes an idle pool to end."""

    def measure(contender: Contender, count: int) -> Sequence[float]:
        times = []
        for _ in range(count):
            with warm_pool(contender) as pool:
                began = time.perf_counter()
                end(pool)
                pool.join()
                times.append(time.perf_counter() - began)
        return (statistics.median(times) * 1e3,)

    return measure


def close(pool: Any) -> None:
    """The kind end."""
    pool.close()


def terminate(pool: Any) -> None:
    """The other one."""
    pool.terminate()


WORKLOADS = (
    Workload("start-own", (Metric("start to first result, the library's own way", "ms"),), start_up(None), 4),
    *(
        Workload(f"start-{method}", (Metric(f"start to first result, {method}", "ms"),), start_up(method), 10)
        for method in START_METHODS
    ),
    *(
        Workload(f"first-{method}", (Metric(f"a program's first pool, {method}", "ms"),), first(method), 1)
        for method in START_METHODS
    ),
    Workload("close", (Metric("close and join, idle", "ms"),), shutdown(close), 5),
    Workload("terminate", (Metric("terminate and join, idle", "ms"),), shutdown(terminate), 5),
)  # fmt: skip
