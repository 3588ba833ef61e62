"""Ctrl-C while the main thread drives the engine: it waits until a step is whole.

A Python signal handler runs between any two bytecodes of the main thread, and the default one for SIGINT
raises there. While the main thread drives, a handler that only notes the signal and ends the poll stands in
for it. Where the program has other Python handlers, which may raise too, the main thread does not drive.

While something is made that must be whole or not at all (a pool, a process), all of the program's handlers wait
(``Postponed``). To block the signals is not enough: another thread takes them, and the main thread runs handlers.
"""

from __future__ import annotations

import os
import signal
import threading
import time

# The C functions: signal's own wrap every answer in an enum, which costs more than all else here.
from _signal import getsignal  # type: ignore[import-not-found]
from _signal import signal as set_handler
from collections.abc import Callable
from typing import Any

_SIGINT = int(signal.SIGINT)
_VARARGS = 0x04  # inspect.CO_VARARGS
_PLAIN = (signal.SIG_DFL, signal.SIG_IGN, None)  # no Python handler

# The signals that POSIX names; asking for the real-time ones too would treble the cost of each wait.
_others = tuple(
    int(number)
    for number in signal.valid_signals() - {signal.SIGINT, signal.SIGKILL, signal.SIGSTOP}
    if number < getattr(signal, "SIGRTMIN", 65)
)


def in_main_thread() -> bool:
    """Whether this is the thread in which Python runs signal handlers."""
    return threading.get_ident() == threading.main_thread().ident


def may_drive() -> bool:
    """Whether no exception of a signal handler can cut a step of this thread."""
    if not in_main_thread():
        return True
    for number in _others:
        if getsignal(number) not in _PLAIN:
            return False
    handler = getsignal(_SIGINT)
    return handler is signal.default_int_handler or handler in _PLAIN or _only_notes(handler)


def _only_notes(handler: Any) -> bool:
    """Whether it is one of those here: the thread was about to drive, when this was called out of turn."""
    return getattr(handler, "__func__", None) in (Deferral._note, Postponed._note)


def is_handler(frame: Any) -> bool:
    """Whether a frame is that of a signal handler: it was given the frame that it interrupted, its caller's."""
    if frame.f_back is None or not in_main_thread():
        return False
    code = frame.f_code
    given = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & _VARARGS)
    values = [frame.f_locals.get(name) for name in code.co_varnames[:given]]
    return any(
        each is frame.f_back
        for value in values
        for each in (value if type(value) is tuple else (value,))
    )


clock = time.monotonic


class Deferral:
    """A context in which Ctrl-C waits; on leaving, it raises KeyboardInterrupt if one came."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._installed = False
        self.hit = False

    def __enter__(self) -> Deferral:
        if in_main_thread() and getsignal(_SIGINT) is signal.default_int_handler:
            self._installed = True
            set_handler(_SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            self._installed = False
            set_handler(_SIGINT, signal.default_int_handler)
        if self.hit:
            self.hit = False
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: Any) -> None:
        self.hit = True
        self._wake()


class Postponed:
    """A context in which the program's handlers of signals wait; on leaving, they are called for what came."""

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []

    def __enter__(self) -> None:
        global _postponed
        if in_main_thread() and _postponed is None:
            _postponed = self
            self.begin()

    def __exit__(self, *_: object) -> None:
        global _postponed
        if _postponed is self:
            try:
                self.end()
            finally:
                _postponed = None

    def begin(self) -> None:
        """From now on they wait."""
        try:
            for number in (_SIGINT, *_others):
                handler = getsignal(number)
                if handler not in _PLAIN and not _only_notes(handler):
                    self._handlers[number] = handler
                    set_handler(number, self._note)
        except BaseException:  # of a handler that did not wait yet
            self.restore()
            raise

    def end(self) -> None:
        """They are back, and are called for what came."""
        self.restore()
        try:
            while self._came:
                signal.raise_signal(self._came.pop())
        finally:
            if self._came:
                self.end()

    def restore(self) -> None:
        """They are back; whoever has set another meanwhile keeps that."""
        try:
            for number, handler in self._handlers.items():
                if getattr(getsignal(number), "__self__", None) is self:
                    set_handler(number, handler)
        except BaseException:  # of one that is back already
            self.restore()
            raise

    def _note(self, number: int, _frame: Any) -> None:
        if number not in self._came:
            self._came.append(number)


_postponed: Postponed | None = None  # the main thread's


class Resumed:
    """A context within ``Postponed`` in which they do not wait: it takes long, or runs code of the user's."""

    def __init__(self) -> None:
        self._postponed = _postponed if in_main_thread() else None

    def __enter__(self) -> None:
        if self._postponed is not None:
            try:
                self._postponed.end()
            except BaseException:
                self._postponed.begin()
                raise

    def __exit__(self, *_: object) -> None:
        if self._postponed is not None:
            self._postponed.begin()


def _in_child() -> None:
    """A forked copy of the program has its handlers; what came was not for it."""
    global _postponed
    if _postponed is not None:
        _postponed.restore()
        _postponed = None


os.register_at_fork(after_in_child=_in_child)


class Allowed:
    """A context in which the user's code runs in the driver: Ctrl-C raises there, and after the step too.

    No generator: one that a signal left behind half-way would restore a handler when it is collected.
    """

    def __init__(self) -> None:
        self._outer: Any = None

    def __enter__(self) -> None:
        outer = getsignal(_SIGINT)
        if in_main_thread() and getattr(outer, "__func__", None) is Deferral._note:
            self._outer = outer
            set_handler(_SIGINT, self._interrupt)

    def __exit__(self, *_: object) -> None:
        if self._outer is not None:
            set_handler(_SIGINT, self._outer)

    def _interrupt(self, number: int, frame: Any) -> None:
        self._outer(number, frame)
        raise KeyboardInterrupt
