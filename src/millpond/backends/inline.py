"""No workers at all: tasks run in the caller's thread, one after another, where a debugger sees them."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from millpond import interrupts
from millpond.backends import local
from millpond.backends.base import Report, Work, WorkerInfo
from millpond.core.commands import Span
from millpond.core.events import Done, Ended, Event, Lost, Ready, Recalled, WorkerId
from millpond.errors import CannotKill
from millpond.worker.conduct import Conducted
from millpond.worker.loop import Settings
from millpond.worker.outcome import Error, Mixed, Value
from millpond.worker.seeding import Borrowed

_PAUSE = 0.0005
"""Seconds between two looks at what another thread does."""


class _NoBells:
    """Nobody waits: ``poll`` never blocks, and there is no caretaker."""

    def wake(self) -> None:
        pass

    def rest(self, contended: bool) -> None:
        raise AssertionError("there is no caretaker where the caller does all")

    def rouse(self) -> None:
        pass

    def release(self) -> None:
        pass


class InlineBackend:
    """``poll`` runs the next task. See the module."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tasks: deque[tuple[WorkerId, int, local.Task]] = deque()
        self._reports: deque[Report] = deque()
        self._stopping: list[WorkerId] = []
        self._running: list[WorkerId] = []  # one inside of the other
        self.packing = local.LocalPacking()
        self.kills = False
        self.bells = _NoBells()

    def start(self, worker: WorkerId) -> None:
        event: Event = Ready(worker)
        if self._settings.initializer is not None:
            try:
                with self.packing.outside:
                    self._settings.initializer(*self._settings.initargs)
            except Exception as exception:
                cause = local.InitializerFailure(self._settings.initializer, exception)
                event = Lost(worker, 0, 0, cause, failed=True, hopeless=True)
        self._reports.append(Report(event))

    def send(self, worker: WorkerId, seq: int, work: Sequence[tuple[Work, Span]]) -> int:
        self._tasks.extend((worker, n, task) for n, task in enumerate(local.tasks_of(work), seq))
        return 0

    def recall(
        self,
        worker: WorkerId,
        unwanted: Sequence[tuple[int, int]] = (),
        limit: float = 0.0,
        anyhow: bool = False,
    ) -> None:
        mine = [n for owner, n, _ in self._tasks if owner == worker]
        if mine:
            self._tasks = deque(entry for entry in self._tasks if entry[0] != worker)
            self._reports.append(Report(Recalled(worker, mine[0])))

    def cancel(self, worker: WorkerId, seqs: Sequence[int]) -> None:
        pass  # one is run to its end before anybody else can say anything

    def forget(self, work: Work) -> None:
        pass  # nothing is kept

    def stop(self, worker: WorkerId) -> None:
        self._stopping.append(worker)

    def kill(self, worker: WorkerId) -> None:
        raise CannotKill("a task that runs in the caller's own thread cannot be killed")

    def poll(self, timeout: float | None, brisk: bool = False) -> Sequence[Report]:
        busy = {*self._running, *(worker for worker, _, _ in self._tasks)} if self._stopping else ()
        for worker in [worker for worker in self._stopping if worker not in busy]:
            self._stopping.remove(worker)
            self._reports.append(Report(Lost(worker, 0, 0)))
        # A task may wait for the pool, which comes back here: what is behind it in its worker is not begun.
        ready = (at for at, (owner, _, _) in enumerate(self._tasks) if owner not in self._running)
        at = next(ready, None)
        if not self._reports and at is not None:
            worker, seq, task = self._tasks[at]
            del self._tasks[at]
            begin = interrupts.clock()
            self._running.append(worker)
            try:
                conducted = type(task[0]) is Conducted
                outcome = (self._run_conducted if conducted else self._run)(worker, task)
            finally:
                self._running.pop()
            seconds = interrupts.clock() - begin
            again = (0,) if type(outcome) is Error and outcome.again else ()
            done: Event = Done(worker, seq, 1, seconds, again)
            if type(task[0]) is Conducted and task[0].conduct.slots:
                done = Ended(worker, (seq,), again)
            self._reports.append(Report(done, Mixed([outcome])))
        elif not self._reports:
            time.sleep(_PAUSE)  # somebody waits for what another thread does, a callback
        reports = list(self._reports)
        self._reports.clear()
        return reports

    def _run_conducted(self, worker: WorkerId, task: local.Task) -> Value | Error:
        function: Any = task[0]
        if function.conduct.seed is None or function.conduct.slots:
            return self._run(worker, task)
        with Borrowed():  # outside of where Ctrl-C raises, so that it is sure to be given back
            return self._run(worker, task)

    def _run(self, worker: WorkerId, task: local.Task) -> Value | Error:
        try:
            with self.packing.outside.of(worker), interrupts.Allowed():
                return self._task(task)
        except KeyboardInterrupt as interrupt:  # at the task's edge; it comes again after the step
            return Error(local.aborted(interrupt))

    @staticmethod
    def _task(task: local.Task) -> Value | Error:
        if type(task[0]) is not Conducted or not task[0].conduct.slots:
            return local.run(*task, alone=True)
        from millpond.backends.coroutines import run_one  # asyncio is large

        outcome: Value | Error = run_one(task)
        return outcome

    def unbegun(self, worker: WorkerId) -> int:
        return next((n for owner, n, _ in list(self._tasks) if owner == worker), sys.maxsize)

    def info(self, worker: WorkerId) -> WorkerInfo:
        return WorkerInfo(os.getpid(), None, None)

    @property
    def processes(self) -> list[Any]:
        """There are none."""
        return []

    def close(self, grace: float) -> Sequence[Report]:
        self._tasks.clear()
        self._reports.clear()
        return ()
