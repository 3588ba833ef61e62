"""The seat: the right to run the engine's loop, and who has it.

Whoever waits for a result takes the seat if it is free, and drives until the result is there. The caretaker, a
thread, takes it when work is outstanding and nobody waits, and when a worker ends in an idle pool. Measured
against a thread that always drives, this saves two switches of threads a call (docs/decisions).

Rules of this module:

1. The seat is a lock that is only ever tried, never waited for: who does not get it parks on what he wants.
2. Garbage collection may run a ``__del__`` of the user's at any point here, and that may use the pool. The thread
   that has the seat can therefore take it once more; while the loop runs, it is told that it cannot wait.
3. No lost ring: the owner looks into the inbox after he said that he goes to sleep (``asleep``), and again
   after giving up the seat; who rings looks at what the owner said after he appended to the inbox.
4. Only a thread that no signal handler can interrupt drives (``interrupts``); others park.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from millpond.backends.base import Bells
from millpond.interrupts import Deferral, may_drive
from millpond.parking import FORSAKEN
from millpond.report import report


class Target(Protocol):
    """What somebody waits for."""

    def ready(self) -> bool: ...
    def park(self, timeout: float | None) -> object: ...  # wait while another thread drives


class Loop(Protocol):
    """What the owner of the seat drives."""

    @property
    def inbox(self) -> object: ...  # truthy while something is in it
    @property
    def stepping(
        self,
    ) -> bool: ...  # state is being changed: all the time, but where the user's code is called
    @property
    def finished(self) -> bool: ...
    def outstanding(self) -> bool: ...
    def quiet(self) -> bool: ...
    def drive(
        self, ready: Callable[[], bool], deadline: float | None, waited_for: bool
    ) -> None: ...


class Seat:
    """See the module. Without ``attended`` there is no caretaker: the caller does all himself."""

    def __init__(
        self, loop: Loop, bells: Bells, attended: bool, clock: Callable[[], float]
    ) -> None:
        self._loop = loop
        self._bells = bells
        self._attended = attended
        self._clock = clock
        self._lock = threading.RLock()
        FORSAKEN.add(self._lock)
        self._owner: int | None = None  # the thread that has it
        self.asleep = False  # the owner is about to poll, or polls
        self._vacated = float("-inf")  # when somebody who had waited left it
        self._alert = False  # the caretaker looks for himself whether it is free
        self._caretaker = threading.Thread(
            target=self._care, name="millpond-caretaker", daemon=True
        )
        if attended:
            self._caretaker.start()

    def wait(self, target: Target, timeout: float | None) -> None:
        """Until the target is ready or ``timeout`` seconds have passed; drives if nobody else does."""
        deadline = None if timeout is None else self._clock() + timeout
        if self._owner == threading.get_ident():
            self.check_may_wait()
            self._loop.drive(target.ready, deadline, False)
        elif not self._attended or may_drive():
            self._wait(target, deadline)
        else:
            self.ring()
            while not target.ready():
                left = None if deadline is None else deadline - self._clock()
                if left is not None and left <= 0:
                    return
                target.park(left)

    def may_wait(self) -> bool:
        """Whether this thread may wait here: in ``__del__``, amid what it does for the pool, it may not."""
        return self._owner != threading.get_ident() or not self._loop.stepping

    def check_may_wait(self) -> None:
        """Raise RuntimeError where it may not."""
        if not self.may_wait():
            raise RuntimeError("a pool cannot be waited for in __del__ while it is being driven")

    def ring(self) -> None:
        """See to it that somebody looks into the inbox; without a caretaker, do so here and now."""
        if self._attended or self.asleep:
            self.nudge()
        elif self._owner is None and not self._loop.finished:
            self.wait(_Quiet(self, self._loop), None)

    def attend(self, ready: Callable[[], bool]) -> float | None:
        """Before a task of an event loop waits: where nobody else drives, do what can be done here and now.

        Returns the seconds after which to do so again, or None where others drive.
        """
        nested = (
            self._owner == threading.get_ident()
        )  # the loop runs inside of what is being driven
        if self._attended and not nested:
            return None
        if not self._loop.finished:
            self.wait(_Quiet(self, self._loop, ready), _AGAIN if nested else None)
        return _AGAIN

    @property
    def owner(self) -> int | None:
        """The thread that drives."""
        return self._owner

    def nudge(self) -> None:
        """Tell whoever drives, or should, that something has changed; never drives."""
        if self.asleep:
            self._bells.wake()
        elif self._attended and self._owner is None and not self._loop.finished:
            self._rouse()

    def dismiss(self) -> None:
        """The loop has finished: the caretaker may go."""
        if self._attended:
            self._bells.rouse()
        else:
            self._bells.release()

    def await_caretaker(self) -> None:
        """Wait until he has gone."""
        if self._attended and self._caretaker is not threading.current_thread():
            self._caretaker.join()

    def _wait(self, target: Target, deadline: float | None) -> None:
        while not target.ready():
            left = None if deadline is None else deadline - self._clock()
            if left is not None and left <= 0:
                return
            with Deferral(self._bells.wake) as deferral:
                driven = not self._loop.finished and self._lock.acquire(False)
                if driven:
                    self._drive(lambda: target.ready() or deferral.hit, deadline, waited_for=True)
            if not driven:
                self.ring()
                target.park(_PARK if left is None else min(left, _PARK))

    def _drive(self, ready: Callable[[], bool], deadline: float | None, waited_for: bool) -> None:
        try:
            self._owner = threading.get_ident()
            self._loop.drive(ready, deadline, waited_for)
        finally:
            self._owner = None
            if waited_for:
                self._vacated = time.monotonic()
            self._lock.release()
            if self._attended and (self._loop.inbox or self._loop.outstanding()):
                self._rouse()

    def _rouse(self) -> None:
        """See to it that the caretaker takes the seat, now or soon."""
        if not self._alert:
            self._bells.rouse()

    def _care(self) -> None:
        """The caretaker's life."""
        contended = False
        while not self._loop.finished:
            self._bells.rest(contended)
            self._stand_by()
            contended = not self._lock.acquire(False)
            if not contended:
                try:
                    self._drive(lambda: not self._loop.outstanding(), None, waited_for=False)
                except BaseException as failure:
                    report(failure)  # the loop has ended itself, and told who waited
        self._bells.release()

    def _stand_by(self) -> None:
        """Who has just got a result often waits for the next one at once: leave the seat to him for a moment."""
        self._alert = True
        while time.monotonic() - self._vacated < _MOMENT and not self._loop.finished:
            time.sleep(_MOMENT)
        self._alert = False  # before the seat is tried: whoever saw it set has left the seat by now


_MOMENT = 0.002
"""Seconds for which the caretaker leaves the seat to who had it."""
_PARK = 1.0
"""Seconds after which who parks looks whether the seat has become free. The caretaker takes it at once; this is
for the case that there is none (no thread could be started)."""


_AGAIN = 0.01
"""Seconds after which who waits in an event loop, and drives himself, looks whether there is more to do."""


class _Quiet:
    """The target of a caller who does all himself: there is nothing that he can do now.

    If he wants something, he first looks once whether there is new input for it.
    """

    def __init__(self, seat: Seat, loop: Loop, wanted: Callable[[], bool] | None = None) -> None:
        self._seat = seat
        self._loop = loop
        self._wanted = wanted
        self._looked = wanted is None

    def ready(self) -> bool:
        owner = self._seat.owner
        if owner is not None and owner != threading.get_ident():
            return True
        if self._wanted is not None and self._wanted():
            return True
        if not (self._looked or self._loop.finished):
            self._looked = owner is not None  # who drives looks for input after this
            return False
        return self._loop.quiet()

    def park(self, timeout: float | None) -> None:
        """Another thread has just taken the seat, so there is nothing to wait for."""
