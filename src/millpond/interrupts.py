"""Ctrl-C while the main thread drives the engine: it waits until a step is whole.

A Python signal handler runs between any two bytecodes of the main thread, and the default one for SIGINT
raises there. While the main thread drives, a handler that only notes the signal and ends the poll stands in
for it. Where the program has other Python handlers, which may raise too, the main thread does not drive.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

_main = threading.main_thread
_others = tuple(signal.valid_signals() - {signal.SIGINT, signal.SIGKILL, signal.SIGSTOP})


def may_drive() -> bool:
    """Whether no exception of a signal handler can cut a step of this thread."""
    if threading.current_thread() is not _main():
        return True
    getsignal = signal.getsignal
    if any(map(callable, map(getsignal, _others))):
        return False
    handler = getsignal(signal.SIGINT)
    return handler is signal.default_int_handler or not callable(handler)


class Deferral:
    """A context in which Ctrl-C waits; on leaving, it raises KeyboardInterrupt if one came."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._installed = False
        self.hit = False

    def __enter__(self) -> Deferral:
        if (
            threading.current_thread() is _main()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            self._installed = True
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._installed:
            self._installed = False
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.hit:
            self.hit = False
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: Any) -> None:
        self.hit = True
        self._wake()
