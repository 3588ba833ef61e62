"""Who drives: waiters, nested waits, waiters that leave, timeouts, the caretaker, and the end of a pool."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from millpond import Pool, TimeoutError, seat
from millpond.testing import tasks
from millpond.testing.simulation_pool import SimulatedPool
from millpond.testing.simulation_world import World

SOON = 20.0


def square(x: int) -> int:
    return x * x


def sleep_then(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


BACKENDS: dict[str, Callable[[], Pool]] = {
    "fork": lambda: Pool(2, start_method="fork"),
    "threads": lambda: Pool(2, backend="threads"),
    "simulated": lambda: SimulatedPool(2, world=World(seed=3)),
}


@pytest.fixture(params=BACKENDS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    pool = BACKENDS[request.param]()
    yield pool
    pool.terminate()
    pool.join()


def in_threads(*acts: Callable[[], Any]) -> list[Any]:
    """Run all at once; return what they returned, or raise what one raised."""
    results: list[Any] = [None] * len(acts)
    failures: list[BaseException] = []
    together = threading.Barrier(len(acts))

    def run(number: int, act: Callable[[], Any]) -> None:
        try:
            together.wait(SOON)
            results[number] = act()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive(), "a thread waits for ever"
    if failures:
        raise failures[0]
    return results


def test_two_waiters_for_one_result(pool: Pool) -> None:
    for n in range(30):
        result = pool.apply_async(square, (n,))
        assert in_threads(result.get, result.get, result.get) == [n * n] * 3


def test_many_waiters_each_for_his_own(pool: Pool) -> None:
    def caller(n: int) -> list[int]:
        return [pool.apply(square, (x,)) for x in range(n, n + 25)]

    got = in_threads(*(lambda n=n: caller(n) for n in range(6)))
    assert got == [[x * x for x in range(n, n + 25)] for n in range(6)]


def test_a_waiter_whose_driver_leaves_gets_his_result() -> None:
    """The first drives until his own result is there; the second's comes later, with nobody driving."""
    with Pool(2, start_method="fork") as pool:
        quick, slow = pool.apply_async(square, (2,)), pool.apply_async(sleep_then, (0.2, 7))
        assert in_threads(lambda: quick.get(SOON), lambda: slow.get(SOON)) == [4, 7]
        pool.terminate()
        pool.join()


def test_a_driver_whose_patience_ends_leaves_the_seat_to_others() -> None:
    with Pool(1, start_method="fork") as pool:
        slow = pool.apply_async(sleep_then, (0.3, 7))

        def impatient() -> str:
            with pytest.raises(TimeoutError):
                slow.get(0.05)
            return "left"

        assert in_threads(impatient, lambda: slow.get(SOON)) == ["left", 7]
        pool.terminate()
        pool.join()


def test_the_caretaker_drives_when_nobody_waits(pool: Pool) -> None:
    called = threading.Event()
    pool.apply_async(square, (3,), callback=lambda _: called.set())
    assert called.wait(SOON)


def test_the_caretaker_takes_over_from_a_waiter_that_left() -> None:
    with Pool(1, start_method="fork") as pool:
        called = threading.Event()
        result = pool.apply_async(sleep_then, (0.2, 1), callback=lambda _: called.set())
        result.wait(0.01)
        assert not called.is_set()
        assert called.wait(SOON)
        pool.terminate()
        pool.join()


def test_a_callback_may_use_the_pool(pool: Pool) -> None:
    inner: list[int] = []
    result = pool.apply_async(
        square, (3,), callback=lambda n: inner.append(pool.apply(square, (n,)))
    )
    assert result.get(SOON) == 9
    assert inner == [81]


def test_a_callback_that_raises_costs_nothing_else(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError("in the callback")

    hook, threading.excepthook = threading.excepthook, lambda _: None
    unraisable: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        results = [pool.apply_async(square, (n,), callback=fail) for n in range(5)]
        assert [result.get(SOON) for result in results] == [0, 1, 4, 9, 16]
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    finally:
        threading.excepthook, sys.unraisablehook = hook, before
    assert len(unraisable) + capsys.readouterr().err.count("ZeroDivisionError") >= 5


class PickledByPool:
    """An argument whose pickling waits for the pool that it is given to: a wait inside a wait."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __reduce__(self) -> Any:
        return int, (self.pool.apply(square, (4,)),)


def test_waits_may_be_nested() -> None:
    with Pool(2, start_method="fork") as pool:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        argument: Any = PickledByPool(pool)
        assert pool.map(square, [argument]) == [256]
        assert pool.map(square, [1, 2]) == [1, 4]
        pool.terminate()
        pool.join()


def test_a_timeout_does_not_end_the_work(pool: Pool) -> None:
    result = pool.apply_async(sleep_then, (0.2, 7))
    with pytest.raises(TimeoutError):
        result.get(0)
    assert result.get(SOON) == 7


# The end ------------------------------------------------------------------------------------------


def test_join_waits_in_several_threads(pool: Pool) -> None:
    result = pool.map_async(square, range(200))
    pool.close()
    in_threads(pool.join, pool.join, pool.join)
    assert result.get(SOON) == [x * x for x in range(200)]


def test_close_and_terminate_from_several_threads(pool: Pool) -> None:
    pool.map_async(square, range(200))
    in_threads(pool.close, pool.terminate, pool.terminate, pool.close)
    pool.join()


def test_terminate_frees_who_waits() -> None:
    with Pool(1, start_method="fork") as pool:
        result = pool.apply_async(sleep_then, (600, 1))

        def waiter() -> str:
            with pytest.raises(CancelledError):
                result.get(SOON)
            return "freed"

        def ender() -> None:
            result.wait(0.1)
            pool.terminate()

        assert in_threads(waiter, waiter, ender) == ["freed", "freed", None]
        pool.join()


def test_close_frees_nobody_too_early(pool: Pool) -> None:
    results = [pool.apply_async(square, (n,)) for n in range(50)]
    pool.close()
    assert in_threads(*(result.get for result in results[:4])) == [0, 1, 4, 9]
    pool.join()
    assert [result.get(0) for result in results] == [n * n for n in range(50)]


def test_terminate_in_a_callback() -> None:
    pool = Pool(1, start_method="fork")
    ended = threading.Event()

    def end(_: int) -> None:
        pool.terminate()
        ended.set()

    pool.apply_async(square, (3,), callback=end)
    assert ended.wait(SOON)
    pool.join()


def test_leaving_an_iterator_whose_worker_dies_ends_with_the_pool() -> None:
    """After close, the death of the last busy worker must let the idle ones go."""
    with Pool(2, start_method="fork") as pool:
        results = pool.imap(os._exit, [3])
        results.close()
        pool.close()
        pool.join()


def test_ctrl_c_reaches_who_waits_while_another_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat, "_PARK", 3600.0)
    with Pool(2, start_method="fork") as pool:
        other, mine = [pool.apply_async(time.sleep, (3600,)) for _ in range(2)]
        waiter = threading.Thread(target=other.wait)
        waiter.start()
        tasks.wait_until(lambda: pool._engine.life.seat.owner is not None, "another drives")

        def interrupt() -> None:
            tasks.wait_until(lambda: bool(mine.changed._parked), "it waits")
            os.kill(os.getpid(), signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            mine.get()
        interrupter.join()
        other.cancel()
        waiter.join()
