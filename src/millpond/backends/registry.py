"""Which backend a pool gets, and why."""

from __future__ import annotations

import sys
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
    attended: bool = True  # a thread drives while nobody waits


def check_may_start() -> None:
    """End the import of a main module quietly that is run again in a worker and wants a pool."""
    module = sys.modules.get("millpond.backends.processes.starting.main_module")
    if module is not None and module.importing():
        raise module.MainReached


def choose(
    name: str | None,
    context: Any,
    start_method: str | None,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> Choice:
    """Make the backend that was asked for. Raises ValueError for a name that there is not."""
    settings = Settings(initializer, initargs)
    if name is None or name == "processes":
        return _processes(context, start_method, settings)
    if context is not None or start_method is not None:
        raise ValueError(f"backend={name!r} starts no processes; context and start_method are not for it")
    if name == "threads":
        from millpond.backends.threads import ThreadBackend

        return Choice(name, ThreadBackend(settings))
    if name == "inline":
        from millpond.backends.inline import InlineBackend

        return Choice(name, InlineBackend(settings), attended=False)
    raise ValueError(f"no backend is called {name!r}; there are {', '.join(NAMES)}")


def _processes(context: Any, start_method: str | None, settings: Settings) -> Choice:
    from millpond.backends.processes.backend import ProcessBackend
    from millpond.backends.processes.starting import main_module, nursery
    from millpond.context import BaseContext, resolve

    if context is not None and start_method is not None:
        raise ValueError("give context or start_method, not both")
    asked = context if context is not None else start_method
    context = resolve(asked)
    method = start_method or context.get_start_method()
    reason = "asked for" if asked is not None else "the default"
    server: Any = None
    threads: list[threading.Thread] = []
    main_importable = main_module.importable_by(method)
    if method == "fork" and isinstance(context, BaseContext):
        threads = [] if asked is not None else _other_threads()
        if threads:
            server, main_importable = nursery.fork_server(), False
            names = ", ".join(thread.name for thread in threads[:3])
            reason = f"a fork would copy the locks of other threads ({names})"
        else:
            server = nursery.Nursery.fork({"settings": settings})
    backend = ProcessBackend(
        context,
        settings,
        main_importable=main_importable,
        server=server,
        owned=server is not None and not threads,
    )
    return Choice("processes", backend, context, "forkserver" if server and threads else method, reason)


def _other_threads() -> list[threading.Thread]:
    """Python threads that may hold a lock at a fork: all but the main one and millpond's own."""
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.name.startswith("millpond-")
    ]
