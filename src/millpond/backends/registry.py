"""Which backend a pool gets, and why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from millpond.worker.loop import Settings

NAMES = ("processes", "threads", "inline")


class Choice(NamedTuple):
    """A backend, and what ``Pool.info()`` says of it."""

    name: str
    backend: Any
    context: Any = None
    start_method: str | None = None
    reason: str = ""


def choose(
    name: str | None,
    context: Any,
    start_method: str | None,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    workers: int,
) -> Choice:
    """Make the backend that was asked for. Raises ValueError for a name that there is not."""
    settings = Settings(initializer, initargs)
    if name is None or name == "processes":
        return _processes(context, start_method, settings)
    if context is not None or start_method is not None:
        raise ValueError(f"backend={name!r} starts no processes; context and start_method are not for it")
    if name == "threads":
        from millpond.backends.threads import ThreadBackend

        return Choice(name, ThreadBackend(settings, workers))
    if name == "inline":
        from millpond.backends.inline import InlineBackend

        return Choice(name, InlineBackend(settings))
    raise ValueError(f"no backend is called {name!r}; there are {', '.join(NAMES)}")


def _processes(context: Any, start_method: str | None, settings: Settings) -> Choice:
    from millpond.backends.processes.backend import ProcessBackend
    from millpond.backends.processes.starting import main_module
    from millpond.context import resolve

    if context is not None and start_method is not None:
        raise ValueError("give context or start_method, not both")
    asked = context if context is not None else start_method
    context = resolve(asked)
    method = start_method or context.get_start_method()
    backend = ProcessBackend(context, settings)
    return Choice("processes", backend, context, method, "asked for" if asked else "the default")


def _other_threads() -> list[threading.Thread]:
    """Python threads that may hold a lock at a fork: all but the main one and millpond's own."""
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.name.startswith("millpond-")
    ]
