"""What pickle refused to send to a worker, named: which argument of which task, and where in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from millpond.backends.base import Work
from millpond.worker.codec import CALL, STAR
from millpond.worker.conduct import Conducted, name_of
from millpond.worker.refusals import Dump, argument_name, explained


def function(refusal: BaseException, function: Any, dump: Dump) -> BaseException:
    """The refusal of a function, which may hold objects, or use them."""
    function = _bare(function)
    return explained(refusal, f"function {name_of(function)!r}", function, dump)


def argument(
    refusal: BaseException, style: int, argument: Any, function: Any, dump: Dump, more: str = ""
) -> BaseException:
    """The refusal of what a function is to be called with; ``more`` is said behind it."""
    for name, value in _named(style, argument, _bare(function)):
        named = explained(refusal, name, value, dump, more=more)
        if named is not refusal:
            return named
    return refusal


def task(refusal: BaseException, work: Work, index: int, item: Any, dump: Dump) -> BaseException:
    """The refusal of a task's argument. Raises nothing, whatever pickling hooks raise."""
    function = getattr(work, "source", None)
    more = f" of task {work.place(index)}"
    try:
        return argument(refusal, work.style, item, function, dump, more)
    except BaseException:
        return refusal


def process(refusal: BaseException, process_obj: Any, dump: Dump) -> BaseException:
    """The refusal of a process: of its target, or of what that is to be called with."""
    target, call = process_obj._target, (process_obj._args, process_obj._kwargs)
    named = argument(refusal, CALL, call, target, dump)
    return function(refusal, target, dump) if named is refusal and target is not None else named


def _bare(function: Any) -> Any:
    return function.function if isinstance(function, Conducted) else function


def _named(style: int, argument: Any, function: Any) -> Iterator[tuple[str, Any]]:
    """Each argument, and what the function calls it."""
    given, named = argument if style == CALL else (argument, {})
    if style not in (CALL, STAR) or not isinstance(given, tuple | list):
        given = (given,)
    for place, value in enumerate(given):
        yield argument_name(function, place), value
    for name, value in named.items():
        yield argument_name(function, name), value
