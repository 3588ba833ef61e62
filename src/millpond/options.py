"""The options of tasks: the same on every method of a Pool, and as its defaults. Parsed once, and frozen."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypedDict

from millpond import amounts, errors
from millpond.core.policy import Limits
from millpond.worker.conduct import Conduct
from millpond.worker.slate import ROWS

OnError = Literal["raise", "return", "skip"]
ExceptionTypes = type[BaseException] | tuple[type[BaseException], ...]


class TaskOptions(TypedDict, total=False):
    """What a call, or a whole pool, may ask for its tasks. None of it is needed.

    ``timeout``: seconds that a task may run, counted from its start; the late task alone ends with
    ``TaskTimeout``. ``retries``: how often a task that failed is run again, if it raised one of ``retry_on``
    (default: any ``Exception``, ``WorkerDied`` and ``TaskTimeout`` among them), after ``backoff`` seconds, about
    twice as many before each further run. ``on_error``: ``"raise"`` adds ``partial`` to the first error, a dict
    of index to value; ``"return"`` puts errors where values would be; ``"skip"`` leaves them out. ``fail_fast``:
    the first error ends the call, and stops what runs. ``progress``: True, a description, or a callable that
    gets snapshots. ``seed``: each task gets random streams of its own, always the same. ``concurrency``:
    coroutines that a worker runs at once (default: 100). ``cost``, of ``map`` and ``starmap`` alone: about how
    long a task takes, in any unit, as a function of its argument; the longest are begun first.
    """

    timeout: float | None
    retries: int
    retry_on: ExceptionTypes
    backoff: float
    on_error: OnError | None
    fail_fast: bool
    progress: bool | str | Callable[[Any], object]
    seed: int | None
    concurrency: int
    cost: Callable[..., Any] | None


class Options(NamedTuple):
    """The same, checked."""

    timeout: float | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    backoff: float = 0.0
    on_error: OnError | None = None
    fail_fast: bool = False
    progress: Any = False
    seed: tuple[int, ...] | None = None
    concurrency: int = 100
    cost: Any = None
    children: bool = False  # an executor's own: its tasks may start processes

    def conduct(self, is_async: bool) -> Conduct:
        """What a worker has to know of it."""
        return Conduct(
            retry_on=self.retry_on if self.retries else (),
            seed=self.seed,
            slots=self.concurrency if is_async else 0,
            timeout=self.timeout if is_async else None,
            children=self.children,
        )

    def limits(self, is_async: bool) -> Limits:
        """What the scheduler has to know of it."""
        return Limits(
            timeout=self.timeout,
            retries=self.retries,
            backoff=self.backoff,
            after_death=self._retried(errors.WorkerDied),
            after_timeout=self._retried(errors.TaskTimeout),
            slots=self.concurrency if is_async else 0,
        )

    def _retried(self, kind: type[BaseException]) -> bool:
        return self.retries > 0 and any(wanted in kind.__mro__ for wanted in self.retry_on)


NONE: Final = Options()
PARENTAL: Final = Options(children=True)
"""An executor's, where the pool has none."""


def parse(defaults: Options, given: Mapping[str, Any]) -> Options:
    """``defaults`` with what was given. Raises TypeError or ValueError, naming the option."""
    if not given:
        return defaults
    checked = {}
    for name, value in given.items():
        check = _CHECKS.get(name)
        if check is None:
            raise TypeError(f"there is no option {name!r}{_nearest(name)}")
        checked[name] = check(name, value)
    options = defaults._replace(**checked)
    if options.fail_fast and options.on_error not in {None, "raise"}:
        raise ValueError(
            f"fail_fast stops at the first error, and on_error={options.on_error!r} passes over it"
        )
    if options.fail_fast:
        options = options._replace(on_error="raise")
    return options


def _nearest(name: str) -> str:
    import difflib

    names = difflib.get_close_matches(name, _CHECKS, n=1, cutoff=0.5)
    return f"; did you mean {names[0]!r}?" if names else f"; there are {', '.join(_CHECKS)}"


def _seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    seconds = _number(name, value)
    if not seconds > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value!r}")
    return None if seconds == math.inf else seconds


def _pause(name: str, value: Any) -> float:
    seconds = _number(name, value)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} must be 0 seconds or more, not {value!r}")
    return seconds


def _number(name: str, value: Any) -> float:
    if type(value) is bool or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    return amounts.real(name, value)


def _key(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function of a task's argument, not {value!r}")
    return value


def _count(name: str, value: Any) -> int:
    return amounts.whole(name, value, 0)


def _slots(name: str, value: Any) -> int:
    return amounts.whole(name, value, 1, ROWS)


def _types(name: str, value: Any) -> tuple[type[BaseException], ...]:
    kinds = value if isinstance(value, tuple) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{name} must be an exception type, or a tuple of them, not {value!r}")
    return kinds


def _on_error(name: str, value: Any) -> Any:
    if value not in (None, "raise", "return", "skip"):
        raise ValueError(f"{name} must be 'raise', 'return', 'skip' or None, not {value!r}")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def _progress(name: str, value: Any) -> Any:
    if not (value is None or isinstance(value, bool | str) or callable(value)):
        raise TypeError(f"{name} must be True, a description or a callable, not {value!r}")
    return value


def _seed(name: str, value: Any) -> tuple[int, ...] | None:
    return None if value is None else (amounts.whole(name, value, 0),)


_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "timeout": _seconds,
    "retries": _count,
    "retry_on": _types,
    "backoff": _pause,
    "on_error": _on_error,
    "fail_fast": _flag,
    "progress": _progress,
    "seed": _seed,
    "concurrency": _slots,
    "cost": _key,
}
