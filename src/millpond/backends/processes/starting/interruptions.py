"""A start is not torn by a signal: what Python's handlers would raise waits until it is done.

Rules: the signals that programs handle are blocked in the thread that starts a process, from before
the process exists until it is registered; they are let in where the start runs code of the user's
(pickling) or waits. Where other threads take the signals instead, the handlers wait (``interrupts.Postponed``).
"""

from __future__ import annotations

import signal
import threading
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # signal's wraps each answer in enums
from collections.abc import Iterator
from contextlib import contextmanager

from millpond.interrupts import Postponed, Resumed

ALL_SIGNALS = frozenset(signal.valid_signals())

HANDLED = frozenset(
    getattr(signal, f"SIG{name}")
    for name in ("INT", "TERM", "HUP", "QUIT", "CHLD", "ALRM", "VTALRM", "PROF", "USR1", "USR2")
)
"""What programs have handlers for. To block every signal costs 0.2 ms more (enums)."""

_thread = threading.local()


def mask() -> set[int]:
    """This thread's signal mask, as the program has set it."""
    own: set[int] | None = getattr(_thread, "mask", None)
    return own if own is not None else set(pthread_sigmask(signal.SIG_BLOCK, ()))


@contextmanager
def held() -> Iterator[None]:
    """Keep signals from being handled; they are when the outermost of these ends."""
    if getattr(_thread, "mask", None) is not None:
        yield
        return
    with Postponed():
        _thread.mask = mask()
        try:
            pthread_sigmask(signal.SIG_BLOCK, HANDLED)
            yield
        finally:
            own, _thread.mask = _thread.mask, None
            pthread_sigmask(signal.SIG_SETMASK, own)


@contextmanager
def let_in() -> Iterator[None]:
    """Within ``held``: handle signals meanwhile."""
    own = getattr(_thread, "mask", None)
    if own is None:
        yield
        return
    try:
        with Resumed():
            pthread_sigmask(signal.SIG_SETMASK, own)
            yield
    finally:
        pthread_sigmask(signal.SIG_BLOCK, HANDLED)


def forget() -> None:
    """In a child that was forked within ``held``: nothing is held here."""
    _thread.mask = None
