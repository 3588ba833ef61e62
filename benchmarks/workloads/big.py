"""Big arguments, results and functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.contenders import Contender
from benchmarks.tasks import held, hold, item, length, successor, zeros
from benchmarks.workloads.base import (
    WORKERS,
    Measure,
    Metric,
    Workload,
    affordable,
    expect,
    warm_pool,
)

MIB = 1 << 20
HUGE = 500 * 10**6
CHUNKS = 8


def megabytes(
    size: int, make: Callable[[int], Any], work: Callable[[Any, list[Any]], list[int]]
) -> Measure:
    """Measure how many bytes a second travel, in MB/s, after a first few."""

    def measure(contender: Contender, count: int) -> Sequence[float]:
        def given(number: int) -> list[Any]:
            return [make(size) for _ in range(number)]

        with warm_pool(contender) as pool:
            number = affordable(lambda few: work(pool, given(few)), count, least=WORKERS * 2)
            inputs = given(number)
            began = time.perf_counter()
            sizes = work(pool, inputs)
            seconds = time.perf_counter() - began
        expect(sizes == [size] * number)
        return (number * size / seconds / 1e6,)

    return measure


def arguments(size: int) -> Measure:
    """Arrays to the workers, each another one: joblib keeps those that it has met."""
    return megabytes(
        size,
        lambda size: np.ones(size, np.uint8),
        lambda pool, arrays: list(pool.map(length, arrays, 1)),
    )


def results(size: int) -> Measure:
    """Arrays back; each is let go of when its length is known, as far as the pool lets go of it."""
    return megabytes(
        size, int, lambda pool, sizes: [len(array) for array in pool.imap(zeros, sizes)]
    )


def bound(contender: Contender, _: int) -> Sequence[float]:
    """Seconds for eight chunks of tasks of ``partial(f, array)`` with 500 MB."""
    array = np.ones(HUGE, np.uint8)
    with warm_pool(contender) as pool:
        began = time.perf_counter()
        answers = pool.map(partial(item, array), range(CHUNKS), 1)
        seconds = time.perf_counter() - began
    expect(list(answers) == [1] * CHUNKS)
    return (seconds,)


def initialized(contender: Contender, _: int) -> Sequence[float]:
    """Seconds from before the pool to eight answers from workers that hold 500 MB, given to their initializer."""
    array = np.ones(HUGE, np.uint8)
    began = time.perf_counter()
    pool = contender.open(WORKERS, initializer=hold, initargs=(array,))
    try:
        answers = pool.map(held, range(CHUNKS), 1)
        seconds = time.perf_counter() - began
    finally:
        pool.terminate()
        pool.join()
    expect(list(answers) == [1] * CHUNKS)
    return (seconds,)


def memory(work: Callable[[Any, int], int]) -> Measure:
    """Nothing is measured here, but from outside: how much memory it takes."""

    def measure(contender: Contender, count: int) -> Sequence[float]:
        with warm_pool(contender) as pool:
            print("begin", flush=True)
            expect(work(pool, count) == count)
            print("end", flush=True)
        return ()

    return measure


def _arguments(pool: Any, count: int) -> int:
    arrays = (np.ones(64 * MIB, np.uint8) for _ in range(count))
    return sum(size == 64 * MIB for size in pool.imap(length, arrays))


def _results(pool: Any, count: int) -> int:
    return sum(len(array) == 64 * MIB for array in pool.imap(zeros, [64 * MIB] * count))


def _map(pool: Any, count: int) -> int:
    return sum(1 for _ in pool.map(successor, range(count)))


def _endless(pool: Any, count: int) -> int:
    return sum(1 for _ in pool.imap(successor, (number for number in range(count))))


def _rate(name: str) -> tuple[Metric, ...]:
    return (Metric(name, "MB/s", more_is_better=True),)


def _peak(name: str) -> tuple[Metric, ...]:
    return (Metric(f"peak extra memory: {name}", "MB"),)


WORKLOADS = (
    Workload("arguments-8", _rate("arguments of 8 MiB"), arguments(8 * MIB), 64),
    Workload("arguments-64", _rate("arguments of 64 MiB"), arguments(64 * MIB), 16),
    Workload("results-8", _rate("results of 8 MiB"), results(8 * MIB), 200),
    Workload("results-64", _rate("results of 64 MiB"), results(64 * MIB), 64),
    Workload("partial", (Metric("partial(f, 500 MB), 8 chunks", "s"),), bound, 1),
    Workload("initializer", (Metric("initializer with 500 MB, 8 chunks", "s"),), initialized, 1),
    Workload("memory-arguments", _peak("16 arguments of 64 MiB by imap"), memory(_arguments), 16, watched=True),
    Workload("memory-results", _peak("16 results of 64 MiB by imap"), memory(_results), 16, watched=True),
    Workload("memory-map", _peak("map of 1e6 integers"), memory(_map), 1_000_000, watched=True),
    Workload("memory-imap", _peak("imap over 1e6 integers"), memory(_endless), 1_000_000, watched=True),
)  # fmt: skip
