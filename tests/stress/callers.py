"""What the caller's own code does: inputs, callbacks, slow consumers, pools in tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from millpond.testing import rows, tasks
from tests.stress import work
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, Stage, error_of, settled


def numbers_then_error(path: str, good: int) -> Iterator[tuple[str, int]]:
    for x in range(good):
        yield path, x
    raise tasks.Oops(good, "the input")


@fault(36, "the input of `map` raises", "that exception")
def map_input_raises(stage: Stage) -> None:
    with stage.pool() as pool:
        error_of(
            lambda: pool.map(work.jot_slowly_row, numbers_then_error(stage.journal, 5)),
            tasks.Oops,
            "input",
        )
        stage.check_at_most_once()


@fault(37, "the input of `imap` raises", "that exception, after the results before it")
def imap_input_raises(stage: Stage) -> None:
    with stage.pool() as pool:
        results = pool.imap(work.jot_slowly_row, numbers_then_error(stage.journal, 5))
        assert [results.next(SOON) for _ in range(5)] == list(range(5))
        error_of(lambda: results.next(SOON), tasks.Oops, "input")
        stage.check_runs(5)


@fault(38, "the input calls the same pool", "the right values")
def input_uses_the_pool(stage: Stage) -> None:
    with stage.pool() as pool:
        for method in ("map", "imap", "imap_unordered"):
            given = (pool.apply(tasks.square, (x,)) for x in range(6))
            got = list(getattr(pool, method)(tasks.square, given))
            assert sorted(got) == [x**4 for x in range(6)]


def bad_callback(_: object) -> NoReturn:
    raise tasks.Oops(1, "the callback")


@fault(39, "a callback raises", "reported; later results and callbacks come")
def callback_raises(stage: Stage) -> None:
    with stage.pool() as pool:
        told: list[int] = []
        results = [
            pool.apply_async(tasks.square, (x,), callback=told.append if x != 3 else bad_callback)
            for x in range(10)
        ]
        assert settled(results) == [x * x for x in range(10)]
        assert sorted(told) == [x * x for x in range(10) if x != 3]


@fault(40, "an error_callback raises", "reported; later results and callbacks come")
def error_callback_raises(stage: Stage) -> None:
    with stage.pool() as pool:
        told: list[BaseException] = []
        results = [
            pool.apply_async(
                tasks.fail, (x,), error_callback=told.append if x != 3 else bad_callback
            )
            for x in range(10)
        ]
        assert [x.number for x in settled(results)] == list(range(10))
        assert len(told) == 9


@fault(41, "20,000 tasks", "exact")
def many_tasks(stage: Stage) -> None:
    squares = [x * x for x in range(20_000)]
    with stage.pool() as pool:
        assert pool.map_async(tasks.square, range(20_000)).get(SOON) == squares
        assert list(pool.imap(tasks.square, range(20_000))) == squares
        assert sorted(pool.imap_unordered(tasks.square, range(20_000))) == squares
        assert settled([pool.apply_async(tasks.square, (x,)) for x in range(20_000)]) == squares


@fault(42, "endless input, slow consumer", "read at most `buffersize` ahead")
def endless_input(stage: Stage) -> None:
    for options in ({"buffersize": 10}, {}):
        pulled = 0

        def endless() -> Iterator[int]:
            nonlocal pulled
            while True:
                pulled += 1
                yield pulled - 1

        with stage.pool() as pool:
            results = pool.imap(tasks.square, endless(), **options)
            for x in range(300):
                assert results.next(SOON) == x * x
                assert pulled <= x + 1 + (options.get("buffersize") or 2048) + 1
                if x % 30 == 0:
                    time.sleep(0.005)  # the slow consumer
            results.close()


@fault(43, "slow input", "the first result comes before the input ends")
def slow_input(stage: Stage) -> None:
    first = threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        assert first.wait(SOON), "the first result was held back"
        yield 2

    with stage.pool() as pool:
        for method in ("imap", "imap_unordered"):
            first.clear()
            results = getattr(pool, method)(tasks.square, slow())
            assert results.next(SOON) == 1
            first.set()
            assert list(results) == [4]


@fault(44, "a flood of results, slow consumer", "unread results are bounded by bytes")
def flood_of_results(stage: Stage) -> None:
    size, count = 1 << 20, 300
    with stage.pool() as pool:
        pool.map(tasks.square, range(20))
        before = most = resident()
        results = pool.imap(work.produce, ((stage.journal, x, size) for x in range(count)))
        for x in range(count):
            got = results.next(SOON)
            assert got[0] == x
            del got
            time.sleep(0.001)  # the slow consumer
            most = max(most, resident())
        grown = (most - before) / size
        stage.measured["growth of the program's memory, in results of 300"] = grown, count / 2
        assert grown < count / 2
        stage.check_runs(count)


def resident() -> int:
    """Bytes of memory that this process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@fault(45, "a worker is replaced after each task", "nothing is lost at the hand-over")
def recycling(stage: Stage) -> None:
    with stage.pool(maxtasksperchild=1) as pool:
        given = [(stage.journal, x) for x in range(40)]
        assert pool.map_async(work.jot_slowly_row, given, 1).get(SOON) == list(range(40))
        stage.check_runs(40)


@fault(46, "a pool inside a task", "works")
def pool_inside(stage: Stage) -> None:
    with stage.pool() as pool:
        got: Any = pool.map_async(rows.nested, [3, 4, 5]).get(SOON)
        assert got == [[x * x for x in range(n)] for n in (3, 4, 5)]
