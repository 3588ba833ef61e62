"""How a job's tasks are run, where that is not the plain way; it travels with the job's function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

from millpond.worker.raised import name_of_type

_CO_COROUTINE: Final = 0x80
"""Of a code object's flags; importing ``inspect`` for its name would cost as much as half of millpond."""


_MARK: Final = "_is_coroutine_mark" if sys.version_info >= (3, 13) else "_is_coroutine_marker"
"""What ``inspect`` calls the object that ``markcoroutinefunction`` leaves on a function."""


class Conduct(NamedTuple):
    """What a worker has to know of a job's options."""

    retry_on: tuple[type[BaseException], ...] = ()
    """After an exception of these classes a task may be run again."""
    seed: tuple[int, ...] | None = None
    """Entropy of the tasks' random streams; a task's index in its call tells its own from the others'."""
    slots: int = 0
    """The function is a coroutine function, and a worker runs at most so many at once."""
    timeout: float | None = None
    """Seconds that a coroutine may take; other tasks are watched by the parent."""
    children: bool = False
    """Tasks may start processes by the standard library, which workers may not."""


CHILDREN: Final = Conduct(children=True)
"""Tasks are run in the plain way, but may start processes."""


class Conducted(NamedTuple):
    """A function and how it is to be called."""

    function: Callable[..., Any]
    conduct: Conduct

    def without_children(self) -> Any:
        """What is to be called where that is seen to."""
        conduct = self.conduct
        return (
            self.function
            if conduct == CHILDREN
            else self._replace(conduct=conduct._replace(children=False))
        )


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it gives a coroutine: it, or its class's ``__call__``, is an ``async def``, or marked so.

    Looks through ``functools.partial`` and bound methods. An object whose attributes cannot be looked at is none.
    """
    try:
        while isinstance(function, partial | MethodType):
            function = function.func if isinstance(function, partial) else function.__func__
        if type(function) is FunctionType:
            return bool(function.__code__.co_flags & _CO_COROUTINE) or _marked(function)
        call = getattr(type(function), "__call__", None)  # noqa: B004
        return _marked(function) or (
            type(call) is FunctionType and bool(call.__code__.co_flags & _CO_COROUTINE)
        )
    except Exception:
        return False


def is_global(function: Any) -> bool:
    """Whether it belongs to a module, which keeps it, and not to some object: no closure, no bound method."""
    if type(function) is BuiltinFunctionType:
        return isinstance(function.__self__, ModuleType)
    return type(function) in (FunctionType, type) and "<" not in function.__qualname__


def _marked(function: Any) -> bool:
    """Whether ``inspect.markcoroutinefunction`` was called for it (CPython's ``inspect.py``, from 3.12 on)."""
    mark = getattr(function, "_is_coroutine_marker", None)
    inspect = sys.modules.get("inspect")
    return mark is not None and mark is getattr(inspect, _MARK, None)


def name_of(function: Any) -> str:
    """A function's name for messages."""
    try:
        function = getattr(function, "func", function)  # a functools.partial
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        return str(name)
    except Exception:  # its attributes cannot be looked at
        return name_of_type(function)
