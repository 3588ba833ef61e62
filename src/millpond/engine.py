"""The engine: what a pool submits to, and waits for.

    any thread                    whoever has the seat                           backend
    submit, cancel, close  --->   inbox
                                  scheduler.handle(event) -> commands     --->   start, send, stop ...
                                  poll                                    <---   outcomes, deaths
    get, next          <---       job.settle

Rules: only the owner of the seat (``seat``) touches the scheduler, the jobs and the backend, in the loop
(``driver``, ``intake``) and at its end (``life``). All others append to the inbox and ring. The user's callbacks
run on a thread of their own; outcomes are decoded in the thread that asks.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from millpond import amounts, errors
from millpond.backends.base import Backend
from millpond.core.events import Opened, Repopulated
from millpond.core.policy import Policy
from millpond.driver import Driver
from millpond.job import Call, CallStream, Job, Receiver
from millpond.life import Life
from millpond.outside import Outside
from millpond.parking import Flag
from millpond.report import report
from millpond.seat import Target
from millpond.streams import StreamJob

_MOST = 1.0
"""Seconds for which who takes a call back waits: code of the user's may hold up whoever drives."""

_live: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine:
    """See the module. Without ``attended``, callers do all the work themselves."""

    def __init__(
        self,
        policy: Policy,
        backend: Backend,
        *,
        attended: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy = policy
        self._backend = backend
        self._pid = os.getpid()
        self.foreign = False  # this is a forked copy of the program, and not its own
        _live.add(self)
        self.attended = attended
        self.can_kill = backend.kills  # whether a task that runs can be ended
        self._driver = Driver(policy, backend, clock)
        self._intake = self._driver.intake
        self.outside = self._driver.outside
        try:
            self.life = Life(self._driver, attended, clock)
        except RuntimeError:  # no thread can be started
            backend.close(0)
            backend.bells.release()
            raise
        self.ring = self.life.seat.ring
        self.check_may_wait = self.life.seat.check_may_wait
        self.call_back = self.life.callbacks.put

    def check_process(self) -> None:
        """Raise PoolForkedError in a forked copy of the program."""
        if self.foreign:
            raise errors.PoolForkedError(
                f"this pool belongs to process {self._pid}, of which this one ({os.getpid()}) is a "
                "forked copy; make a Pool of its own here"
            )

    def later(self, act: Callable[[], object]) -> None:
        """Have it done in the seat, some time: code of the user's. Garbage collection may ask for it."""
        self._leave(partial(_called, self.outside, act))

    def wait(self, target: Any, timeout: float | None) -> None:
        """Until the target is ready or ``timeout`` seconds have passed."""
        self.check_process()
        self.life.seat.wait(target, amounts.patience(timeout))

    def open(self) -> None:
        """Start the workers; returns when they have been started, not when they are ready."""
        self._do(partial(self._driver.step, Opened()))
        self._driver.opened = True

    def repopulate(self) -> None:
        """Replace workers that are missing."""
        self._do(partial(self._driver.step, Repopulated()))

    def submit(self, entry: Job | Call) -> None:
        """Take on a job, or one more call of a stream. Somebody has to wait, or to ring."""
        self._put(entry)

    def leave(self, job: StreamJob) -> None:
        """Nobody wants the rest of the job. Only appends and rings: garbage collection calls this."""
        self._leave(partial(self._intake.leave, job))

    def cancel(self, job: Job, start: int, stop: int) -> None:
        """Nobody wants these tasks of the job any more, even if they run. Any thread may say so."""
        self._leave(partial(self._intake.cancel, job, start, stop))

    def cancel_call(self, stream: CallStream, receiver: Receiver) -> None:
        """Nobody wants this call any more, even if it runs. Any thread may say so."""
        self._leave(partial(self._intake.cancel_call, stream, receiver))

    def spare(self, stream: CallStream, receiver: Receiver, asking: Target) -> None:
        """Have the call dropped if it has not begun; returns when the receiver was told, or in a moment."""
        seat = self.life.seat
        if self.attended and not self.foreign and seat.may_wait():
            self._put(partial(self._intake.spare, stream, receiver, asking.ready))
            seat.wait(asking, _MOST)

    def has_begun(self, stream: CallStream, receiver: Receiver) -> bool:
        """Whether a worker has begun the call and not answered it, as far as can be seen. Any thread may ask."""
        index = stream.index_of(receiver)
        workers = [] if index is None else list(self._driver.scheduler.workers.values())
        for worker in workers:
            seq = worker.number_of(stream.id, index or 0)
            if seq is not None:
                return seq < self._backend.unbegun(worker.id)
        return False

    def _leave(self, act: Callable[[], None]) -> None:
        if not self.life.finished and not self.foreign:
            self._put(act)
            if self.attended:  # else ringing would mean to drive
                self.ring()

    def retire(self, stream: CallStream) -> None:
        """A shared stream gets no more calls."""
        self._post(partial(self._intake.retire, stream))

    def close(self) -> None:
        """No more jobs will come: workers end when all is done."""
        self._driver.closing = True
        self._post(self.life.finish_if_over)

    def lift_bounds(self) -> None:
        """Nobody will read on before all has ended: let streams run to their ends."""
        self._post(self._intake.lift_bounds)

    def terminate(self, grace: float, *, wait: bool = True) -> None:
        """End every worker, within ``grace`` seconds and a little, and withdraw what is outstanding.

        Raises CannotKill if some could not be ended.
        """
        if self.life.finished or self.foreign:
            return
        self._driver.closing = True
        act = partial(self.life.terminate, grace)
        if not (wait and self.life.seat.may_wait()):
            self._post(partial(_reported, act))
            return
        self._do(act)
        self.life.seat.await_caretaker()

    def join(self) -> None:
        """Wait until every worker has gone and every callback has run."""
        self.wait(self.life.end, None)
        self.life.callbacks.join()
        self.life.seat.await_caretaker()

    def info(self) -> dict[str, Any]:
        """Counts and workers, as of now."""
        scheduler = self._driver.scheduler
        workers = {number: self._backend.info(number) for number in list(scheduler.workers)}
        return {
            "workers": workers,
            "waiting": scheduler.waiting,
            "calls": self._driver.jobs.calls,
            "done": self._driver.jobs.done,
            "lost": scheduler.lost,
        }

    def sync(self) -> None:
        """Return when what was submitted before has been taken in, and can be seen in ``info()``."""
        if not self.life.finished:
            self._do(_nothing)

    def _post(self, act: Callable[[], None]) -> None:
        self._put(act)
        self.ring()

    def _put(self, entry: Any) -> None:
        """Whoever drives takes it in; if it has finished meanwhile, nobody will."""
        self._intake.inbox.append(entry)
        if self.life.finished:
            self._intake.reject()

    def _do(self, act: Callable[[], None]) -> None:
        """Have ``act`` done in the seat; return when it has been done, or raise what it raised."""
        self.life.seat.check_may_wait()
        errand = _Errand(act)
        self._put(errand.run)
        self.wait(errand.done, None)  # which rings if another thread drives
        if errand.failure is not None:
            raise errand.failure


def _nothing() -> None:
    """What was submitted before is to be taken in."""


def _in_child() -> None:
    for engine in list(_live):
        engine.foreign = True


os.register_at_fork(after_in_child=_in_child)


def _reported(act: Callable[[], object]) -> None:
    """Do what nobody waits for in the seat: what it raises is nobody's."""
    try:
        act()
    except Exception as failure:
        report(failure)


def _called(outside: Outside, act: Callable[[], object]) -> None:
    """Do what calls code of the user's in the seat."""
    with outside:
        _reported(act)


class _Errand:
    """Something to be done in the seat."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self.done = Flag()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._act()
        except BaseException as failure:
            self.failure = failure
        self.done.set()
