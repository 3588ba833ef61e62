"""The engine: what a pool submits to, and waits for.

    any thread                    whoever has the seat                           backend
    submit, cancel, close  --->   inbox
                                  scheduler.handle(event) -> commands     --->   start, send, stop ...
                                  poll                                    <---   outcomes, deaths
    get, next          <---       job.settle

Rules: only the owner of the seat (``seat``) touches the scheduler, the jobs and the backend, in the loop
(``driver``). All others append to the inbox, which is one atomic operation, and ring. The user's callbacks run
on a thread of their own, decoding in the thread that asks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from millpond import errors
from millpond.backends.base import Backend
from millpond.callbacks import CallbackThread
from millpond.core.events import Closing, Dropped, Opened, Repopulated
from millpond.core.policy import Policy
from millpond.driver import Driver
from millpond.job import CallStream, Held, Job, StreamJob
from millpond.seat import Seat


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
        self.on_finish: Callable[[], object] = _nothing
        self._pid = os.getpid()
        self._closing = False
        self._end = threading.Event()
        self._driver = Driver(policy, backend, self._finish_if_over, clock)
        self._inbox = self._driver.inbox
        self._seat = Seat(self, backend.bells, attended, clock)
        self._callbacks = CallbackThread(self._seat.ring)
        self.ring = self._seat.ring
        self.call_back = self._callbacks.put

    # For everybody --------------------------------------------------------------------------------

    def check_process(self) -> None:
        """Raise PoolForkedError in a forked copy of the program."""
        if os.getpid() != self._pid:
            raise errors.PoolForkedError(
                f"this pool belongs to process {self._pid}, of which this one ({os.getpid()}) is a forked "
                "copy; make a Pool of its own here"
            )

    def wait(self, target: Any, timeout: float | None) -> None:
        """Until the target is ready or ``timeout`` seconds have passed."""
        self.check_process()
        self._seat.wait(target, timeout)

    def do(self, act: Callable[[], None]) -> None:
        """Have ``act`` done by whoever has the seat; return when it has been done, or raise what it raised."""
        errand = _Errand(act)
        self._post(errand.run)
        self.wait(errand, None)
        if errand.failure is not None:
            raise errand.failure

    def open(self) -> None:
        """Start the workers; returns when they have been started, not when they are ready."""
        self.do(lambda: self._driver.step(Opened()))

    def repopulate(self) -> None:
        """Replace workers that are missing."""
        self.do(lambda: self._driver.step(Repopulated()))

    def submit(self, entry: Job | tuple[CallStream, Held, Any]) -> None:
        """Take on a job, or one more call of a stream. Somebody has to wait, or to ring."""
        self._inbox.append(entry)
        if self.finished:
            self._reject()

    def leave(self, job: StreamJob) -> None:
        """Nobody wants the rest of the job. Only appends and rings: garbage collection calls this."""
        if not self.finished and os.getpid() == self._pid:
            self._post(partial(self._leave, job))

    def retire(self, stream: CallStream) -> None:
        """A shared stream gets no more calls."""
        self._post(partial(self._retire, stream))

    def close(self) -> None:
        """No more jobs will come: workers end when all is done."""
        self._closing = True
        self._post(self._finish_if_over)

    def lift_bounds(self) -> None:
        """Nobody will read on before all has ended: let streams run to their ends."""
        self._post(self._lift)

    def terminate(self, grace: float, *, wait: bool = True) -> None:
        """End every worker, within ``grace`` seconds and a little, and withdraw what is outstanding.

        Raises CannotKill if some could not be ended.
        """
        if self.finished or os.getpid() != self._pid:
            return
        self._closing = True
        act = partial(self._terminate, grace)
        if not wait:
            self._post(act)
            return
        self.do(act)
        self._seat.await_caretaker()

    def join(self) -> None:
        """Wait until every worker has gone and every callback has run."""
        self.wait(_Finished(self, self._end), None)
        self._callbacks.join()
        self._seat.await_caretaker()

    def info(self) -> dict[str, Any]:
        """Counts and workers, as of now."""
        scheduler = self._driver.scheduler
        workers = {number: self._backend.info(number) for number in list(scheduler.workers)}
        return {
            "workers": workers,
            "waiting": scheduler.waiting,
            "done": self._driver.jobs.done,
            "lost": scheduler.lost,
        }

    # For the seat ---------------------------------------------------------------------------------

    @property
    def inbox(self) -> object:
        """What waits to be looked at."""
        return self._inbox

    @property
    def stepping(self) -> bool:
        """Whether state is being changed."""
        return self._driver.stepping

    @property
    def finished(self) -> bool:
        """Whether every worker has gone and no work will be taken."""
        return self._driver.finished

    def outstanding(self) -> bool:
        """Whether somebody should drive though nobody waits."""
        return bool(self._driver.jobs) or (self._closing and not self.finished)

    def quiet(self) -> bool:
        """Whether nothing can be done now."""
        return self.finished or not (self._inbox or not self._driver.scheduler.quiet)

    def drive(self, ready: Callable[[], bool], deadline: float | None) -> None:
        """Run the loop until ``ready()`` or the deadline."""
        try:
            self._driver.run(ready, deadline, self._set_asleep)
        except BaseException:
            self._set_asleep(False)
            self._collapse()
            raise

    def _set_asleep(self, asleep: bool) -> None:
        self._seat.asleep = asleep

    # In the seat ----------------------------------------------------------------------------------

    def _post(self, act: Callable[[], None]) -> None:
        self._inbox.append(act)
        self.ring()

    def _leave(self, job: StreamJob) -> None:
        if job in self._driver.jobs:
            self._driver.step(Dropped(job.id))
            self._driver.forget_if_over(job)

    def _retire(self, stream: CallStream) -> None:
        stream.shared = False
        if stream.id >= 0 and stream not in self._driver.jobs:
            self._driver.bury(stream)

    def _lift(self) -> None:
        for job in self._driver.jobs.streams:
            job.lift()
            job.resume()

    def _finish_if_over(self) -> None:
        if not self._closing or self._driver.jobs or self.finished:
            return
        if self._driver.scheduler.workers:
            self._driver.step(Closing())
        if not self._driver.scheduler.workers and not self.finished:
            self._backend.close(0)
            self._finish()

    def _terminate(self, grace: float) -> None:
        if self.finished:
            return
        try:
            self._backend.close(grace)
        finally:
            self._driver.jobs.withdraw()
            self._finish()

    def _collapse(self) -> None:
        """The engine itself failed: nobody may wait for ever."""
        self._driver.stepping = False
        self._closing = True
        self._terminate(0)

    def _finish(self) -> None:
        self._driver.finished = True
        self._reject()
        self._callbacks.stop()
        self._end.set()
        self._seat.dismiss()
        self.on_finish()

    def _reject(self) -> None:
        """Nobody will drive any more: what still came in is withdrawn."""
        while self._inbox:
            try:
                entry = self._inbox.popleft()
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


def _nothing() -> None:
    """Nobody asked to be told."""


class _Finished:
    """A target: the engine has finished."""

    def __init__(self, engine: Engine, end: threading.Event) -> None:
        self._engine = engine
        self._end = end

    def ready(self) -> bool:
        return self._engine.finished

    def park(self, timeout: float | None) -> None:
        self._end.wait(timeout)


class _Errand:
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
