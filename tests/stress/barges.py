"""What the program does amid the pool's own work: garbage, pickling hooks, signals; and numbers of every kind."""

from __future__ import annotations

import gc
import os
import signal
import threading
from enum import IntEnum
from typing import Any

from millpond.testing import tasks
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, SQUARES, Stage, error_of, settled


class Dropped:
    """Garbage in a cycle, which uses the pool when it is collected."""

    def __init__(self, pool: Any, told: list[Any]) -> None:
        self.me, self.pool, self.told = self, pool, told

    def __del__(self) -> None:
        try:
            self.told.append(self.pool.apply(tasks.square, (3,)))
        except RuntimeError:
            self.told.append(RuntimeError)


@fault(95, "a `__del__` uses the pool", "its value or RuntimeError; the calls of others go on")
def garbage_uses_the_pool(stage: Stage) -> None:
    told: list[Any] = []
    before = gc.get_threshold()
    with stage.pool() as pool:
        gc.set_threshold(20, 2, 2)
        try:
            for x in range(100):
                Dropped(pool, told)
                assert pool.apply_async(tasks.square, (x,)).get(SOON) == x * x
        finally:
            gc.set_threshold(*before)
        gc.collect()
        assert len(told) == 100
        assert set(told) <= {9, RuntimeError}


class Asking:
    """An argument whose pickling uses the pool."""

    pool: Any = None

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        try:
            self.pool.apply(tasks.square, (3,))
        except RuntimeError:
            pass
        return int, (self.x,)


@fault(96, "a pickling hook uses the pool", "the right values; the calls of others go on")
def hook_uses_the_pool(stage: Stage) -> None:
    with stage.pool() as pool:
        Asking.pool = pool
        innocents = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
        assert pool.map_async(abs, [Asking(x) for x in range(20)]).get(SOON) == list(range(20))
        assert settled(innocents) == SQUARES
        Asking.pool = None


class Size(IntEnum):
    TWO = 2


@fault(
    97,
    "numbers that are no plain int; waits of weeks; nan",
    "they count, or an error that names them",
)
def numbers_of_every_kind(stage: Stage) -> None:
    with stage.pool(Size.TWO) as pool:
        for method in ("map", "imap", "imap_unordered"):
            assert sorted(getattr(pool, method)(tasks.square, range(20), Size.TWO)) == SQUARES
        for seconds in (9_999_999, threading.TIMEOUT_MAX, float("inf")):
            assert pool.map_async(tasks.square, range(20)).get(seconds) == SQUARES
        call = pool.apply_async(tasks.sleep_for, (600.0,))
        error_of(lambda: call.get(float("nan")), ValueError, "timeout")
        call.cancel()


class Unsized:
    """Input that has a length, which cannot be asked for."""

    def __len__(self) -> int:
        raise TypeError

    def __iter__(self) -> Any:
        return iter(range(20))


@fault(98, "the input's `len()` raises", "taken as input without a length")
def input_without_its_length(stage: Stage) -> None:
    with stage.pool() as pool:
        for method in ("map", "imap", "imap_unordered"):
            assert sorted(getattr(pool, method)(tasks.square, Unsized())) == SQUARES


class Slow:
    """A value whose unpickling in the program meets Ctrl-C."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        return rebuild, (self.x, os.getpid())


_struck: list[int] = []


def rebuild(x: int, pid: int) -> int:
    if pid != os.getpid() and not _struck:
        _struck.append(x)
        signal.raise_signal(signal.SIGINT)
    return x


def slow(x: int) -> Any:
    return Slow(x)


@fault(
    99, "Ctrl-C while a result is unpickled", "KeyboardInterrupt once; the result can be got again"
)
def struck_amid_unpickling(stage: Stage) -> None:
    with stage.pool() as pool:
        _struck.clear()
        call = pool.apply_async(slow, (7,))
        call.wait(SOON)
        error_of(lambda: call.get(SOON), KeyboardInterrupt, "")
        assert call.get(SOON) == 7
        assert call.successful()


@fault(100, "Ctrl-C while a pool is made", "KeyboardInterrupt once; nothing is left")
def struck_amid_making(stage: Stage) -> None:
    with stage.pool():
        pass
    for part in range(20):
        timer = threading.Timer(part * 0.002, os.kill, (os.getpid(), signal.SIGINT))
        pool = None
        try:
            timer.start()
            pool = stage.make_pool()
            timer.join()
        except KeyboardInterrupt:
            timer.join()
        if pool is not None:
            pool.terminate()
            pool.join()
