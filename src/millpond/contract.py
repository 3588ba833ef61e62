"""Errors as ``concurrent.futures`` has them: what an executor gives is of the class that its own raise, too.

Rules: such an error is what it was, in its name, its text, its attributes and its pickle, and has one base more;
a class is made once for each pair, and when the first error needs it, so that nobody else imports
``concurrent.futures.process``.
"""

from __future__ import annotations

from typing import Any

from millpond import errors
from millpond.worker.outcome import AGAIN, REFUSED, Error, Sealed

_BREAKS = (errors.WorkerDied, errors.InitializerError)


def widened(error: Exception, outcome: Any, processes: bool) -> Exception:
    """``error``, which came of ``outcome``, or its counterpart; ``processes``: whether the workers are."""
    kind: Any = type(error)
    # One that a task raised, of a pool of its own, tells nothing of this pool.
    if type(outcome) is Error and kind in _BREAKS:
        return _again(error, _breaks(processes))
    if type(outcome) is Sealed and outcome.tag & ~AGAIN == REFUSED:
        refusal = getattr(error, "refusal", None)
        return error if refusal is None else _again(error, refusal)
    return error


def _breaks(processes: bool) -> type[Exception]:
    if processes:
        from concurrent.futures.process import BrokenProcessPool

        return BrokenProcessPool
    from concurrent.futures.thread import BrokenThreadPool

    return BrokenThreadPool


def _again(error: Exception, also: type[Exception]) -> Exception:
    if isinstance(error, also):
        return error
    fresh: Any = _made(type(error), also, error.args, vars(error))
    fresh.__cause__, fresh.__context__ = error.__cause__, error.__context__
    fresh.__suppress_context__ = error.__suppress_context__
    return fresh  # type: ignore[no-any-return]


def _made(
    kind: type[Exception], also: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any]
) -> Exception:
    both = _both(kind, also)
    error: Any = both.__new__(both, *args)
    error.args = args
    vars(error).update(attributes)
    return error  # type: ignore[no-any-return]


_known: dict[tuple[type[Exception], type[Exception]], type[Exception]] = {}


def _both(kind: type[Exception], also: type[Exception]) -> type[Exception]:
    known = _known.get((kind, also))
    if known is not None:
        return known

    def reduce(self: Any) -> Any:
        return _made, (kind, also, self.args, vars(self))

    names = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
    }
    both = type(kind.__name__, (kind, also), names | {"__reduce__": reduce})
    return _known.setdefault((kind, also), both)
