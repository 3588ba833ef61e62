"""How jobs come to the scheduler, and how they go. Part of the loop: only the owner of the seat is here.

``inbox`` is the exception: any thread appends to it, which is one atomic operation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from millpond.backends.base import Backend
from millpond.core.events import Cancelled, Dropped, Event, Forgotten, Spared, Submitted
from millpond.core.scheduler import Scheduler
from millpond.job import Call, CallStream, Job, MapJob, Receiver
from millpond.jobs import Jobs
from millpond.streams import StreamJob

MOMENT: Final = 0.0005
"""Seconds for which more is awaited, where much comes in."""


class Loop(Protocol):
    """What the intake tells of what came in."""

    scheduler: Scheduler
    backend: Backend
    jobs: Jobs
    closing: bool
    finished: bool
    clock: Callable[[], float]

    def step(self, event: Event) -> None: ...
    def on_quiet(self) -> None: ...


class Intake:
    """See the module."""

    def __init__(self, loop: Any) -> None:
        self._loop: Loop = loop
        self._jobs = loop.jobs
        self.inbox: deque[Any] = deque()  # jobs, calls of streams, and things to do

    def take(self) -> None:
        """Take in what other threads left."""
        inbox = self.inbox
        while inbox:
            entry = inbox.popleft()
            if type(entry) is tuple:
                self._take_calls(entry)
            elif isinstance(entry, Job):
                self._add(entry)
            else:
                entry()

    def _take_calls(self, call: Call) -> None:
        """A call, and those behind it that are of the same stream."""
        inbox, stream = self.inbox, call[0]
        if stream not in self._jobs:
            self._jobs.admit(stream)
        calls = [call]
        while inbox and type(inbox[0]) is tuple and inbox[0][0] is stream:
            calls.append(inbox.popleft())
        stream.add(calls)
        self._loop.step(Submitted(stream.id, len(calls), 1, stream.limits))

    def _add(self, job: Job) -> None:
        self._jobs.admit(job)
        if isinstance(job, MapJob):
            self._loop.step(Submitted(job.id, len(job.inputs), job.unit, job.limits))
        else:
            self._widen(job)

    def feed(self) -> bool:
        """Tell the scheduler of new input of the streams; see whether they are over.

        Returns whether some is being held, since more of it is coming and is not worth a chunk alone.
        """
        held = False
        for job in self._jobs.streams:
            job.refill()
            if self._loop.finished:  # by the input, which may use the pool
                return False
            count = job.fresh()
            if count and self._holds(job, count):
                held = True
            elif count:
                job.submitted += count
                self._loop.step(Submitted(job.id, count, job.unit, job.limits))
            else:
                job.hungry = True
                if job.fresh():
                    self.inbox.append(_look_again)
            if job.ended:
                job.finish()
                self._forget_if_over(job)
                job.changed.wake()
        return held

    def _holds(self, job: StreamJob, count: int) -> bool:
        """Whether to wait a moment for more input before any is sent, while other tasks are under way."""
        scheduler = self._loop.scheduler
        cost = scheduler.cost(job.id)
        if (
            job.ended or cost is None or job.submitted == job.settled
            or 4 * count >= job.bound or count * cost >= 8 * scheduler.policy.wake
        ):  # fmt: skip
            job.held_since = None
            return False
        now = self._loop.clock()
        if job.held_since is None:
            job.held_since = now
        return now - job.held_since < MOMENT

    def look_at(self, job: Job) -> None:
        """Tasks of the job have ended."""
        if job.over:
            self._forget(job)
        elif job.streaming:
            self._widen(job)
        elif isinstance(job, MapJob) and job.failed_fast and not job.ending:
            job.ending = True
            self.inbox.append(partial(self.cancel, job, 0, len(job.outcomes)))

    def leave(self, job: StreamJob) -> None:
        """Nobody wants the rest of the job."""
        if job in self._jobs:
            self._loop.step(Dropped(job.id))
            self._forget_if_over(job)

    def cancel(self, job: Job, start: int, stop: int) -> None:
        """Nobody wants these tasks, even if they run."""
        if job in self._jobs:
            self._loop.step(Cancelled(job.id, start, stop))

    def cancel_call(self, stream: CallStream, receiver: Receiver) -> None:
        """Nobody wants this call, even if it runs."""
        index = stream.index_of(receiver)
        if index is not None:
            self.cancel(stream, index, index + 1)

    def spare(self, stream: CallStream, receiver: Receiver, over: Callable[[], bool]) -> None:
        """Nobody wants this call unless it has begun; nothing if whoever asked has gone, or knows it."""
        if over():
            return
        index = stream.index_of(receiver)
        if index is None or stream not in self._jobs:
            receiver.begun()
        else:
            self._loop.step(Spared(stream.id, index))

    def retire(self, stream: CallStream) -> None:
        """A shared stream gets no more calls."""
        stream.shared = False
        if stream.id >= 0 and stream not in self._jobs:
            self._bury(stream)

    def lift_bounds(self) -> None:
        """Nobody will read on before all has ended: let streams run to their ends."""
        for job in self._jobs.streams:
            job.lift()
            job.resume()

    def reject(self) -> None:
        """Nobody drives any more: withdraw what still came in. Any thread may."""
        while self.inbox:
            try:
                entry = self.inbox.popleft()
            except IndexError:
                return  # another thread rejects too
            if isinstance(entry, Job):
                entry.withdraw()
            elif type(entry) is tuple:
                receiver = entry[1]()
                if receiver is not None:
                    receiver.withdraw()
            else:
                entry()

    def _widen(self, job: Any) -> None:
        """Let a stream run further ahead, the shorter its tasks are."""
        scheduler = self._loop.scheduler
        job.widen(scheduler.cost(job.id), scheduler.policy)

    def _forget_if_over(self, job: Job) -> None:
        if job.over and job in self._jobs:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        self._jobs.remove(job)
        if not job.shared:
            self.inbox.append(lambda: self._bury(job))
        if self._loop.closing and not self._jobs:
            self.inbox.append(self._loop.on_quiet)

    def _bury(self, job: Job) -> None:
        """The job has ended for good."""
        if self._loop.finished:
            return
        self._loop.step(Forgotten(job.id))
        self._loop.backend.forget(job)


def _look_again() -> None:
    """Something came in while the owner was about to sleep."""
