"""Tasks of very different lengths: how near a pool comes to greedy list scheduling.

200 tasks with Pareto-distributed lengths from a fixed seed. The figure is the makespan over the ideal one, which
is the sum of all lengths over the workers, or the longest task if that is more; greedy list scheduling (Graham,
"Bounds on multiprocessing timing anomalies", SIAM J. Appl. Math. 17, 1969) is given beside it.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.tasks import sleep, spin
from benchmarks.workloads.base import WORKERS, Measure, Metric, Workload, expect, warm_pool

TASKS = 200
TOTAL = 3.0
"""Seconds, of all tasks together."""


def lengths(order: str) -> list[float]:
    """Seconds of each task: as they come, or the longest last."""
    dice = random.Random(17)
    drawn = [dice.paretovariate(1.2) for _ in range(TASKS)]
    scale = TOTAL / sum(drawn)
    scaled = [scale * length for length in drawn]
    return sorted(scaled) if order == "longest last" else scaled


def ideal(given: Sequence[float]) -> float:
    """No schedule is shorter."""
    return max(sum(given) / WORKERS, *given)


def greedy(given: Sequence[float]) -> float:
    """The makespan of whoever gives the next task to the first worker that is free."""
    free = [0.0] * WORKERS
    for length in given:
        heapq.heapreplace(free, free[0] + length)
    return max(free)


def makespan(task: Callable[[float], float], order: str, options: dict[str, Any]) -> Measure:
    """Measure it over the ideal."""

    def measure(contender: Contender, _: int) -> Sequence[float]:
        given = lengths(order)
        with warm_pool(contender) as pool:
            began = time.perf_counter()
            answers = pool.map(task, given, **options)
            seconds = time.perf_counter() - began
        expect(list(answers) == given)
        return (seconds / ideal(given),)

    return measure


def _over(what: str, order: str) -> tuple[Metric, ...]:
    given = lengths(order)
    return (Metric(f"{what} (greedy {greedy(given) / ideal(given):.3f})", "of ideal"),)


WORKLOADS = (
    *(
        Workload(f"skew-{name}-{order.split()[0]}{suffix}", _over(f"skewed {name}, {order}{told}", order),
                 makespan(task, order, options), TASKS)
        for name, task in (("sleeps", sleep), ("computing", spin))
        for order in ("as drawn", "longest last")
        for suffix, told, options in (("", "", {}), ("-1", ", chunksize=1", {"chunksize": 1}))
    ),
)  # fmt: skip
