"""A future whose last state is brought about once, by any thread, and cheaply where nobody has waited for it yet.

``concurrent.futures`` relies on this: the last state is reached with the condition locked, so that who looks at
the state with it locked either sees the last one or is told of it. A condition is made when somebody first asks
for one; whether that was before the end or after, ``dict.setdefault`` decides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from millpond.parking import Parking
from millpond.report import report

if TYPE_CHECKING:
    from millpond.engine import Engine

T = TypeVar("T")

PENDING, FINISHED = "PENDING", "FINISHED"
CANCELLED = "CANCELLED_AND_NOTIFIED"
"""In concurrent.futures, a plain "CANCELLED" is one that waiters have yet to be told of."""
_LOCKED: Final = 1.0
"""Seconds to wait for the condition's lock."""


class ConcludingFuture(Future[T]):
    """See the module."""

    _engine: Engine
    _owner: object = None  # what must not be collected before
    _state: str = PENDING
    _lazy: Any = (
        None  # the condition; the last state, if it was over before anybody had asked for one
    )
    _parking: Parking | None = None
    _waiters: list[Any] = []  # noqa: RUF012  (shared and empty until the condition is made)
    _done_callbacks: list[Callable[[Any], object]] = []  # noqa: RUF012

    def ready(self) -> bool:
        """Whether the call has completed."""
        return self._state != PENDING

    def done(self) -> bool:
        """``ready``."""
        return self._state != PENDING

    def park(self, timeout: float | None) -> None:
        """Wait while another thread drives."""
        self.changed.park(self.ready, timeout)

    @property
    def changed(self) -> Parking:
        """Where to wait for the last state."""
        if self._parking is None:
            parking: Parking = self.__dict__.setdefault("_parking", Parking())
            return parking
        return self._parking

    if TYPE_CHECKING:
        _condition: threading.Condition
    else:

        @property
        def _condition(self):
            condition = self._lazy
            if condition is None or type(condition) is str:
                mine = self.__dict__
                mine.setdefault("_waiters", [])
                mine.setdefault("_done_callbacks", [])
                condition = mine.setdefault("_lazy", threading.Condition())
            return self._late_condition() if type(condition) is str else condition

    def _late_condition(self) -> threading.Condition:
        """The condition of a future that is over, or is just reaching its last state: nobody needs to be told."""
        self._state = self._lazy
        condition: threading.Condition = self.__dict__.setdefault("_late", threading.Condition())
        return condition

    def _conclude(self, state: str) -> None:
        """Reach the last state, and tell. To be called once."""
        condition = self.__dict__.setdefault("_lazy", state)
        # A handler that raised in a waiting thread may have left the lock locked (see ``parking``).
        locked = condition is not state and condition.acquire(timeout=_LOCKED)
        self._state = state
        if locked:
            try:
                for waiter in self._waiters:
                    self._tell(waiter)
                condition.notify_all()
            finally:
                condition.release()
        self._owner = None
        if self._parking is not None:
            self._parking.wake()
        if self._done_callbacks:
            self._call_back()

    def _call_back(self) -> None:
        """See to it that the callbacks are run."""
        self._engine.call_back(self)

    def _tell(self, waiter: Any) -> None:
        """Tell a waiter of concurrent.futures."""
        if self._state == CANCELLED:
            waiter.add_cancelled(self)
        elif self._failed():
            waiter.add_exception(self)
        else:
            waiter.add_result(self)

    def _failed(self) -> bool:
        """Whether it ended with an exception, as far as that can be seen without running the user's code."""
        raise NotImplementedError

    def run_callbacks(self) -> None:
        """On the callback thread: those of ``add_done_callback``."""
        with self._condition:
            callbacks, self._done_callbacks = self._done_callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception as exception:
                report(exception)
