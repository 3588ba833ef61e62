"""The engine's loop: what happened -> the scheduler -> what to do about it -> the backend and the jobs.

Only the owner of the seat is here. While state is being changed (``stepping``), no code of the user's runs;
pickling hooks and input iterators run between commands, and may use the pool: their thread drives nested.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

from millpond.backends.base import Backend, Report
from millpond.core.commands import DROPPED, Command, Kill, Recall, Send, Settle, Start, Stop
from millpond.core.events import Event, Forgotten, Lost, Requeued, Sized, Submitted, Ticked
from millpond.core.policy import Policy
from millpond.core.scheduler import Scheduler
from millpond.job import CallStream, Job, MapJob, StreamJob
from millpond.jobs import Jobs
from millpond.worker.outcome import MISSING, Error, Sealed

_HEAVY = 1 << 14
"""Bytes of a chunk from which on its weight is worth telling the scheduler."""


_SPIN = 80e-6
"""Seconds of looking for an answer before sleeping."""


class Driver:
    """See the module. ``on_quiet`` is called when the last job has ended or the last worker has gone."""

    def __init__(
        self,
        policy: Policy,
        backend: Backend,
        on_quiet: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.scheduler = Scheduler(policy)
        self.backend = backend
        self.jobs = Jobs()
        self.inbox: deque[Any] = deque()  # jobs, calls of streams, and things to do
        self.stepping = False
        self.finished = False
        self._missed: list[tuple[Job, int, int]] = []  # tasks whose function their worker lacks
        self._on_quiet = on_quiet
        self._clock = clock

    def run(
        self, ready: Callable[[], bool], deadline: float | None, sleeping: Callable[[bool], None]
    ) -> None:
        """Until ``ready()`` or the deadline; ``sleeping`` is told before and after each poll."""
        while True:
            self._take_inbox()
            if ready() or self.finished:
                return
            for stream in self.jobs.streams:
                self._feed(stream)
            timeout = self._patience(deadline)
            if timeout == 0.0 and deadline is not None and self._clock() >= deadline:
                return
            sleeping(True)
            if self.inbox or ready():
                sleeping(False)
                continue
            reports = self._spin() or self.backend.poll(timeout)
            sleeping(False)
            for event, batch in reports:
                self.step(event, batch)
            if not reports:
                self.step(Ticked())

    def _spin(self) -> Sequence[Report]:
        """Look for a while without sleeping, if an answer is due within the time that waking up takes."""
        if not self.scheduler.answer_is_due() or threading.active_count() > 2:
            return ()
        limit = self._clock() + _SPIN
        while not (reports := self.backend.poll(0)) and self._clock() < limit:
            pass
        return reports

    def step(self, event: Event, batch: list[Any] | None = None) -> None:
        """Take in one event; ``batch`` has the outcomes that came with it."""
        self.stepping = True
        commands = self.scheduler.handle(event, self._clock())
        if batch is not None:
            self._settle(commands, batch)
        self.stepping = False
        for command in commands:
            self._perform(command)
        while self._missed:
            self._run_again(*self._missed.pop())
        if type(event) is Lost:
            self._on_quiet()

    def _patience(self, deadline: float | None) -> float | None:
        """How long a poll may last."""
        tick = self.scheduler.next_deadline()
        if tick is None:
            tick = deadline
        elif deadline is not None:
            tick = min(deadline, tick)
        return None if tick is None else max(tick - self._clock(), 0.0)

    def _perform(self, command: Command) -> None:
        match command:
            case Send():
                self._send(command)
            case Settle(cause=None):
                pass  # done in the step
            case Settle():
                self._settle_without_outcome(command)
            case Start(worker):
                self.backend.start(worker)
            case Recall(worker):
                self.backend.recall(worker)
            case Stop(worker):
                self.backend.stop(worker)
            case Kill(worker):
                self.backend.kill(worker)

    def _send(self, command: Send) -> None:
        work = self.jobs.work(command.spans)
        size = self.backend.send(command.worker, command.seq, work)
        if size > _HEAVY and len(work) == 1:
            job, span = work[0]
            self.step(Sized(job.id, size / (span.stop - span.start)))

    # Outcomes -------------------------------------------------------------------------------------

    def _settle(self, commands: list[Command], batch: list[Any]) -> None:
        at = 0
        for command in commands:
            if type(command) is Settle and command.cause is None:
                count = command.stop - command.start
                part = batch if count == len(batch) else batch[at : at + count]
                at += count
                self._deliver(command.job, command.start, part)

    def _settle_without_outcome(self, command: Settle) -> None:
        job = self.jobs.get(command.job)
        if job is None:
            return
        cause: Any = command.cause
        batch: list[Any] = [
            Error(CancelledError() if cause is DROPPED else cause.error(job, index))
            for index in range(command.start, command.stop)
        ]
        self._deliver(command.job, command.start, batch)

    def _deliver(self, number: int, start: int, batch: list[Any]) -> None:
        job = self.jobs.get(number)
        if job is None:
            return
        if type(batch[0]) is Sealed and batch[0].tag == MISSING and start not in job.missed:
            self._missed.append((job, start, start + len(batch)))
            return
        self.jobs.settle(job, start, batch)
        if job.over:
            self._forget(job)
        elif job.streaming:
            self._widen(job)

    def _run_again(self, job: Job, start: int, stop: int) -> None:
        """The worker could not import the job's function: send it by value."""
        if not job.missed:
            try:
                job.function = self.backend.packing.by_value(job.source)
            except Exception:
                pass  # then it stays what it is, and the next answer is the error
        job.missed.update(range(start, stop))
        self.backend.forget(job)
        self.step(Requeued(job.id, start, stop))

    # Jobs -----------------------------------------------------------------------------------------

    def _take_inbox(self) -> None:
        inbox = self.inbox
        while inbox:
            entry = inbox.popleft()
            if type(entry) is tuple:
                self._take_calls(*entry)
            elif isinstance(entry, Job):
                self._add(entry)
            else:
                entry()

    def _take_calls(self, stream: CallStream, receiver: Any, payload: Any) -> None:
        """A call, and those behind it that are of the same stream."""
        inbox = self.inbox
        if stream not in self.jobs:
            self.jobs.admit(stream)
        stream.add(receiver, payload)
        count = 1
        while inbox and type(inbox[0]) is tuple and inbox[0][0] is stream:
            _, receiver, payload = inbox.popleft()
            stream.add(receiver, payload)
            count += 1
        self.step(Submitted(stream.id, count))

    def _add(self, job: Job) -> None:
        self.jobs.admit(job)
        if isinstance(job, MapJob):
            self.step(Submitted(job.id, len(job.inputs), job.unit))
        else:
            self._widen(job)

    def _feed(self, job: StreamJob) -> None:
        """Tell the scheduler of new input; see whether the job is over."""
        job.refill()
        count = job.fresh()
        if count:
            job.submitted += count
            self.step(Submitted(job.id, count, job.unit))
        else:
            job.hungry = True
            if job.fresh():
                self.inbox.append(_look_again)
        if job.ended:
            job.finish()
            self.forget_if_over(job)
            job.announce()

    def _widen(self, job: Any) -> None:
        """Let a stream run further ahead, the shorter its tasks are."""
        job.widen(self.scheduler.cost(job.id), self.scheduler.policy)

    def forget_if_over(self, job: Job) -> None:
        """Let the job go if every task of it has ended."""
        if job.over and job in self.jobs:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        self.jobs.remove(job)
        if not job.shared:
            self.inbox.append(lambda: self.bury(job))
        if not self.jobs:
            self.inbox.append(self._on_quiet)

    def bury(self, job: Job) -> None:
        """The job has ended for good."""
        self.step(Forgotten(job.id))
        self.backend.forget(job)


def _look_again() -> None:
    """Something came in while the owner was about to sleep."""
