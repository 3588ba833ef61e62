"""How workers end, and what their tasks' callers are told about it."""

from __future__ import annotations

import sys
from textwrap import indent
from typing import Any

from millpond import errors
from millpond.backends.base import Work
from millpond.backends.processes.description import describe_task
from millpond.worker import raised
from millpond.worker.conduct import name_of
from millpond.worker.last_words import LastWords
from millpond.worker.outcome import rebuild_error
from millpond.worker.slate import PHASES

_NO_WORDS = LastWords()


class Death:
    """A worker ended while it was in a task."""

    def __init__(
        self,
        pid: int | None,
        exitcode: int | None,
        phase: int,
        words: LastWords = _NO_WORDS,
        memory: str = "",
    ) -> None:
        """``memory``: how much there was, if the kernel ended it for want of that."""
        self.pid = pid
        self.exitcode = exitcode
        self.phase = PHASES[phase]
        self._words = words
        self._end = _how(exitcode, memory)

    def error(self, work: Work, index: int) -> errors.WorkerDied:
        """What the caller of the task gets."""
        message = (
            f"worker {self.pid} {self._end} before returning, "
            f"while {self.phase}{' of' * (self.phase != 'running')} {describe_task(work, index)}"
        )
        return _died(
            message,
            self._words,
            pid=self.pid,
            exitcode=self.exitcode,
            phase=self.phase,
            task=work.place(index),
        )

    def bystander(self, work: Work, index: int) -> errors.WorkerDied:
        """What the caller of another coroutine that it had begun gets."""
        return bystander(
            f"worker {self.pid} {self._end} while it ran another coroutine "
            f"beside {describe_task(work, index)}",
            self.pid, self.exitcode, work.place(index), self._words,
        )  # fmt: skip


def bystander(
    message: str, pid: int | None, exitcode: int | None, index: int, words: LastWords = _NO_WORDS
) -> errors.WorkerDied:
    """The error of a coroutine that had begun and is not to blame for its worker's end."""
    return _died(
        message, words, pid=pid, exitcode=exitcode, phase="running", task=index, blamed=False
    )


class Late:
    """A worker was killed for the task that it was in ran too long."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def error(self, work: Work, index: int) -> errors.TaskTimeout:
        """What the caller of the task gets."""
        return errors.TaskTimeout(
            f"{describe_task(work, index)} ran longer than its limit of {self._limit:g} s; its worker was "
            "killed and replaced"
        )

    def bystander(self, work: Work, index: int) -> errors.WorkerDied:
        """What the caller of another coroutine in that worker gets."""
        return bystander(
            f"{describe_task(work, index)} was lost: another coroutine blocked its event loop longer than "
            f"{self._limit:g} s, and the worker was killed",
            None, None, work.place(index),
        )  # fmt: skip


class Unwanted:
    """A worker was killed for the task that it was in was cancelled."""

    def error(self, work: Work, index: int) -> BaseException:
        """What tasks of that slice get that cannot run again."""
        return errors.WorkerDied(
            f"{describe_task(work, index)} was lost: a task that ran with it was cancelled",
            phase="running", task=work.place(index), blamed=False,
        )  # fmt: skip

    bystander = error


class Broken:
    """A worker was killed for it had sent what no worker sends."""

    def __init__(self, pid: int | None, reason: errors.ProtocolError) -> None:
        self._pid = pid
        self._reason = reason

    def error(self, work: Work, index: int) -> BaseException:
        """What the caller of the task that it was in gets."""
        return errors.ProtocolError(
            f"worker {self._pid} was killed in {describe_task(work, index)}, since it had sent what no worker "
            f"sends: {self._reason}"
        )

    bystander = error


class StartFailure:
    """A worker ended before it could take tasks."""

    def __init__(
        self,
        pid: int | None,
        exitcode: int | None,
        initializer: Any = None,
        failed: tuple[int, bytes] | None = None,
        words: LastWords = _NO_WORDS,
        memory: str = "",
    ) -> None:
        self.pid = pid
        self.exitcode = exitcode
        self._end = _how(exitcode, memory)
        self._initializer = None if initializer is None else name_of(initializer)
        self._words = words
        self._failed = failed  # the initializer's own error, sealed

    def error(self, work: Work, index: int) -> BaseException:
        """What the caller of any task gets: each its own copy, since tracebacks grow on a raised one."""
        if self._failed is not None:
            cause = rebuild_error(*self._failed)
            if type(cause) is errors.TaskError and cause.type_name == "SandboxError":
                return errors.SandboxError(cause.text)
            text = errors.escape(raised.told(cause))
            error = errors.InitializerError(
                f"the initializer {self._initializer} raised {text}; no worker can run tasks"
            )
            error.__cause__ = cause
            return error
        if self._initializer is not None:
            return errors.InitializerError(
                f"worker {self.pid} {self._end} in the initializer {self._initializer}; no worker can run tasks"
                + _quoted(self._words)
            )
        return _died(
            f"worker {self.pid} {self._end} before it was ready to run tasks{_remedy()}", self._words,
            pid=self.pid, exitcode=self.exitcode, phase="starting",
        )  # fmt: skip


def _remedy() -> str:
    if not getattr(sys, "frozen", False):
        return ""
    return "; a frozen program has to call millpond.freeze_support() as the first thing of its main module"


def _how(exitcode: int | None, memory: str) -> str:
    end = errors.describe_exit(exitcode)
    return f"{end}, by the kernel, which was out of memory ({memory})," if memory else end


def _died(message: str, words: LastWords, **known: Any) -> errors.WorkerDied:
    error = errors.WorkerDied(message + _quoted(words), **known)
    error.stderr, error.stack = words
    return error


def _quoted(words: LastWords) -> str:
    """The end of a message: what the worker left."""
    parts = [("its stack", words.stack), ("the last lines of its stderr", words.stderr)]
    return "".join(f"\n{title}:\n{indent(text, '  ')}" for title, text in parts if text)
