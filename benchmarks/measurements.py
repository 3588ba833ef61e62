"""What is measured: one table, a row for each thing that a pool does.

A measurement opens its own pool, does some work with it, and returns one number for each of its
metrics. Each checks what came back: a fast wrong answer is an error and not a record.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from contenders import AnyPool, Contender, StartMethod
from tasks import length, successor, zeros

WORKERS = len(os.sched_getaffinity(0))
BIG = 8 * 1024 * 1024


Measure = Callable[[Contender, int], Sequence[float]]


@dataclass(frozen=True)
class Metric:
    """One number that comes out, and whether more of it is better."""

    name: str
    unit: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Measurement:
    """A row or more of the table; ``measure(contender, count)`` returns a number for each metric.

    It is done ``turns`` times in a round: more than once where the system's placing of processes on
    processors, which lasts as long as a pool does, makes the figure jump from one pool to the next.
    """

    metrics: tuple[Metric, ...]
    measure: Measure
    count: int
    turns: int = 1


@contextmanager
def warm_pool(contender: Contender) -> Iterator[AnyPool]:
    """A forked pool all of whose workers have run something."""
    pool = contender.open(WORKERS, "fork")
    try:
        pool.map(successor, range(1_000), 1)
        yield pool
    finally:
        pool.terminate()
        pool.join()


def expect(right: bool) -> None:
    """Stop everything at a wrong answer."""
    if not right:
        raise AssertionError("a pool gave a wrong answer")


def round_trip(contender: Contender, count: int) -> Sequence[float]:
    """Median, mean and 99th percentile of ``apply``, in microseconds."""
    times = []
    with warm_pool(contender) as pool:
        for number in range(count):
            began = time.perf_counter()
            answer = pool.apply(successor, (number,))
            times.append(time.perf_counter() - began)
            expect(answer == number + 1)
    figures = (
        statistics.median(times),
        statistics.fmean(times),
        statistics.quantiles(times, n=100)[98],
    )
    return [figure * 1e6 for figure in figures]


def apply_async(pool: AnyPool, count: int) -> list[int]:
    """Submit everything one by one, then ask for everything."""
    pending = [pool.apply_async(successor, (number,)) for number in range(count)]
    return [each.get() for each in pending]


def map_(pool: AnyPool, count: int) -> list[int]:
    """A map whose chunks are the pool's choice."""
    return pool.map(successor, range(count))


def map_one_by_one(pool: AnyPool, count: int) -> list[int]:
    """A map with one task a chunk."""
    return pool.map(successor, range(count), 1)


def imap(pool: AnyPool, count: int) -> list[int]:
    """Results in order, from a generator."""
    return list(pool.imap(successor, (number for number in range(count))))


def imap_unordered(pool: AnyPool, count: int) -> list[int]:
    """Results as they come, from a generator."""
    return sorted(pool.imap_unordered(successor, (number for number in range(count))))


def throughput(work: Callable[[AnyPool, int], list[int]]) -> Measure:
    """Measure thousands of tasks a second, and the caller's CPU time for each in microseconds."""

    def measure(contender: Contender, count: int) -> Sequence[float]:
        with warm_pool(contender) as pool:
            began, cpu_began = time.perf_counter(), time.process_time()
            answers = work(pool, count)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        expect(answers == list(range(1, count + 1)))
        return count / seconds / 1e3, cpu / count * 1e6

    return measure


def start_up(method: StartMethod) -> Measure:
    """Measure the milliseconds from before ``Pool()`` to the first result."""

    def measure(contender: Contender, count: int) -> Sequence[float]:
        times = []
        for number in range(count):
            began = time.perf_counter()
            pool = contender.open(WORKERS, method)
            answer = pool.apply(successor, (number,))
            times.append(time.perf_counter() - began)
            expect(answer == number + 1)
            pool.terminate()
            pool.join()
        return (statistics.median(times) * 1e3,)

    return measure


def shutdown(end: Callable[[AnyPool], None]) -> Measure:
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


def big_argument(contender: Contender, count: int) -> Sequence[float]:
    """Milliseconds to send 8 MB."""
    content = os.urandom(BIG)
    with warm_pool(contender) as pool:
        began = time.perf_counter()
        sizes = [pool.apply(length, (content,)) for _ in range(count)]
        seconds = time.perf_counter() - began
    expect(sizes == [BIG] * count)
    return (seconds / count * 1e3,)


def big_result(contender: Contender, count: int) -> Sequence[float]:
    """Milliseconds to get 8 MB back."""
    with warm_pool(contender) as pool:
        began = time.perf_counter()
        sizes = [len(pool.apply(zeros, (BIG,))) for _ in range(count)]
        seconds = time.perf_counter() - began
    expect(sizes == [BIG] * count)
    return (seconds / count * 1e3,)


def _rates(name: str) -> tuple[Metric, ...]:
    return (
        Metric(name, "k tasks/s", more_is_better=True),
        Metric(f"{name}: the caller's CPU", "us/task"),
    )


MEASUREMENTS = (
    Measurement(
        (
            Metric("round trip of apply, p50", "us"),
            Metric("round trip of apply, mean", "us"),
            Metric("round trip of apply, p99", "us"),
        ),
        round_trip,
        count=1_000,
        turns=4,
    ),
    Measurement(_rates("tiny tasks by apply_async"), throughput(apply_async), count=20_000),
    Measurement(_rates("map"), throughput(map_), count=1_000_000),
    Measurement(_rates("map, chunksize=1"), throughput(map_one_by_one), count=100_000),
    Measurement(_rates("imap of a generator"), throughput(imap), count=200_000),
    Measurement(_rates("imap_unordered of a generator"), throughput(imap_unordered), count=200_000),
    Measurement((Metric("start-up, fork", "ms"),), start_up("fork"), count=20),
    Measurement((Metric("start-up, forkserver (warm)", "ms"),), start_up("forkserver"), count=5),
    Measurement((Metric("start-up, spawn", "ms"),), start_up("spawn"), count=3),
    Measurement(
        (Metric("close and join, idle", "ms"),), shutdown(lambda pool: pool.close()), count=10
    ),
    Measurement(
        (Metric("terminate and join, idle", "ms"),),
        shutdown(lambda pool: pool.terminate()),
        count=10,
    ),
    Measurement((Metric("argument of 8 MB", "ms"),), big_argument, count=20),
    Measurement((Metric("result of 8 MB", "ms"),), big_result, count=20),
)
