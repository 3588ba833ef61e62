"""One look at a job: its counts, how fast it goes, how long it will take.

Rules: nothing here reads a clock or a job twice; a rate is smoothed, so that chunks do not make it jump.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

_SPAN = 10.0
"""Seconds that count most for the rate, at least."""
_TASKS = 16
"""Tasks that count for the rate, at least: with few, long tasks it is the mean of all."""


class Watched(Protocol):
    """What is read of a job; another thread counts."""

    @property
    def name(self) -> str: ...
    @property
    def total(self) -> int | None: ...  # None: not known yet
    @property
    def settled(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def retried(self) -> int: ...
    @property
    def over(self) -> bool: ...  # every task has ended and no more will come
    @property
    def withdrawn(self) -> bool: ...  # the pool was terminated


class Snapshot(NamedTuple):
    """How far a call has come; what ``progress=`` gives to a callable.

    ``description``: the function's name. ``done``: tasks that have ended, failed ones included. ``total``:
    tasks of the call, or None while the input has not ended. ``failed``: tasks that ended with an error.
    ``retried``: how often a task was run again. ``elapsed``: seconds since the call. ``rate``: tasks a second;
    the last quarter of the time counts most; in the last snapshot it is the mean of all. ``eta``: seconds
    until all have ended, at that rate; None if that is unknown.
    """

    description: str
    done: int
    total: int | None
    failed: int
    retried: int
    elapsed: float
    rate: float
    eta: float | None


class Meter:
    """Makes snapshots of one job; ``began`` is the time of the call."""

    def __init__(self, description: str, began: float) -> None:
        self._description = description
        self._began = began
        self._last = began
        self._done = 0
        self._tasks = 0.0  # both fade with time; their quotient is the rate
        self._seconds = 0.0

    def read(self, job: Watched, now: float, last: bool) -> Snapshot:
        """The job as of ``now``; ``last``: it will not change any more."""
        done, total, elapsed = job.settled, job.total, now - self._began
        if last:
            rate = done / elapsed if elapsed > 0 else 0.0
        else:
            rate = self._measure(done, now)
        eta = None
        if total is not None and done >= total:
            eta = 0.0
        elif total is not None and not last and rate > 0:
            eta = (total - done) / rate
        return Snapshot(self._description, done, total, job.failed, job.retried, elapsed, rate, eta)

    def _measure(self, done: int, now: float) -> float:
        passed, elapsed = now - self._last, now - self._began
        if passed > 0:
            span = max(_SPAN, elapsed / 4, _TASKS * elapsed / max(done, 1))
            kept = math.exp(-passed / span)
            fresh = (1 - kept) * span
            self._tasks = kept * self._tasks + fresh * (done - self._done) / passed
            self._seconds = kept * self._seconds + fresh
            self._last, self._done = now, done
        return self._tasks / self._seconds if self._seconds else 0.0
