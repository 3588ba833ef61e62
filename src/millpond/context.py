"""Contexts: the standard library's, with our Process and our Pool.

Rules: which start method is the default is known in one place, the standard library's default
context, so ``multiprocessing.set_start_method`` and ours agree; queues, locks, values and managers
are made by the standard library's methods; a name that is not here is
``multiprocessing.context``'s.
"""

from __future__ import annotations

import multiprocessing.context as std
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

from millpond.backends.processes.starting import main_module
from millpond.backends.registry import Start
from millpond.process import ForkProcess, ForkServerProcess, Process, SpawnProcess

if TYPE_CHECKING:
    from multiprocessing.context import AuthenticationError as AuthenticationError
    from multiprocessing.context import BufferTooShort as BufferTooShort
    from multiprocessing.context import ProcessError as ProcessError
    from multiprocessing.context import TimeoutError as TimeoutError

    from millpond.pool import Pool
    from millpond.process import Process as _Process

__all__ = ()


class BaseContext(std.BaseContext):
    """What our contexts share."""

    Process: ClassVar[type[_Process]]
    _named = True  # by whoever asked for it; not where it stands for the interpreter's default

    def Pool(  # type: ignore[override]
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> Pool:
        """A pool of worker processes."""
        from millpond.pool import Pool

        return Pool(
            processes, initializer, initargs, maxtasksperchild, self.get_context(), **options
        )

    def freeze_support(self) -> None:
        """In a frozen program: become what this process was started for, if that is not to be the program."""
        if getattr(sys, "frozen", False):
            from millpond.backends.processes.starting import frozen

            frozen.support()

    def get_context(self, method: str | None = None) -> BaseContext:  # type: ignore[override]
        """This context, or that of the start method."""
        if method is None:
            return self
        try:
            context: BaseContext = _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None
        context._check_available()
        return context


class ForkContext(BaseContext, std.ForkContext):
    """Start by fork."""

    Process = ForkProcess  # type: ignore[assignment]


class SpawnContext(BaseContext, std.SpawnContext):
    """Start in a fresh interpreter."""

    Process = SpawnProcess  # type: ignore[assignment]


class ForkServerContext(BaseContext, std.ForkServerContext):
    """Start by the fork server."""

    Process = ForkServerProcess  # type: ignore[assignment]


class DefaultContext(BaseContext, std.DefaultContext):
    """The context of whatever start method is set."""

    Process = Process  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(std._default_context)
        self._chosen: Any = None  # what ``set_start_method`` set here last

    def get_context(self, method: str | None = None) -> BaseContext:  # type: ignore[override]
        """The context of the start method, by default of the one that is set."""
        if method is not None:
            return super().get_context(method)
        default: Any = std._default_context
        context: BaseContext = resolve(default.get_context())
        actual = default._actual_context
        if actual is self._chosen or actual is not default._default_context:
            return context
        return _unnamed[context.get_start_method()]

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Choose the start method; once, unless ``force``."""
        if (
            not force
            and main_module.importing()
            and method == std._default_context.get_start_method(allow_none=True)
        ):
            return  # an unguarded script that a child imports chooses again what it chose
        default: Any = std._default_context
        default.set_start_method(method, force)
        self._chosen = default._actual_context

    def get_start_method(self, allow_none: bool = False) -> str | None:  # type: ignore[override]
        """The start method that is set; fixes the interpreter's default unless ``allow_none``."""
        return std._default_context.get_start_method(allow_none)


class _Contexts(ChainMap[str, Any]):
    """Ours by their start methods, then those that libraries entered into the standard library's table, as loky
    does: whoever enters one here enters it there, where a child looks that has only the standard library."""

    def __setitem__(self, method: str, context: Any) -> None:
        self.maps[0 if method in self.maps[0] else 1][method] = context


_OURS: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_concrete_contexts = _Contexts(_OURS, vars(std)["_concrete_contexts"])
_unnamed: dict[str, BaseContext] = {name: copy(one) for name, one in _OURS.items()}
for _context in _unnamed.values():
    _context._named = False
_default_context = DefaultContext()


def resolve(context: object) -> Any:
    """The context to use for whatever a caller passed as ``context=``.

    None is the default, a name the context of that start method; the standard library's own
    contexts become ours; any other object, another library's context or a test's stand-in, stays
    what it is.
    """
    if context is None:
        return _default_context.get_context()
    if isinstance(context, str):
        return _default_context.get_context(context)
    if type(context) in (std.DefaultContext, DefaultContext):
        return _default_context.get_context()
    if type(context) in (std.ForkContext, std.SpawnContext, std.ForkServerContext):
        return _concrete_contexts[context._name]  # type: ignore[attr-defined]
    return context


def starting(context: object, start_method: str | None) -> Start:
    """How the processes of a pool start that was given these. Raises ValueError if it was given both."""
    if context is not None and start_method is not None:
        raise ValueError("give context or start_method, not both")
    asked = context if context is not None else start_method
    chosen = resolve(asked)
    method = start_method or chosen.get_start_method()
    ours = isinstance(chosen, BaseContext)
    named = bool(getattr(chosen, "_named", True))
    given = asked is not None and named
    return Start(chosen, method, named, ours, _concrete_contexts["forkserver"], given)


def __getattr__(name: str) -> Any:
    return getattr(std, name)
