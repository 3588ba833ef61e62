"""Where threads wait while another drives: for a state that somebody sets and then tells.

Only C locks are used, each in a plain ``with`` or handed over: a signal handler that raises in the waiting
thread can then leave none of them locked, as it can with ``threading.Condition`` and ``Event``, whose
``__enter__`` is Python.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Parking:
    """``wake`` is called after the state was set; ``park`` looks at it after it can be woken."""

    __slots__ = ("_lock", "_parked")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parked: list[threading.Lock] = []

    def park(self, ready: Callable[[], bool], timeout: float | None) -> None:
        """Wait until ``ready()``, at most ``timeout`` seconds; may return before that."""
        mine = threading.Lock()
        mine.acquire()
        with self._lock:
            self._parked.append(mine)
        try:
            if not ready():
                mine.acquire(True, -1 if timeout is None else max(timeout, 0))
        finally:
            with self._lock:
                if mine in self._parked:
                    self._parked.remove(mine)

    def wake(self) -> None:
        """Wake all who are parked."""
        with self._lock:
            parked, self._parked = self._parked, []
        for one in parked:
            one.release()


class Flag:
    """Something that becomes true once, as a target to wait for."""

    __slots__ = ("_parking", "_set")

    def __init__(self) -> None:
        self._set = False
        self._parking = Parking()

    def set(self) -> None:
        self._set = True
        self._parking.wake()

    def ready(self) -> bool:
        return self._set

    def park(self, timeout: float | None) -> None:
        self._parking.park(self.ready, timeout)
