"""Code of the user's in the driver, and what waits meanwhile.

Pickling hooks, input iterators, handlers of logging and inline tasks are called ``outside``: they may use the
pool, and then their thread drives nested. A worker that is to get, or to do, something of theirs gets nothing
else before that; orders for it are held. A nested wait that could have no end is refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from millpond.core.commands import Command
from millpond.core.events import WorkerId
from millpond.core.scheduler import Scheduler
from millpond.core.worker_state import WorkerState
from millpond.jobs import Jobs


class Entangled(RuntimeError):
    """A wait inside of what is waited for."""


class Loop(Protocol):
    """The driver."""

    scheduler: Scheduler
    jobs: Jobs
    stepping: bool
    finished: bool


class Outside:
    """The context in which such code is called. ``orders`` is where the driver takes its commands from."""

    def __init__(self, loop: Loop, orders: deque[Command]) -> None:
        self._loop = loop
        self._orders = orders
        self._held: list[Command] = []
        self.occupied = 0  # workers
        self.called_back: Callable[[], bool] = bool  # whether callbacks have yet to run

    def __enter__(self) -> None:
        self._loop.stepping = False

    def __exit__(self, *_: object) -> None:
        self._loop.stepping = True

    def of(self, worker: WorkerId) -> AbstractContextManager[None]:
        """The same, for what a worker has to do before all else."""
        return _Occupied(self, self._loop.scheduler.workers[worker])

    def occupy(self, worker: WorkerState) -> None:
        """It gets nothing else before what it is to get now."""
        worker.packing = True
        self.occupied += 1

    def release(self, worker: WorkerState) -> bool:
        """It has got that; whether orders were held meanwhile."""
        self.occupied -= 1
        worker.packing = False
        held = bool(self._held)
        self._orders.extendleft(reversed(self._held))
        self._held.clear()
        return held

    def holds(self, command: Command) -> bool:
        """Whether it is an order that has to wait; it will come again."""
        worker = self._loop.scheduler.workers.get(getattr(command, "worker", -1))
        if worker is None or not worker.packing:
            return False
        self._held.append(command)
        return True

    def check(self, more: object) -> None:
        """In a nested wait: raise Entangled if nothing can happen before its end. ``more``: something came in."""
        if not self.occupied or more or self._loop.finished:
            return
        scheduler = self._loop.scheduler
        others = [worker for worker in scheduler.workers.values() if not worker.packing]
        able = bool(others) and (scheduler.waiting or any(worker.busy() for worker in others))
        fed = any(not (job.ended or job.starving) for job in self._loop.jobs.streams)
        if not (able or fed or self.called_back()):
            raise Entangled(
                "a pickling hook, or an inline task, waits for the pool, and every worker waits for it"
            )

    def finish(self) -> None:
        """Nobody will get any more orders."""
        self._held.clear()


class _Occupied:
    """See ``Outside.of``."""

    def __init__(self, outside: Outside, worker: WorkerState) -> None:
        self._outside = outside
        self._worker = worker

    def __enter__(self) -> None:
        self._outside.occupy(self._worker)
        self._outside.__enter__()

    def __exit__(self, *_: object) -> None:
        self._outside.__exit__()
        self._outside.release(self._worker)
