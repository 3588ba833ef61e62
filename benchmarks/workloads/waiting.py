"""What a task costs that waits, and what the caller pays for each as the workers become more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.tasks import sleep, successor
from benchmarks.workloads.base import (
    WORKERS,
    Measure,
    Metric,
    Workload,
    affordable,
    expect,
    warm_pool,
)
from benchmarks.workloads.small import submits

EACH = 0.002
"""Seconds between two results, whatever the number of workers: each task sleeps longer as there are more."""


def resident() -> int:
    """Bytes of this process's memory."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) << 10


def pending(contender: Contender, count: int) -> Sequence[float]:
    """Bytes of the caller's memory for each task that waits for a worker."""
    with warm_pool(contender) as pool:
        number = affordable(lambda few: submits(pool, few), count)
        blockers = [pool.apply_async(sleep, (3.0,)) for _ in range(WORKERS)]
        before = resident()
        waiting = [pool.apply_async(successor, (n,)) for n in range(number)]
        grown = resident() - before
        expect([each.get() for each in waiting] == list(range(1, number + 1)))
        del blockers
    return (grown / number,)


def by_workers(workers: int) -> Measure:
    """Measure the caller's CPU microseconds a task, chunks of one, with so many workers that sleep."""

    def measure(contender: Contender, count: int) -> Sequence[float]:
        seconds = [EACH * workers] * max(count, workers * 4)
        with warm_pool(contender, workers) as pool:
            began = time.process_time()
            answers = pool.map(sleep, seconds, 1)
            cpu = time.process_time() - began
        expect(list(answers) == seconds)
        return (cpu / len(seconds) * 1e6,)

    return measure


WORKLOADS = (
    Workload("pending", (Metric("memory of a pending task", "bytes"),), pending, 200_000),
    *(
        Workload(f"workers-{n}", (Metric(f"the caller's CPU a task, {n} workers", "us/task"),), by_workers(n), 400)
        for n in (1, 2, 4, 8, 16, 32)
    ),
)  # fmt: skip
