"""Where threads and event loops wait while another drives: for a state that somebody sets and then tells.

There is no lock here, only a deque and C locks that are handed over: a signal handler that raises in the
waiting thread can then leave nothing locked, as it can with ``threading.Condition`` and ``Event``, whose
``__enter__`` is Python; and what garbage collection calls may come and go at any point.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from millpond.amounts import LONGEST

FORSAKEN: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
"""Locks that may be held while this process is forked: no copy of it uses them."""


class Waiter(Protocol):
    """What is woken, once: a lock that is held, or whatever else must not be called twice."""

    def release(self) -> object: ...


class Parking:
    """``wake`` is called after the state was set; who waits looks at the state after he can be woken."""

    __slots__ = ("_parked",)

    def __init__(self) -> None:
        self._parked: deque[Waiter] = deque()

    def add(self, waiter: Waiter) -> None:
        """The waiter can be woken from now on."""
        self._parked.append(waiter)

    def drop(self, waiter: Waiter) -> None:
        """The waiter need not be woken any more."""
        try:
            self._parked.remove(waiter)
        except ValueError:
            pass  # it was

    def park(self, ready: Callable[[], bool], timeout: float | None) -> None:
        """Wait until ``ready()``, at most ``timeout`` seconds; may return before that."""
        mine = threading.Lock()
        mine.acquire()
        self.add(mine)
        try:
            if not ready():
                mine.acquire(True, -1 if timeout is None else min(max(timeout, 0.0), LONGEST))
        finally:
            self.drop(mine)

    def wake(self) -> None:
        """Wake all who are parked."""
        parked = self._parked
        for _ in range(len(parked)):
            try:
                one = parked.popleft()
            except IndexError:
                return  # another thread wakes too
            one.release()


class Flag:
    """Something that becomes true once, as a target to wait for."""

    __slots__ = ("_set", "parking")

    def __init__(self) -> None:
        self._set = False
        self.parking = Parking()

    def set(self) -> None:
        self._set = True
        self.parking.wake()

    def ready(self) -> bool:
        return self._set

    def park(self, timeout: float | None) -> None:
        self.parking.park(self.ready, timeout)
