"""The engine's loop: what happened -> the scheduler -> what to do about it -> the backend and the jobs.

Only the owner of the seat is here. No code of the user's is called while state is being changed (``stepping``);
garbage collection may run some there, which cannot wait for the pool then. What is called between commands
(pickling hooks, input iterators, handlers of logging) is called ``outside``, and may: its thread drives nested.
A worker whose chunk is being packed meanwhile gets nothing else before that; other orders for it are held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Protocol

from millpond import logs
from millpond.amounts import LONGEST
from millpond.backends.base import Backend, Logged, Report
from millpond.backends.local import NoStart
from millpond.core.commands import (
    DROPPED,
    Abandon,
    Begun,
    Command,
    Kill,
    Recall,
    Retry,
    Send,
    Settle,
    Start,
    Stop,
)
from millpond.core.events import Event, Lost, Requeued, Sized, Ticked, WorkerId
from millpond.core.policy import Policy
from millpond.core.scheduler import Scheduler
from millpond.intake import MOMENT, Intake
from millpond.job import Job
from millpond.jobs import Jobs
from millpond.outside import Outside
from millpond.worker import raised
from millpond.worker.outcome import MISSING, Error, Mixed, Sealed, rebuild_error

_FLOOD = 4
"""Calls that come in together from which on more of them are expected at once."""
_MOMENT = 0.001
"""Seconds for which they are awaited."""
_HEAVY = 1 << 14
"""Bytes of a chunk from which on its weight is worth telling the scheduler."""


class Sleeper(Protocol):
    """Who drives."""

    asleep: bool


class Driver:
    """See the module."""

    def __init__(self, policy: Policy, backend: Backend, clock: Callable[[], float]) -> None:
        self.scheduler = Scheduler(policy)
        self.backend = backend
        self.jobs = Jobs()
        self.intake = Intake(self)
        self.on_quiet: Callable[[], None] = (
            _nothing  # the last job has ended, or the last worker has gone
        )
        self.stepping = True
        self.opened = False  # the first workers have been started
        self.closing = False  # no more jobs will come
        self.finished = False
        self._reports: deque[Report] = deque()  # what happened and was not taken in yet
        self._commands: deque[Command] = deque()  # what was ordered and not done yet
        self._missed: list[tuple[Job, int, int]] = []  # tasks whose function their worker lacks
        self.outside = backend.packing.outside = Outside(self, self._commands)
        self.clock = clock

    def run(
        self,
        ready: Callable[[], bool],
        deadline: float | None,
        sleeper: Sleeper,
        waited_for: bool = False,
    ) -> None:
        """Until ``ready()`` or the deadline; the sleeper is ``asleep`` while it polls, or is about to.

        Where somebody waits for it, what is due at once may be looked out for without sleeping. Where nobody
        does and much comes in, more is awaited for a moment, in which nobody need be woken.
        """
        inbox = self.intake.inbox
        while True:
            if self._reports or self._commands:
                self._catch_up()
            flood = False
            if inbox:
                flood = len(inbox) >= _FLOOD and not waited_for
                self.intake.take()
            if ready() or self.finished:
                return
            held = bool(self.jobs.streams) and self.intake.feed()
            self.outside.check(inbox)
            timeout = self._patience(deadline, held)
            if _is_over(self) or (
                timeout == 0.0 and deadline is not None and self.clock() >= deadline
            ):
                return
            if flood:
                timeout = _MOMENT if timeout is None else min(timeout, _MOMENT)
            else:
                sleeper.asleep = True
                if inbox or ready():
                    sleeper.asleep = False
                    continue
            reports = self.backend.poll(timeout, waited_for and self.scheduler.due)
            sleeper.asleep = False
            if _is_over(self):
                return  # a nested wait has ended the pool
            if reports:
                self._reports.extend(reports)
            else:
                self.step(Ticked())

    def _catch_up(self) -> None:
        """Do what is left to do; of an outer loop too, if this is a nested one."""
        while self._commands:
            self._perform(self._commands.popleft())
        while self._reports:
            event, batch = self._reports.popleft()
            if isinstance(event, Logged):
                with self.outside:
                    logs.reissue(event.body)
            else:
                self.step(event, batch)

    def finish(self) -> None:
        """Every worker has gone: nothing is left to do."""
        self.finished = True
        self.outside.finish()
        for left in self._reports, self._commands, self._missed:
            left.clear()

    def step(self, event: Event, batch: list[Any] | None = None) -> None:
        """Take in one event; ``batch`` has the outcomes that came with it."""
        commands = self.scheduler.handle(event, self.clock())
        if batch is not None:
            self._settle(commands, batch)
        self._commands.extend(commands)
        while self._commands:
            self._perform(self._commands.popleft())
        while self._missed:
            self._run_again(*self._missed.pop())
        if type(event) is Lost:
            self.on_quiet()

    def _patience(self, deadline: float | None, held: bool) -> float | None:
        """How long a poll may last."""
        tick = self.scheduler.next_deadline()
        if held:
            soon = self.clock() + MOMENT
            tick = soon if tick is None else min(tick, soon)
        if tick is None:
            tick = deadline
        elif deadline is not None:
            tick = min(deadline, tick)
        return None if tick is None else min(max(tick - self.clock(), 0.0), LONGEST)

    def _perform(self, command: Command) -> None:
        if self.outside.occupied and self.outside.holds(command):
            return
        if type(command) is Send:
            self._send(command)
        elif type(command) is Settle:
            if command.cause is not None:  # else it was done in the step
                self._settle_without_outcome(command)
        else:
            self._govern(command)

    def _govern(self, command: Command) -> None:
        match command:
            case Start(worker):
                self._start(worker)
            case Recall(worker, unwanted, limit, anyhow):
                self.backend.recall(worker, unwanted, limit, anyhow)
            case Abandon(worker, seqs):
                self.backend.cancel(worker, seqs)
            case Begun(job, index):
                self.jobs.begun(job, index)
            case Retry(job):
                self.jobs.tried_again(job)
            case Stop(worker):
                self.backend.stop(worker)
            case Kill(worker):
                self.backend.kill(worker)

    def _start(self, worker: WorkerId) -> None:
        """Start a worker; one that cannot be started is lost, but the first ones' failure is the caller's."""
        try:
            self.backend.start(worker)
        except (OSError, MemoryError) as reason:
            if not self.opened:
                raise
            self.step(Lost(worker, 0, 0, NoStart(reason), failed=True))

    def _send(self, command: Send) -> None:
        worker = self.scheduler.workers.get(command.worker)
        if worker is None:
            return  # it has ended while this was held
        work = self.jobs.work(command.spans)
        self.outside.occupy(worker)
        try:
            size = self.backend.send(command.worker, command.seq, work)
        finally:
            held = self.outside.release(worker)
        if self.finished:
            return
        if held:
            self.step(Ticked())  # there may be work for it that it could not be given
        if size > _HEAVY and len(work) == 1:
            job, span = work[0]
            self.step(Sized(job.id, size / (span.stop - span.start)))

    # Outcomes -------------------------------------------------------------------------------------

    def _settle(self, commands: list[Command], batch: list[Any]) -> None:
        at = 0
        for command in commands:
            if type(command) is Settle and command.cause is None:
                count = command.stop - command.start
                part = batch if count == len(batch) else type(batch)(batch[at : at + count])
                at += count
                self._deliver(command.job, command.start, part)
            elif type(command) is Retry and command.answered:
                at += 1

    def _settle_without_outcome(self, command: Settle) -> None:
        job = self.jobs.get(command.job)
        if job is None:
            return
        cause: Any = command.cause
        if cause is DROPPED:
            job.dropped(command.start, command.stop)
            batch = Mixed(Error(CancelledError()) for _ in range(command.start, command.stop))
        else:
            error = cause.error if command.blamed else cause.bystander
            batch = Mixed(Error(error(job, index)) for index in range(command.start, command.stop))
        self._deliver(command.job, command.start, batch)

    def _deliver(self, number: int, start: int, batch: list[Any]) -> None:
        job = self.jobs.get(number)
        if job is None:
            return
        if type(batch[0]) is Sealed and batch[0].tag == MISSING:
            if start not in job.missed:
                self._missed.append((job, start, start + len(batch)))
                return
            batch = Mixed([_absent(outcome, job) for outcome in batch])
        self.jobs.settle(job, start, batch)
        self.intake.look_at(job)

    def _run_again(self, job: Job, start: int, stop: int) -> None:
        """The worker could not import the job's function: send it by value."""
        if not job.missed:
            try:
                job.function = self.backend.packing.by_value(job.source)
            except BaseException as refusal:  # a pickling hook's; the next answer is the error
                job.unsendable = raised.text_of(refusal)
        job.missed.update(range(start, stop))
        self.backend.forget(job)
        self.step(Requeued(job.id, start, stop))


def _absent(outcome: Any, job: Job) -> Any:
    """An outcome; where it says that a worker cannot load the job's function, one that says what to do."""
    if type(outcome) is not Sealed or outcome.tag != MISSING:
        return outcome
    from millpond.worker.refusals import absence

    error: Any = rebuild_error(MISSING, outcome.data)
    known = error.type_name, error.text, error.traceback
    error.args = (absence(job.name, *known, job.unsendable),)
    return Error(error)


def _nothing() -> None:
    """Nobody asked to be told."""


def _is_over(driver: Driver) -> bool:
    """Whether a nested wait has ended the pool."""
    return driver.finished
