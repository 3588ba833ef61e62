"""What becomes of tasks' errors where a call's outcomes are decoded: ``on_error``.

None: what ``multiprocessing`` does, the first is raised. ``"raise"``: the same, and the exception's ``partial``
has the values of the tasks that did not fail. ``"return"``: it stands where the value would. ``"skip"``: it is
left out. Only exceptions that are an ``Exception`` can be a task's; others, and what a signal's handler raised
meanwhile, end the decoding.
"""

from __future__ import annotations

from typing import Any, Final

from millpond.job import ABSENT, Job, MapJob, errors_in
from millpond.worker.interrupted import let_through
from millpond.worker.outcome import Boxed, Error, blame_result, take

LENIENT: Final = ("return", "skip")
"""With these, a call does not fail because a task does."""


def value_of_call(outcome: Any, job: Job | None) -> Any:
    """What one task returned; one that is left out is None."""
    on_error = None if job is None else job.on_error
    try:
        return take(outcome)
    except Exception as error:
        let_through(error)
        blame_result(error, outcome, f"the result of {job.name if job else 'the task'}")
        if on_error in LENIENT:
            return error if on_error == "return" else None
        if on_error is not None:
            _add_partial(error, {})
        raise


def value_of_map(outcome: MapJob | Error, _: Job | None) -> Any:
    """The list of what all returned."""
    if isinstance(outcome, Error):
        return outcome.open()  # there were no tasks
    job, on_error = outcome, outcome.on_error
    if job.plain:
        return job.outcomes
    opened = None if job.failed else _opened(job.outcomes)
    if opened is not None:
        return opened
    values: dict[int, Any] = {}
    first: Exception | None = None
    for index, entry in enumerate(job.outcomes):
        if entry is ABSENT:
            continue
        try:
            values[index] = take(entry)
        except Exception as error:
            let_through(error)
            blame_result(error, entry, f"the result of task {index} of {job.name}")
            if on_error == "return":
                values[index] = error
            else:
                first = first or error
    if first is None or on_error == "skip":
        return list(values.values())
    if on_error is not None:
        _add_partial(first, values)
    raise first


def _opened(outcomes: list[Any]) -> list[Any] | None:
    """All values; None if one of them cannot be unpickled."""
    try:
        return [entry.open() if isinstance(entry, Boxed) else entry for entry in outcomes]
    except Exception as error:
        let_through(error)
        return None


def has_error(outcomes: list[Any]) -> bool:
    """Whether one of them is an error, as far as that can be seen without decoding."""
    return errors_in(outcomes) > 0


def _add_partial(error: Exception, values: dict[int, Any]) -> None:
    try:
        error.partial = values  # type: ignore[attr-defined]
    except Exception:
        pass  # its class takes no attributes
