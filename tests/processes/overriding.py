"""Subclasses of Pool that override what multiprocessing calls beneath the public methods."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
from typing import Any

import millpond
from millpond.pool import Pool
from millpond.process import ForkProcess, ForkServerProcess, SpawnProcess


class Measure:
    """A number whose way is noted: it is a plain one unless a queue reduces it to another."""

    def __init__(self, number: int, ways: tuple[str, ...] = ()) -> None:
        self.number, self.ways = number, ways


class Reduced:
    """Pickles measures with a note of the way."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __call__(self, measure: Measure) -> Any:
        if measure.number < 0:
            raise ValueError(f"{measure.number} is below zero")
        return Measure, (measure.number, (*measure.ways, self.way))


class ReducingQueue:
    """A pipe and its locks, with a pickler that has reducers of its own."""

    def __init__(self, context: Any, way: str) -> None:
        self._reader, self._writer = context.Pipe(duplex=False)
        self._rlock, self._wlock = context.Lock(), context.Lock()
        self._way = way

    def get(self) -> Any:
        with self._rlock:
            return self._reader.recv()

    def put(self, value: Any) -> None:
        with self._wlock:
            self.send(value)

    def send(self, value: Any) -> None:
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer)
        pickler.dispatch_table = copyreg.dispatch_table.copy()
        pickler.dispatch_table[Measure] = Reduced(self._way)
        pickler.dump(value)
        self._writer.send_bytes(buffer.getvalue())


class ReducingPool(Pool):
    def _setup_queues(self) -> None:
        self._inqueue: Any = ReducingQueue(self._ctx, "there")
        self._outqueue: Any = ReducingQueue(self._ctx, "back")
        self._quick_put, self._quick_get = self._inqueue.send, self._outqueue._reader.recv


class CountingPool(Pool):
    """Sees what goes through the queues that multiprocessing would make."""

    def _setup_queues(self) -> None:
        super()._setup_queues()
        self.passed: list[Any] = []
        put = self._quick_put

        def noting(value: Any) -> None:
            self.passed.append(value)
            put(value)

        self._quick_put = noting


class UnusableQueues(Pool):
    def _setup_queues(self) -> None:
        import queue

        self._inqueue = self._outqueue = queue.SimpleQueue()


class SharedLocks(Pool):
    def _setup_queues(self) -> None:
        self._inqueue = self._outqueue = millpond.SimpleQueue()


class Undaunted(Pool):
    """Workers that are not daemonic, as recipes for nested pools make them."""

    def Process(self, *args: Any, **kwds: Any) -> Any:  # type: ignore[override]
        process = super().Process(*args, **kwds)
        process.__class__ = type("NotDaemonic", (NotDaemonic, type(process)), {})
        return process


class Named(Pool):
    """Workers with names of its own."""

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        process = ctx.Process(*args, **kwds)
        process.name = "mine"
        return process


class Stuffing(Pool):
    """Overrides what belongs to threads and loops that there are not."""

    def _repopulate_pool(self) -> None:
        raise AssertionError("never called")

    @staticmethod
    def _help_stuff_finish(*_: Any) -> None:
        raise AssertionError("never called")


def passed_on(measure: Measure) -> Measure:
    return measure


def ways_of(measure: Measure) -> tuple[int, tuple[str, ...]]:
    return measure.number, measure.ways


def both(measure: Measure, other: Measure) -> list[tuple[str, ...]]:
    return [measure.ways, other.ways]


def below_zero(_: Any) -> Measure:
    return Measure(-1)


async def later(measure: Measure) -> Measure:
    return measure


class Holding:
    """A callable that carries a measure."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure

    def __call__(self, _: Any) -> tuple[str, ...]:
        return self.measure.ways


def name_of_worker(_: Any) -> str:
    return millpond.current_process().name


def nested(count: int) -> int:
    with millpond.Pool(2) as pool:
        return sum(pool.map(abs, range(-count, 0)))


def note_pid(path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")


class NotDaemonic:
    """Whatever a pool makes of it, it is no daemonic process."""

    @property
    def daemon(self) -> bool:
        return False

    @daemon.setter
    def daemon(self, value: bool) -> None:
        pass


class NotDaemonicFork(NotDaemonic, ForkProcess):
    pass


class NotDaemonicServed(NotDaemonic, ForkServerProcess):
    pass


class NotDaemonicSpawn(NotDaemonic, SpawnProcess):
    pass


def without_daemons(method: str) -> Any:
    """A context of the start method whose processes are not daemonic, as recipes for nested pools have it."""
    kinds = {"fork": NotDaemonicFork, "forkserver": NotDaemonicServed, "spawn": NotDaemonicSpawn}
    context = millpond.get_context(None if method == "default" else method)
    kind = type(context)
    own = type(
        f"NotDaemonic{kind.__name__}", (kind,), {"Process": kinds[context.get_start_method()]}
    )
    return own()
