"""Every exception that a user of millpond can catch, and the escaper for untrusted text.

Rules: this is the lowest layer, it imports nothing of millpond; every error survives pickling with its
attributes; a message names the culprit and, where there is one, the remedy.
"""

from __future__ import annotations

import builtins
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing import TimeoutError as TimeoutError
    from multiprocessing.pool import (  # type: ignore[attr-defined]
        MaybeEncodingError as MaybeEncodingError,
    )

__all__ = [
    "CannotKill",
    "ExtraMissing",
    "InitializerError",
    "MaybeEncodingError",
    "MillpondError",
    "PoolForkedError",
    "ProtocolError",
    "SandboxError",
    "TaskAborted",
    "TaskError",
    "TaskTimeout",
    "TimeoutError",
    "WorkerDied",
]


class MillpondError(Exception):
    """The base of the errors that are millpond's own."""


class WorkerDied(MillpondError):
    """A process ended while it ran a task, or before it returned.

    Attributes: ``pid``; ``exitcode`` (negative: the signal's number; None: unknown, somebody else
    reaped it); ``signal`` (its name, or None); ``phase`` (what it was doing); ``task`` (the index of
    the task in its call, or None); ``blamed`` (False: the worker died in another task that it ran at the same
    time); ``stderr`` (the last lines, at most 20, that Python code in the worker wrote to ``sys.stderr``);
    ``stack`` (the Python stack of a worker that crashed, as faulthandler wrote it). The last two are "" where
    there is nothing, and stand at the end of the message.
    """

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        exitcode: int | None = None,
        phase: str | None = None,
        task: int | None = None,
        blamed: bool = True,
    ) -> None:
        super().__init__(message)
        self.stderr = ""
        self.stack = ""
        self.blamed = blamed
        self.pid = pid
        self.exitcode = exitcode
        self.phase = phase
        self.task = task

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended the process, such as ``"SIGKILL"``, or None."""
        return signal_name(self.exitcode)


class TaskTimeout(MillpondError, builtins.TimeoutError):
    """A task ran longer than its own limit. A built-in ``TimeoutError``, and not ``multiprocessing.TimeoutError``:
    that is the caller's patience, with which the task goes on."""


class TaskAborted(MillpondError):
    """A task raised SystemExit, KeyboardInterrupt or another exception that is no ``Exception``.

    It must not end the caller's program, so it arrives as this, with the original's text in it.
    """


class TaskError(MillpondError):
    """Stands for an exception that could not travel; its traceback is the cause.

    Attributes: ``type_name`` (of the original), ``text`` (what ``str`` made of it), ``traceback``.
    """

    def __init__(
        self, message: str, type_name: str = "", text: str = "", traceback: str = ""
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback


class InitializerError(MillpondError):
    """The pool's initializer raised, or ended its worker; the pool cannot run tasks."""


class PoolForkedError(MillpondError):
    """A forked copy of the program used the pool of the program that it was forked from."""


class CannotKill(MillpondError):
    """A thread, or the caller itself, was to be killed, which Python cannot do."""


class ProtocolError(MillpondError):
    """Bytes on a worker's channel that are no frame of ours."""


class SandboxError(MillpondError):
    """A sandbox was required that cannot be had; ``missing`` says of each feature that is not there why."""

    def __init__(self, message: str, missing: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.missing = missing or {}


class ExtraMissing(MillpondError, ImportError):
    """A feature needs a package that is not installed; the message says which to install."""


def signal_name(exitcode: int | None) -> str | None:
    """The name of the signal behind a negative exit code, or None."""
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


def describe_exit(exitcode: int | None) -> str:
    """How a process ended, as the second half of a sentence: ``"was killed by SIGKILL"``."""
    name = signal_name(exitcode)
    if name is not None:
        return f"was killed by {name}"
    if exitcode is None:
        return "ended, its exit status unknown (another process learned it, or keeps it),"
    return f"exited with code {exitcode}"


_HIDDEN = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x061C,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x206A),
        0xFEFF,
    )
}


_HIDDEN_IN_LINES = {code: shown for code, shown in _HIDDEN.items() if code not in (0x09, 0x0A)}


def escape(text: str) -> str:
    """Text from elsewhere, safe for a terminal: control and bidirectional characters are escaped.

    So are halves of characters, which no stream of text takes.
    """
    return _whole(text.translate(_HIDDEN))


def escape_lines(text: str) -> str:
    """The same for text of several lines, such as a traceback, which keeps them, and its tabs."""
    return _whole(text.translate(_HIDDEN_IN_LINES))


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def __getattr__(name: str) -> Any:
    # The standard library's own two, imported when somebody asks: a worker that starts should not pay
    # for multiprocessing.pool.
    if name == "MaybeEncodingError":
        from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

        return MaybeEncodingError
    if name == "TimeoutError":
        from multiprocessing import TimeoutError

        return TimeoutError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
