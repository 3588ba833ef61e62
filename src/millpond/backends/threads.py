"""Workers that are threads of the caller's process. A thread cannot be killed; what would need it says so."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from millpond import cpus
from millpond.backends import local
from millpond.backends.base import Report, Work, WorkerInfo
from millpond.core.commands import Span
from millpond.core.events import Done, Ended, Lost, Ready, Recalled, WorkerId
from millpond.errors import CannotKill
from millpond.worker.conduct import Conducted
from millpond.worker.loop import Settings
from millpond.worker.outcome import Error, Mixed, offsets_again

if TYPE_CHECKING:
    from millpond.backends.coroutines import LocalCoroutines

Task = local.Task

_CANNOT = "a thread cannot be killed; use backend='processes' for tasks that may need it"
_STOP: Task = (print, -1, None, 0)
_ALL = -1
"""Stands for every coroutine of a worker."""


class _Worker(threading.Thread):
    """Takes tasks from its deque; whoever takes one from either end has it, so a recall needs no lock."""

    def __init__(
        self,
        number: WorkerId,
        settings: Settings,
        share: cpus.Share,
        reports: SimpleQueue[Report | None],
    ) -> None:
        super().__init__(name=f"millpond-worker-{number}", daemon=True)
        self.id = number
        self.settings = settings
        self.share = share
        self.reports = reports
        self.tasks: deque[tuple[int, Task]] = deque()  # each with its number
        # In C, not a Semaphore: garbage collection may use the pool while this thread is here.
        self.more: SimpleQueue[None] = (
            SimpleQueue()
        )  # an entry for each task, or whatever else is new
        self.seq = 0  # of the task that it is in, or was in last
        self.next_seq = 0  # that the next task given to it will have
        self.begun: float | None = None  # since when it is in a task
        self.coroutines: LocalCoroutines | None = None  # from the first one on
        self.unwanted: deque[int] = deque()  # coroutines that need not go on

    def run(self) -> None:
        post = self.reports.put
        cpus.of_thread.set(self.share)
        if self.settings.initializer is not None:
            try:
                self.settings.initializer(*self.settings.initargs)
            except BaseException as exception:
                cause = local.InitializerFailure(self.settings.initializer, exception)
                post(Report(Lost(self.id, 0, 0, cause, failed=True, hopeless=True)))
                return
        post(Report(Ready(self.id)))
        while not (self.coroutines is not None and self.coroutines.over):
            self._await_more()
            try:
                self.seq, task = self.tasks.popleft()
            except IndexError:
                continue  # it was recalled
            if task is _STOP:
                if self.coroutines is None:
                    break
                self.coroutines.stopping = True
                continue
            if type(task[0]) is Conducted and task[0].conduct.slots:
                self._hold(task)
                continue
            self.begun = begin = time.monotonic()
            outcome = local.run(*task)
            self.begun = task = None  # type: ignore[assignment]
            seconds = time.monotonic() - begin
            again = (0,) if type(outcome) is Error and outcome.again else ()
            post(Report(Done(self.id, self.seq, 1, seconds, again), Mixed([outcome])))
            outcome = None  # type: ignore[assignment]
        if self.coroutines is not None:
            self.coroutines.close()
        post(Report(Lost(self.id, self.seq, self.seq)))

    def _await_more(self) -> None:
        """Until there may be a task, or no coroutine is left where no more will come."""
        coroutines = self.coroutines
        if coroutines is None:
            self.more.get()
            return
        while not self._has_more():
            while self.unwanted:
                seq = self.unwanted.popleft()
                for number in list(coroutines.open) if seq == _ALL else [seq]:
                    coroutines.cancel(number)
            coroutines.run()
            if coroutines.over:
                return

    def _has_more(self) -> bool:
        try:
            self.more.get_nowait()
        except Empty:
            return False
        return True

    def _hold(self, task: Task) -> None:
        if self.coroutines is None:
            from millpond.backends.coroutines import LocalCoroutines  # asyncio is large

            self.coroutines = LocalCoroutines(self._ended)
        self.coroutines.hold(task, self.seq)

    def _ended(self, seqs: list[int], outcomes: list[Any]) -> None:
        event = Ended(self.id, seqs, offsets_again(outcomes))
        self.reports.put(Report(event, Mixed(outcomes)))

    def rouse(self) -> None:
        """There is something new. Any thread."""
        if self.coroutines is not None:
            self.coroutines.wake()

    @property
    def pid(self) -> int:
        """Of the process that it is in."""
        return os.getpid()

    def kill(self) -> None:
        """As a process has it; raises CannotKill."""
        raise CannotKill(_CANNOT)

    terminate = kill

    @property
    def exitcode(self) -> int | None:
        """As a process has it."""
        return None if self.is_alive() else 0


class _Bells:
    """A report of nothing ends a poll, an entry of another queue rouses the caretaker.

    C throughout: a signal handler that raises in the caller must not leave a lock locked.
    """

    def __init__(self, reports: SimpleQueue[Report | None]) -> None:
        self._reports = reports
        self._roused: SimpleQueue[None] = SimpleQueue()

    def wake(self) -> None:
        self._reports.put(None)

    def rest(self, contended: bool) -> None:
        self._roused.get()

    def rouse(self) -> None:
        self._roused.put(None)

    def release(self) -> None:
        pass  # there are no descriptors


class ThreadBackend:
    """See the module."""

    def __init__(self, settings: Settings, share: cpus.Share) -> None:
        self._settings = settings
        self._share = share
        self._workers: dict[WorkerId, _Worker] = {}
        self._reports: SimpleQueue[Report | None] = SimpleQueue()
        self.packing = local.LocalPacking()
        self.kills = False
        self.bells = _Bells(self._reports)

    def start(self, worker: WorkerId) -> None:
        thread = self._workers[worker] = _Worker(worker, self._settings, self._share, self._reports)
        thread.start()

    def send(self, worker: WorkerId, seq: int, work: Sequence[tuple[Work, Span]]) -> int:
        thread = self._workers[worker]
        tasks = local.tasks_of(work)
        thread.next_seq = seq + len(tasks)
        thread.tasks.extend(enumerate(tasks, seq))
        for _ in tasks:
            thread.more.put(None)
        thread.rouse()
        return 0

    def recall(
        self,
        worker: WorkerId,
        unwanted: Sequence[tuple[int, int]] = (),
        limit: float = 0.0,
        anyhow: bool = False,
    ) -> None:
        thread = self._workers[worker]
        seq, stopping = thread.next_seq, False
        while True:
            try:
                seq, task = thread.tasks.pop()
            except IndexError:
                break
            stopping = stopping or task is _STOP
        if stopping:
            self.stop(worker)
        self._reports.put(Report(Recalled(worker, seq)))

    def cancel(self, worker: WorkerId, seqs: Sequence[int]) -> None:
        thread = self._workers[worker]
        thread.unwanted.extend(seqs)
        thread.rouse()

    def forget(self, work: Work) -> None:
        pass  # nothing is kept

    def stop(self, worker: WorkerId) -> None:
        thread = self._workers[worker]
        thread.tasks.append((thread.next_seq, _STOP))
        thread.more.put(None)
        thread.rouse()

    def kill(self, worker: WorkerId) -> None:
        raise CannotKill(_CANNOT)

    def poll(self, timeout: float | None, brisk: bool = False) -> Sequence[Report]:
        reports = []
        try:
            report = self._reports.get(timeout=timeout)
            while True:
                if report is not None:
                    reports.append(report)
                report = self._reports.get_nowait()
        except Empty:
            pass
        for report in reports:
            if type(report.event) is Lost:
                self._workers.pop(report.event.worker, None)
        return reports

    def unbegun(self, worker: WorkerId) -> int:
        thread = self._workers.get(worker)
        if thread is None:
            return 0
        try:
            return thread.tasks[0][0]
        except IndexError:
            return thread.next_seq

    def info(self, worker: WorkerId) -> WorkerInfo:
        thread = self._workers.get(worker)
        if thread is None:
            return WorkerInfo(None, None, None)
        begun = thread.begun
        return WorkerInfo(
            thread.pid, None if begun is None else (thread.seq, time.monotonic() - begun), None
        )

    @property
    def processes(self) -> list[Any]:
        """The threads, for those who look at ``_pool``."""
        return list(self._workers.values())

    def close(self, grace: float) -> Sequence[Report]:
        limit = time.monotonic() + grace
        threads = list(self._workers.values())
        for thread in threads:
            thread.tasks.clear()
            thread.unwanted.append(_ALL)
            thread.tasks.append((thread.next_seq, _STOP))
            thread.more.put(None)
            thread.rouse()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(limit - time.monotonic(), 0))
        left = sum(thread.is_alive() for thread in threads)
        self._workers.clear()
        if left:
            raise CannotKill(
                f"{left} threads are still in their tasks, and a thread cannot be killed"
            )
        return ()
