"""What the backends inside the caller's process share: nothing is encoded, outcomes are objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from millpond import errors
from millpond.backends.base import Nowhere, Outside, Work
from millpond.core.commands import Span
from millpond.worker import raised
from millpond.worker.codec import CALL, GONE, STAR
from millpond.worker.conduct import Conducted, is_global, name_of
from millpond.worker.outcome import Error, Value, asks_again
from millpond.worker.seeding import Seeded

Task = tuple[Callable[..., Any] | Conducted, int, Any, int]
"""What to call, the style, the argument, and the task's index in its call (0 for a call of its own)."""


class LocalPacking:
    """Everything stays what it is."""

    outside: Outside = Nowhere()

    def function(self, function: Any) -> Any:
        return function

    def argument(self, style: int, argument: Any, function: Any = None) -> Any:
        return argument

    def renews(self, function: Any, packed: Any) -> bool:
        return False  # threads share their objects, as multiprocessing's do

    def by_value(self, function: Any) -> Any:
        return function

    def keeps(self, function: Any) -> bool:
        return is_global(function)


def tasks_of(work: Sequence[tuple[Work, Span]]) -> list[Task]:
    """A chunk as tasks, in order."""
    return [
        (job.function, job.style, argument, 0 if job.style == CALL else job.place(index))
        for job, span in work
        for index, argument in enumerate(job.arguments(span.start, span.stop), span.start)
    ]


def run(
    function: Any, style: int, argument: Any, index: int = 0, alone: bool = False
) -> Value | Error:
    """Run one task here. ``alone``: as in ``Seeded``."""
    if argument is GONE:
        return Value(None)
    retry_on: tuple[type[BaseException], ...] = ()
    try:
        if type(function) is Conducted:
            function, conduct = function
            retry_on = conduct.retry_on
            if conduct.seed is not None:
                function = Seeded(function, conduct.seed, lambda: index, alone)
        if style == CALL:
            args, kwds = argument
            return Value(function(*args, **kwds))
        return Value(function(*argument) if style == STAR else function(argument))
    except Exception as exception:
        return Error(exception, asks_again(exception, retry_on))
    except BaseException as exception:
        return Error(aborted(exception), asks_again(exception, retry_on))


def aborted(exception: BaseException) -> errors.TaskAborted:
    """What stands for an exception that must not end the caller's program."""
    text = errors.escape(f"{raised.name_of_type(exception)}({raised.text_of(exception)})")
    error = errors.TaskAborted(f"the task raised {text}")
    error.__cause__ = exception
    return error


class NoStart:
    """Why a task never ran: no worker could be started."""

    def __init__(self, reason: Exception) -> None:
        self._reason = reason

    def error(self, work: Work, index: int) -> errors.WorkerDied:
        error = errors.WorkerDied(f"no worker can be started: {self._reason}", phase="starting")
        error.__cause__ = self._reason
        return error


class InitializerFailure:
    """Why there are no workers: the initializer raised."""

    def __init__(self, initializer: Any, exception: BaseException) -> None:
        self._name = name_of(initializer)
        self._exception = exception
        self._trace = raised.format_trace(exception, raised.trace_of(exception))

    def error(self, work: Work, index: int) -> errors.InitializerError:
        said = errors.escape(f"the initializer {self._name} raised {raised.told(self._exception)}")
        error = errors.InitializerError(f"{said}; no worker can run tasks")
        raised.set_cause(self._exception, raised.remote(self._trace))
        error.__cause__ = self._exception
        return error
