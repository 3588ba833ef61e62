"""What opening an outcome raised, where that may not be the outcome: signals' handlers raise anywhere."""

from __future__ import annotations

from millpond import errors
from millpond.interrupts import is_handler
from millpond.worker.outcome import Error
from millpond.worker.raised import name_of_type, set_cause, text_of, trace_of

_STORED = Error.open.__code__


def is_interruption(failure: BaseException) -> bool:
    """Whether a signal's handler raised it meanwhile, so that the outcome is there to be opened again.

    What a task raised in this process is its outcome, whoever raised it there.
    """
    trace = trace_of(failure)
    while trace is not None:
        if trace.tb_frame.f_code is _STORED:
            return False
        if is_handler(trace.tb_frame):
            return True
        trace = trace.tb_next
    return issubclass(type(failure), KeyboardInterrupt)


def let_through(failure: BaseException) -> None:
    """Raise it again if it is an interruption."""
    if is_interruption(failure):
        raise failure


def or_aborted(failure: BaseException) -> BaseException:
    """It, if it is an interruption; else what stands for an exception that must not end the caller's program."""
    if is_interruption(failure):
        return failure
    text = errors.escape(
        f"unpickling the result raised {name_of_type(failure)}({text_of(failure)})"
    )
    aborted = errors.TaskAborted(text)
    set_cause(aborted, failure)
    return aborted
