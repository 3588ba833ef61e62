"""The simulated world: a clock, workers, wires, and the dice that say what happens next."""

from __future__ import annotations

import random
import select
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from millpond.backends.base import Report
from millpond.backends.processes.backend import ProcessBackend
from millpond.backends.processes.lookout import Lookout
from millpond.backends.processes.packing import ProcessPacking
from millpond.core.events import WorkerId
from millpond.testing.clock import FakeClock
from millpond.testing.simulation_strand import Loom
from millpond.testing.simulation_worker import (
    SimulatedContext,
    SimulatedProcess,
    current_worker,
    loop,
)
from millpond.worker.codec import Part
from millpond.worker.frames import Frame
from millpond.worker.loop import Settings

_T = TypeVar("_T")


class Observer:
    """Is told what really happens in the workers, by another way than the frames."""

    def decoded(self, worker: SimulatedProcess, parts: list[Part]) -> None:
        """A worker has unpickled the index of a chunk."""

    def unpickled(self, worker: SimulatedProcess, job: int, index: int) -> None:
        """A worker is unpickling the argument of a task."""

    def noted(self, worker: SimulatedProcess, seq: int) -> None:
        """A worker has noted that it begins the task of this number, or is in it."""

    def began(self, worker: SimulatedProcess, job: int, index: int) -> None:
        """A worker is in a task."""

    def sent(self, worker: SimulatedProcess, frame: Frame) -> None:
        """A worker has sent the last byte of a frame."""

    def ended(self, worker: SimulatedProcess) -> None:
        """A worker has ended."""


class World:
    """See the module. The same seed and the same calls give the same history."""

    def __init__(
        self,
        seed: int = 0,
        clock: FakeClock | None = None,
        observer: Observer | None = None,
        *,
        light: bool = False,
    ) -> None:
        """``light``: one thread drives all of it."""
        self.clock = clock or FakeClock()
        self.observer = observer or Observer()
        self.workers: list[SimulatedProcess] = []
        self.kind = False  # bytes travel whole, processes stop when they should
        self._random = random.Random(seed)
        self._sleepers: dict[SimulatedProcess, float] = {}
        self._born = 0
        self.loom = Loom(light)

    def nanoseconds(self) -> int:
        """The clock as a worker reads it, which takes a while, too."""
        self.clock.advance(_READING)
        return self.clock.nanoseconds()

    # Dice -----------------------------------------------------------------------------------------

    def piece(self, most: int) -> int:
        """How many of ``most`` bytes are read or written at once."""
        if self.kind or most <= 1 or self._random.random() < 0.5:
            return most
        return self._random.randint(1, most)

    def shuffled(self, things: list[_T]) -> list[_T]:
        """In any order."""
        self._random.shuffle(things)
        return things

    def chance(self, probability: float) -> bool:
        """Throw a die."""
        return self._random.random() < probability

    # Workers --------------------------------------------------------------------------------------

    def next_number(self) -> int:
        """Of the next process."""
        self._born += 1
        return self._born

    def born(self, worker: SimulatedProcess) -> None:
        """A process was started."""
        self.workers.append(worker)

    @property
    def alive(self) -> list[SimulatedProcess]:
        """The processes that have not ended."""
        return [worker for worker in self.workers if worker.is_alive()]

    def sleep(self, seconds: float) -> None:
        """On a strand: the task takes its time, while others run."""
        worker = current_worker()
        until = self.clock() + seconds
        self._sleepers[worker] = until
        while self.clock() < until:
            worker.strand.wait_until(lambda: worker.pressed or self.clock() >= until)
            if worker.pressed:
                worker.obey_press()
        self._sleepers.pop(worker, None)

    # What can happen ------------------------------------------------------------------------------

    def happen(self, until: float | None = None) -> bool:
        """Let one thing happen, or time pass up to the next one, at most to ``until``; whether it could."""
        acts = self._acts()
        if acts:
            self._random.choice(acts)()
            return True
        wakes = [self._sleepers[worker] for worker in self.alive if worker in self._sleepers]
        if not wakes or (until is not None and min(wakes) > until):
            return False
        self.clock.advance_to(min(wakes))
        return True

    def _acts(self) -> list[Callable[[], Any]]:
        acts: list[Callable[[], Any]] = []
        for worker in self.workers:
            if worker.channel.wire:
                acts.append(partial(self._deliver, worker))
            if worker.strand.runnable:
                acts.append(partial(self._run, worker))
            elif not worker.is_alive() and not worker.noticed:
                acts.append(worker.notice)
        return acts

    def _deliver(self, worker: SimulatedProcess) -> None:
        worker.channel.deliver(self.piece(len(worker.channel.wire)))

    def _run(self, worker: SimulatedProcess) -> None:
        worker.strand.run(self._random.choice(_STRIDES[-1:] if self.kind else _STRIDES))

    def forget(self, worker: SimulatedProcess) -> None:
        """The parent has seen the end of a worker."""
        worker.close()
        self.workers.remove(worker)

    def close(self) -> None:
        """Everything ends."""
        for worker in self.workers:
            worker.close()
        self.workers.clear()
        self.loom.close()


class _ShuffledPoll:
    """An epoll that tells what happened in any order: a death before the last answer, too."""

    def __init__(self, epoll: select.epoll, world: World) -> None:
        self._epoll = epoll
        self._world = world

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        return self._world.shuffled(self._epoll.poll(timeout))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


_STRIDES = (1, 2, 3, 5, 10, 30, 100, 300)
_REAL = 0.05
"""Real seconds that other threads (callbacks, feeders) get before virtual time passes for want of events."""
_READING = 200e-9
"""Seconds that it takes to read the clock; so no task takes none at all."""


class SimulatedBackend(ProcessBackend):
    """The process backend over a simulated world: no process is started, and time is the world's.

    With an engine above it whose clock is ``world.clock``, a whole pool runs in one process, and the same
    seed gives the same history::

        world = World(seed=7)
        engine = Engine(Policy(workers=3), SimulatedBackend(world))

    Tasks run in threads that take turns. They must not end the process or wait for one another by other means
    than the world's (``World.sleep``); one that should die calls ``current_worker().die(exitcode)``.
    """

    def __init__(self, world: World, settings: Settings | None = None) -> None:
        super().__init__(SimulatedContext(world, self.make_worker), settings or Settings())
        self.packing = ProcessPacking(True)  # in one process all travels in frames
        self.world = world
        self._woken = False

        self._now = world.nanoseconds
        lookout: Any = self._lookout
        lookout._epoll = _ShuffledPoll(lookout._epoll, world)
        lookout.wake = self._wake

    def make_worker(self, channel: Any, page: Any, settings: Settings) -> Any:
        """What runs in a simulated process."""
        return loop().Worker(channel, page, settings)

    def start(self, worker: WorkerId) -> None:
        super().start(worker)
        child = self._children[worker]
        child.stopped = child.process.stopped  # type: ignore[method-assign]

    def _wake(self) -> None:
        self._woken = True
        Lookout.wake(self._lookout)

    def look(self) -> list[Report]:
        """What the parent can see now; nothing else happens."""
        reports = list(super().poll(0))
        seen = {child.process for child in self._children.values()}
        for worker in [w for w in self.world.workers if w.noticed and w not in seen]:
            self.world.forget(worker)
        return reports

    def poll(self, timeout: float | None, brisk: bool = False) -> list[Report]:
        """Let the world go on until there is something to report, or virtual time has passed."""
        self.world.nanoseconds()  # looking takes a while, too: who only looks sees time pass
        limit = None if timeout is None else self.world.clock() + timeout
        while True:
            reports = self.look()
            if reports or self._woken:
                break
            if self.world.happen(limit):
                continue
            # Nothing can happen in the world before its time or another thread asks.
            reports = list(super().poll(min(timeout, _REAL) if timeout is not None else None))
            if limit is not None and not (reports or self._woken):
                self.world.clock.advance_to(limit)
            break
        self._woken = False
        return reports

    def close(self, grace: float) -> list[Report]:
        left = super().close(grace)
        self.world.close()
        return left
