"""The engine: what happened -> the scheduler -> what to do about it -> the backend.

    any thread                    whoever has the seat                           backend
    submit, cancel, close  --->   inbox
                                  scheduler.handle(event) -> commands     --->   start, send, stop ...
                                  poll                                    <---   outcomes, deaths
    get, next          <---       job.settle

Rules of this module:

1. **The seat** is the right to run the loop. Whoever waits for a result takes it if it is free, and drives
   until the result is there; the **caretaker**, a thread, takes it when work is outstanding and nobody waits.
2. Only the owner of the seat touches the scheduler, the jobs and the backend. All others append to the inbox,
   which is one atomic operation, and ring.
3. No lost ring: the owner looks into the inbox after saying that it goes to sleep, and after giving up the
   seat; a ring looks at what the owner said after appending.
4. While the scheduler's or a job's state is being changed, no code of the user's runs. Pickling hooks run
   between commands, and may use the pool: the thread that has the seat drives nested. Callbacks run on a
   thread of their own.
5. A step is not cut in two: see ``interrupts``.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, Protocol

from millpond import errors
from millpond.backends.base import Backend, Report
from millpond.callbacks import CallbackThread
from millpond.core.commands import DROPPED, Command, Kill, Recall, Send, Settle, Start, Stop
from millpond.core.events import (
    Closing,
    Dropped,
    Event,
    Forgotten,
    Lost,
    Opened,
    Ready,
    Repopulated,
    Requeued,
    Sized,
    Submitted,
    Ticked,
)
from millpond.core.policy import Policy
from millpond.core.scheduler import Scheduler
from millpond.interrupts import Deferral, may_drive
from millpond.job import CallStream, Held, Job, MapJob, StreamJob
from millpond.report import report
from millpond.results import AsyncResult
from millpond.worker.codec import CALL


class Target(Protocol):
    """What somebody waits for."""

    def ready(self) -> bool: ...
    def park(self, timeout: float | None) -> None: ...


class Engine:
    """See the module."""

    def __init__(self, policy: Policy, backend: Backend, *, attended: bool = True) -> None:
        self.policy = policy
        self._attended = attended  # a caretaker drives while nobody waits
        self.on_finish: Callable[[], object] = _nothing
        self._scheduler = Scheduler(policy)
        self._backend = backend
        self._clock = time.monotonic
        self._pid = os.getpid()
        self._inbox: deque[Any] = deque()  # calls, and things to do
        self._jobs: dict[int, Job] = {}
        self._streams: list[StreamJob] = []
        self._born = 0
        self._callbacks = CallbackThread(self._ring)
        # The seat.
        self._seat = threading.Lock()
        self._owner: int | None = None  # the thread that has it
        self._asleep = False  # the owner is about to poll, or polls
        self._stepping = False  # state is being changed
        # The end.
        self.closing = False
        self.finished = False
        self._end = threading.Condition(threading.Lock())
        self.done = 0  # tasks settled
        self._caretaker = threading.Thread(target=self._care, name="millpond-caretaker", daemon=True)
        if attended:
            self._caretaker.start()

    # For everybody --------------------------------------------------------------------------------

    def check_process(self) -> None:
        """Raise PoolForkedError in a forked copy of the program."""
        if os.getpid() != self._pid:
            raise errors.PoolForkedError(
                f"this pool belongs to process {self._pid}, of which this one ({os.getpid()}) is a forked "
                "copy; make a Pool of its own here"
            )

    def open(self) -> None:
        """Start the workers; returns when they have been started, not when they are ready."""
        self._run_in_seat(lambda: self._step(Opened()))

    def repopulate(self) -> None:
        """Replace workers that are missing."""
        self._run_in_seat(lambda: self._step(Repopulated()))

    def submit(self, job: Job) -> None:
        """Take on a job whose tasks are known, or come bit by bit."""
        self._inbox.append(job)
        if self.finished:
            self._reject()

    def call(self, stream: CallStream, receiver: Held, payload: Any) -> None:
        """Take on one more task of a stream of calls."""
        self._inbox.append((stream, receiver, payload))
        if self.finished:
            self._reject()

    def ring(self) -> None:
        """See to it that somebody looks into the inbox."""
        self._ring()

    def leave(self, job: StreamJob) -> None:
        """Nobody wants the rest of the job. Only appends and rings: garbage collection calls this."""
        if not self.finished and os.getpid() == self._pid:
            self._inbox.append(partial(self._leave, job))
            self._ring()

    def call_back(self, result: AsyncResult[Any]) -> None:
        """Have the callback thread run the result's callbacks."""
        self._callbacks.put(result)

    def close(self) -> None:
        """No more jobs will come: workers end when all is done."""
        self.closing = True
        self._inbox.append(self._close_if_over)
        self._ring()

    def lift_bounds(self) -> None:
        """Nobody will read on before all has ended: let streams run to their ends."""
        self._inbox.append(self._lift)
        self._ring()

    def terminate(self, grace: float, *, wait: bool = True) -> None:
        """End every worker, within ``grace`` seconds and a little, and withdraw what is outstanding."""
        if self.finished or os.getpid() != self._pid:
            return
        self.closing = True
        act = _Act(partial(self._terminate, grace))
        self._inbox.append(act.run)
        self._ring()
        if wait:
            self.wait(act, None)
            self._await_caretaker()
            if act.failure is not None:
                raise act.failure

    def join(self) -> None:
        """Wait until every worker has gone and every callback has run."""
        self.wait(_Ended(self), None)
        self._callbacks.join()
        self._await_caretaker()

    def _await_caretaker(self) -> None:
        if self._attended and self._caretaker is not threading.current_thread():
            self._caretaker.join()

    def wait(self, target: Target, timeout: float | None) -> None:
        """Until the target is ready or ``timeout`` seconds have passed; drives if nobody else does."""
        self.check_process()
        deadline = None if timeout is None else self._clock() + timeout
        if self._owner == threading.get_ident():
            if self._stepping:
                raise RuntimeError("a pool cannot be waited for in __del__ while it is being driven")
            self._drive(target, deadline)
        elif not self._attended or may_drive():
            with Deferral(self._backend.wake) as deferral:
                self._wait(target, deadline, deferral)
        else:
            self._ring()
            target.park(timeout)

    # The seat -------------------------------------------------------------------------------------

    def _wait(self, target: Target, deadline: float | None, deferral: Deferral) -> None:
        while not (target.ready() or deferral.hit):
            left = None if deadline is None else deadline - self._clock()
            if left is not None and left <= 0:
                return
            if self._seat.acquire(False):
                try:
                    self._owner = threading.get_ident()
                    self._drive(target, deadline, deferral)
                finally:
                    self._leave_seat()
            else:
                self._ring()
                target.park(_PARK if left is None else min(left, _PARK))

    def _run_in_seat(self, act: Callable[[], None]) -> None:
        """Have ``act`` done by whoever has the seat; return when it has been done."""
        done = _Act(act)
        self._inbox.append(done.run)
        self._ring_if_owned()
        self.wait(done, None)
        if done.failure is not None:
            raise done.failure

    def _leave_seat(self) -> None:
        self._owner = None
        self._seat.release()
        if self._attended and (self._inbox or self._outstanding()):
            self._backend.rouse()

    def _outstanding(self) -> bool:
        return bool(self._jobs or (self.closing and not self.finished))

    def _ring(self) -> None:
        if self._asleep:
            self._backend.wake()
        elif self._owner is None:
            if self._attended:
                self._backend.rouse()
            else:
                self.wait(_Quiet(self), None)

    def _ring_if_owned(self) -> None:
        if self._asleep:
            self._backend.wake()

    def _care(self) -> None:
        """The caretaker's life."""
        contended = False
        while not self.finished:
            self._backend.rest(contended)
            contended = not self._seat.acquire(False)
            if not contended:
                try:
                    self._owner = threading.get_ident()
                    self._drive(_Idle(self), None)
                except BaseException as failure:
                    report(failure)  # the jobs have been withdrawn
                finally:
                    self._leave_seat()
        self._backend.release()

    # The loop -------------------------------------------------------------------------------------

    def _drive(self, target: Target, deadline: float | None, deferral: Deferral | None = None) -> None:
        """Run the loop until the target is ready, the deadline has come or Ctrl-C was pressed."""
        try:
            while True:
                self._take_inbox()
                if target.ready() or (deferral is not None and deferral.hit) or self.finished:
                    return
                for stream in self._streams:
                    self._feed(stream)
                timeout = self._patience(deadline)
                if timeout is not None and timeout <= 0 and deadline is not None:
                    if self._clock() >= deadline:
                        return
                self._asleep = True
                if self._inbox or target.ready():
                    self._asleep = False
                    continue
                reports = self._backend.poll(timeout)
                self._asleep = False
                for event, batch in reports:
                    self._step(event, batch)
                if not reports:
                    self._step(Ticked())
        except BaseException as failure:
            self._asleep = False
            self._collapse(failure)
            raise

    def _patience(self, deadline: float | None) -> float | None:
        """How long a poll may last."""
        next_deadline = self._scheduler.next_deadline()
        if next_deadline is None:
            next_deadline = deadline
        elif deadline is not None:
            next_deadline = min(deadline, next_deadline)
        return None if next_deadline is None else max(next_deadline - self._clock(), 0.0)

    def _step(self, event: Event, batch: list[Any] | None = None) -> None:
        """Take in one event."""
        self._stepping = True
        commands = self._scheduler.handle(event, self._clock())
        at = 0
        for command in commands:
            if type(command) is Settle and command.cause is None and batch is not None:
                count = command.stop - command.start
                part = batch if count == len(batch) else batch[at : at + count]
                at += count
                self._settle(command.job, command.start, part)
        self._stepping = False
        for command in commands:
            self._perform(command)
        if type(event) is Lost:
            self._finish_if_over()

    def _perform(self, command: Command) -> None:
        match command:
            case Send():
                self._send(command)
            case Settle(cause=None):
                pass  # done in the step
            case Settle():
                self._settle_without_outcome(command)
            case Start(worker):
                self._backend.start(worker)
            case Recall(worker):
                self._backend.recall(worker)
            case Stop(worker):
                self._backend.stop(worker)
            case Kill(worker):
                self._backend.kill(worker)

    def _send(self, command: Send) -> None:
        work = [(self._jobs[span.job], span) for span in command.spans]
        size = self._backend.send(command.worker, command.seq, work)
        if size > _HEAVY and len(work) == 1:
            job, span = work[0]
            self._step(Sized(job.id, size / (span.stop - span.start)))

    # Jobs -----------------------------------------------------------------------------------------

    def _take_inbox(self) -> None:
        inbox = self._inbox
        while inbox:
            entry = inbox.popleft()
            if isinstance(entry, Job):
                self._add_job(entry)
                continue
            if type(entry) is not tuple:
                entry()
                continue
            stream, receiver, payload = entry
            if stream.id not in self._jobs:
                self._admit(stream)
            stream.add(receiver, payload)
            count = 1
            while inbox and type(inbox[0]) is tuple and inbox[0][0] is stream:
                stream.add(*inbox.popleft()[1:])
                count += 1
            self._step(Submitted(stream.id, count))

    def _admit(self, job: Job) -> None:
        if job.id < 0:
            self._born += 1
            job.id = self._born
        self._jobs[job.id] = job

    def _add_job(self, job: Job) -> None:
        self._admit(job)
        if isinstance(job, MapJob):
            self._step(Submitted(job.id, len(job.inputs), job.unit))
        elif isinstance(job, StreamJob):
            self._streams.append(job)
            self._widen(job)

    def _feed(self, job: StreamJob) -> None:
        """Tell the scheduler of new input; see whether the job is over."""
        job.refill()
        count = job.fresh()
        if count:
            job.submitted += count
            self._step(Submitted(job.id, count, job.unit))
        else:
            job.hungry = True
            if job.fresh():
                self.ring()
        if job.ended:
            job.finish()
            self._forget_if_over(job)
            job.announce()

    def _settle(self, job_id: int, start: int, batch: list[Any]) -> None:
        job = self._jobs.get(job_id)
        if job is None:
            return
        self.done += len(batch)
        job.settle(start, batch)
        if job.over:
            self._forget(job)
        elif job.streaming:
            self._widen(job)

    def _settle_without_outcome(self, command: Settle) -> None:
        from millpond.worker.outcome import Error

        job = self._jobs.get(command.job)
        if job is None:
            return
        cause: Any = command.cause
        batch: list[Any] = [
            Error(CancelledError() if cause is DROPPED else cause.error(job, index))
            for index in range(command.start, command.stop)
        ]
        self._settle(command.job, command.start, batch)

    def _widen(self, job: Any) -> None:
        """Let a stream run further ahead, the shorter its tasks are."""
        job.widen(self._scheduler.cost(job.id), self._scheduler.policy)

    def _forget_if_over(self, job: Job) -> None:
        if job.over and job.id in self._jobs:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        """Every task of the job has ended."""
        del self._jobs[job.id]
        if isinstance(job, StreamJob):
            self._streams = [stream for stream in self._streams if stream is not job]
            job.announce()
        if not (isinstance(job, CallStream) and job.shared):
            self._inbox.append(partial(self._bury, job))
        if self.closing:
            self._inbox.append(self._close_if_over)

    def _bury(self, job: Job) -> None:
        self._step(Forgotten(job.id))
        self._backend.forget(job)

    def retire(self, stream: CallStream) -> None:
        """A shared stream gets no more calls."""

        def act() -> None:
            stream.shared = False
            if stream.id >= 0 and stream.id not in self._jobs:
                self._bury(stream)

        self._inbox.append(act)

    def _leave(self, job: StreamJob) -> None:
        if job.id in self._jobs:
            self._step(Dropped(job.id))
            self._forget_if_over(job)

    # The end --------------------------------------------------------------------------------------

    def _close_if_over(self) -> None:
        if not self._jobs and not self.finished:
            self._step(Closing())
            self._finish_if_over()

    def _lift(self) -> None:
        for job in self._streams:
            job.lift()
            job.resume()

    def _finish_if_over(self) -> None:
        if self.closing and not self._jobs and not self._scheduler.workers and not self.finished:
            self._backend.close(0)
            self._finish()

    def _terminate(self, grace: float) -> None:
        if self.finished:
            return
        try:
            self._backend.close(grace)
        finally:
            self._withdraw()
            self._finish()

    def _withdraw(self) -> None:
        for job in list(self._jobs.values()):
            job.withdraw()
        self._jobs.clear()
        self._streams.clear()

    def _collapse(self, failure: BaseException) -> None:
        """The engine itself failed: nobody may wait for ever."""
        self._stepping = False
        if not self.finished:
            self.closing = True
            try:
                self._backend.close(0)
            finally:
                self._withdraw()
                self._finish()

    def _reject(self) -> None:
        """The engine has finished: what still came in is withdrawn."""
        while self._inbox:
            try:
                entry = self._inbox.popleft()
            except IndexError:
                return
            if isinstance(entry, Job):
                entry.withdraw()
            elif type(entry) is tuple:
                receiver = entry[1]()
                if receiver is not None:
                    receiver.withdraw()
            else:
                entry()

    def _finish(self) -> None:
        self.finished = True
        self._reject()
        self._callbacks.stop()
        with self._end:
            self._end.notify_all()
        if self._attended:
            self._backend.rouse()
        else:
            self._backend.release()
        self.on_finish()

    def park_until_end(self, timeout: float | None) -> None:
        """Wait, while another thread drives, for every worker to be gone."""
        with self._end:
            self._end.wait_for(lambda: self.finished, timeout)

    # Looking in -----------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """Counts and workers, as of now."""
        scheduler = self._scheduler
        workers = {id: self._backend.info(id) for id in list(scheduler.workers)}
        return {"workers": workers, "waiting": scheduler.waiting, "done": self.done, "lost": scheduler.lost}


def _nothing() -> None:
    """Nobody wants to know that the engine has finished."""


_PARK = 1.0
"""Seconds after which a parked waiter looks whether the seat has become free. The caretaker takes it at once;
this is for the case that it cannot (threads cannot be started)."""
_HEAVY = 1 << 14
"""Bytes of a chunk from which on its weight is worth telling the scheduler."""


class _Ended:
    """A target: the engine has finished."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ready(self) -> bool:
        return self._engine.finished

    def park(self, timeout: float | None) -> None:
        self._engine.park_until_end(timeout)


class _Idle:
    """The caretaker's target: nothing is outstanding."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ready(self) -> bool:
        return not self._engine._outstanding()

    def park(self, timeout: float | None) -> None:
        raise AssertionError("the caretaker never parks here")


class _Quiet:
    """The target of a caller who does all himself: nothing can be done at the moment."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ready(self) -> bool:
        engine = self._engine
        return engine.finished or (not engine._inbox and engine._scheduler.quiet)

    def park(self, timeout: float | None) -> None:
        raise AssertionError("nobody else drives")


class _Act:
    """A target: something was done in the seat."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._done = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._act()
        except BaseException as failure:
            self.failure = failure
        self._done.set()

    def ready(self) -> bool:
        return self._done.is_set()

    def park(self, timeout: float | None) -> None:
        self._done.wait(timeout)
