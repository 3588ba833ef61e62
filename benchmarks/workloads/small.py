"""Small tasks: round trips, floods, maps and streams."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.tasks import successor
from benchmarks.workloads.base import Measure, Metric, Workload, affordable, expect, warm_pool


def round_trip(contender: Contender, count: int) -> Sequence[float]:
    """Median and 99th percentile of ``apply``, in microseconds."""
    times: list[float] = []

    def calls(number: int) -> None:
        times.clear()
        for n in range(number):
            began = time.perf_counter()
            answer = pool.apply(successor, (n,))
            times.append(time.perf_counter() - began)
            expect(answer == n + 1)

    with warm_pool(contender) as pool:
        calls(affordable(calls, count))
    return statistics.median(times) * 1e6, statistics.quantiles(times, n=100)[98] * 1e6


def submits(pool: Any, count: int) -> list[int]:
    """Submit everything one by one, then ask for everything."""
    pending = [pool.apply_async(successor, (number,)) for number in range(count)]
    return [each.get() for each in pending]


def map_(pool: Any, count: int) -> Any:
    """A map whose chunks are the pool's choice."""
    return pool.map(successor, range(count))


def map_list(pool: Any, count: int) -> Any:
    """The same, of a list of pairs."""
    return [a + 1 for a, _ in pool.map(tuple, [(n, n) for n in range(count)])]


def map_one_by_one(pool: Any, count: int) -> Any:
    """A map with one task a chunk."""
    return pool.map(successor, range(count), 1)


def imap(pool: Any, count: int) -> list[int]:
    """Results in order, from a generator."""
    return list(pool.imap(successor, (number for number in range(count))))


def imap_unordered(pool: Any, count: int) -> list[int]:
    """Results as they come, from a generator."""
    return sorted(pool.imap_unordered(successor, (number for number in range(count))))


def throughput(work: Callable[[Any, int], Any]) -> Measure:
    """Measure thousands of tasks a second, and the caller's CPU time for each in microseconds."""

    def measure(contender: Contender, count: int) -> Sequence[float]:
        with warm_pool(contender) as pool:
            number = affordable(lambda few: work(pool, few), count)
            began, cpu_began = time.perf_counter(), time.process_time()
            answers = work(pool, number)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        expect(list(answers) == list(range(1, number + 1)))
        return number / seconds / 1e3, cpu / number * 1e6

    return measure


def _rates(name: str) -> tuple[Metric, ...]:
    return (
        Metric(name, "k tasks/s", more_is_better=True),
        Metric(f"{name}: the caller's CPU", "us/task"),
    )


WORKLOADS = (
    Workload(
        "roundtrip",
        (Metric("round trip of apply, p50", "us"), Metric("round trip of apply, p99", "us")),
        round_trip,
        5_000,
    ),
    Workload("submits", _rates("tiny tasks by apply_async"), throughput(submits), 100_000),
    Workload("map", _rates("map of 1e6 integers"), throughput(map_), 1_000_000),
    Workload("map-pairs", _rates("map of 200,000 pairs"), throughput(map_list), 200_000),
    Workload("map-1", _rates("map, chunksize=1"), throughput(map_one_by_one), 200_000),
    Workload("imap", _rates("imap of a generator"), throughput(imap), 200_000),
    Workload("imap-unordered", _rates("imap_unordered of a generator"), throughput(imap_unordered), 200_000),
)  # fmt: skip
