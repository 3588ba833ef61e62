"""Which backend a pool gets, and why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from millpond import cpus, logs
from millpond.backends import patched
from millpond.backends.places import Staff, describe, places
from millpond.system import descriptors, refusals
from millpond.worker.loop import Settings
from millpond.worker.place import Place

NAMES = ("processes", "threads", "inline")


class Start(NamedTuple):
    """How processes are to be started."""

    context: Any
    method: str
    asked: bool  # the program said so: to this pool, or by ``set_start_method``
    ours: bool  # the context is millpond's own
    served: Any  # the context of the fork server
    given: bool = False  # to this pool
    queues: str | None = None  # of a Pool's subclass that has its own: see worker.queued


class Choice(NamedTuple):
    """A backend, and what ``Pool.info()`` says of it."""

    name: str
    backend: Any
    context: Any = None
    start_method: str | None = None
    reason: str = ""
    attended: bool = True  # a thread drives while nobody waits
    place: Place | None = None  # that a worker process gets

    @property
    def usable(self) -> int:
        """CPUs that the program and its worker processes may use."""
        return 1 if self.place is None else self.place.usable

    def about(self) -> dict[str, Any]:
        """What ``Pool.info()`` says of it."""
        return {
            "backend": self.name,
            "start_method": self.start_method,
            "reason": self.reason,
            **(describe(self.place) if self.place is not None else {}),
            **(
                {"arena": self.backend.arena(), "missing": refusals.missing()}
                if self.name == "processes"
                else {}
            ),
        }


def elsewhere() -> Any:
    """What stands for a pool's parts where a worker imports the module that makes its own pool; else None."""
    module = sys.modules.get("millpond.backends.processes.starting.half_imported")
    return None if module is None else module.elsewhere()


def check_may_start() -> None:
    """End the import of a module quietly that is run again for a worker, and wants a pool there."""
    if getattr(sys, "frozen", False):
        from millpond.backends.processes.starting import frozen

        frozen.check()
    for name in ("preloading", "main_module"):
        module: Any = sys.modules.get(f"millpond.backends.processes.starting.{name}")
        if module is not None:
            module.check()


def choose(
    name: str | None,
    start: Start,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    staff: Staff = Staff(1),  # noqa: B008
    sandbox: Any = None,
) -> Choice:
    """Make the backend that was asked for. Raises ValueError for a name that there is not."""
    settings = Settings(initializer, initargs, staff.at_most_once)
    if sandbox:
        from millpond.worker.sandbox import ordered

        settings = settings._replace(sandbox=ordered(sandbox))
        # A library that starts threads as it is imported would keep them out of the sandbox.
        staff = staff._replace(blas_threads=1) if staff.blas_threads is None else staff
    if name is None or name == "processes":
        patched.check()
        return _processes(start, settings._replace(levels=logs.levels()), places(staff))
    if start.given or staff.cpus or staff.blas_threads is not None or sandbox:
        raise ValueError(
            f"backend={name!r} starts no processes; "
            "context, start_method, cpus, blas_threads and sandbox are not for it"
        )
    if name == "threads":
        from millpond.backends.threads import ThreadBackend

        return Choice(name, ThreadBackend(settings, cpus.share(staff.workers)))
    if name == "inline":
        from millpond.backends.inline import InlineBackend

        return Choice(name, InlineBackend(settings), attended=False)
    raise ValueError(f"no backend is called {name!r}; there are {', '.join(NAMES)}")


def _processes(start: Start, settings: Settings, staffed: list[Place]) -> Choice:
    from millpond.backends.processes import ways
    from millpond.backends.processes.backend import ProcessBackend
    from millpond.backends.processes.starting import half_imported

    settings = settings._replace(half_imported=half_imported.names())
    descriptors.provide(len(staffed))
    own = descriptors.own_limit()
    if own is not None:
        staffed = [place._replace(descriptors=own) for place in staffed]
    way = ways.choose(start, settings, staffed)
    backend = ProcessBackend(
        way.context,
        settings,
        staffed,
        main_importable=way.main_importable,
        server=way.server,
        outfits=way.outfits,
        packing=_packing(start.queues),
    )
    backend.packing.defined = way.defined
    return Choice("processes", backend, way.context, way.method, way.reason, place=staffed[0])


def _packing(queues: str | None) -> Callable[..., Any]:
    """What encodes for the workers."""
    if queues is None:
        from millpond.backends.processes.packing import ProcessPacking

        return ProcessPacking
    from millpond.backends.processes.queued import QueuedPacking

    return partial(QueuedPacking, key=queues)
