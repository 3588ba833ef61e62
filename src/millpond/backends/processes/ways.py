"""By which way a pool's worker processes are started, and why.

    a method was asked for, or the default is not fork    that one
    the default is fork    in a sandbox                   a fork server of its own: nothing is copied
                           no other threads, or at rest   fork
                           another may hold a lock        the fork server, with one warning a program

Rules: who asked is obeyed; in doubt nobody is forked; what can only be inherited (a lock among the initializer's
arguments) is.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from millpond.backends.processes.outfit import Outfit, hatch
from millpond.backends.processes.starting import bystanders, main_module, nursery
from millpond.worker import main_namespace
from millpond.worker.loop import Settings
from millpond.worker.place import Place, libraries, limit

if TYPE_CHECKING:
    from millpond.backends.registry import Start

_PATIENT = 1.0
_IMPATIENT = 0.1
_patience = _PATIENT
"""Seconds to look for whether others come to rest. Where that was in vain, the next pool waits less."""

_warned = False
_looking = threading.RLock()
"""Held by who looks: threads that make pools at the same time would see one another at work."""


class Way(NamedTuple):
    """What a ``ProcessBackend`` needs to know."""

    context: Any
    method: str
    reason: str
    main_importable: bool
    server: nursery.Nursery | None = None
    outfits: Sequence[Outfit] = ()
    defined: Mapping[str, weakref.ref[Any]] | None = None  # as ``ProcessPacking`` has it


def choose(start: Start, settings: Settings, places: Sequence[Place]) -> Way:
    """Choose, and fork where that is the way."""
    reason = "asked for" if start.asked else "the default"
    if start.method != "fork" or not start.ours:
        importable = main_module.importable_by(start.method)
        server = _server(settings) if start.ours and start.method == "forkserver" else None
        return Way(start.context, start.method, reason, importable, server)
    if not start.asked:
        if settings.sandbox is not None:
            if _can_travel(settings):
                copied = "what this program has in memory and has open into the sandbox"
                return _by_value(start, f"a fork would copy {copied}", _server(settings))
        elif bystanders.present():
            return _beside_other_threads(start, settings, places)
    return _fork(start, settings, places, reason)


def _fork(
    start: Start,
    settings: Settings,
    places: Sequence[Place],
    reason: str,
    watch: bystanders.Watch | None = None,
) -> Way:
    if places[0].threads:
        libraries()  # here, so that copies of this process need not find them again
    defined = main_module.defined()
    first = partial(_settle, places[0], grows=defined is not None)
    server, outfits = hatch(start.context, settings, places, first, watch)
    return Way(start.context, "fork", reason, True, server, outfits, defined)


def _settle(place: Place, grows: bool) -> None:
    """In the copy from which workers are forked. ``grows``: more may be defined in its main module."""
    limit(place)
    if grows:
        main_namespace.inherit()


def _beside_other_threads(start: Start, settings: Settings, places: Sequence[Place]) -> Way:
    global _patience
    try:
        with _looking:
            way = _fork(start, settings, places, "the default", bystanders.Watch(_patience))
    except bystanders.Unrest as unrest:
        threads, _patience = str(unrest), _IMPATIENT
    else:
        _patience = _PATIENT
        return way
    if not _can_travel(settings):
        reason = f"the initializer's arguments can only be inherited, though there are {threads}"
        return _fork(start, settings, places, reason)
    imports = main_module.guarded()
    _warn(threads, imports)
    reason = f"a fork would copy the locks of other threads ({threads})"
    if imports:
        return Way(start.served, "forkserver", reason, True)
    return _by_value(start, reason)


def _by_value(start: Start, reason: str, server: nursery.Nursery | None = None) -> Way:
    """The fork server, whose children do not import the main module: what that defines is sent."""
    return Way(start.context, "forkserver", reason, False, server or nursery.fork_server())


def _server(settings: Settings) -> nursery.Nursery | None:
    """For workers in a sandbox, a fork server of this pool alone: it has none of the program's variables."""
    if settings.sandbox is None:
        return None
    return nursery.Nursery.exec(environment=settings.sandbox.variables())


def _can_travel(settings: Settings) -> bool:
    """Whether a fresh process can be sent what the initializer needs; locks made for fork cannot be."""
    from millpond.worker.by_value import dumps

    if settings.initializer is None:
        return True
    try:
        dumps((settings.initializer, settings.initargs), main_importable=False)
    except Exception:
        return False
    return True


def _warn(threads: str, imports: bool) -> None:
    """Say once what is different now; ``imports``: whether the workers do import the main module."""
    global _warned
    if _warned:
        return
    _warned = True
    if imports:
        main = "Its workers have imported the main module"
    else:  # which has no file, or no guard and would run the program again
        main = "Its workers have not imported the main module: what that defines is sent to them by value"
    warnings.warn(
        f"Pool() takes the fork server, as a fork would copy the locks of other threads ({threads}). "
        f"{main}; what the program has set in memory since then (globals, "
        "settings of modules, caches) is not there, nor are locks and Values that are globals. Two ways out: "
        "make the pool before these threads are started, or name a method: start_method='fork' copies all the "
        "same, 'forkserver' does what is done now and says nothing.",
        RuntimeWarning,
        stacklevel=_callers(),
    )


def _callers() -> int:
    """How many calls up the program's own code is, as ``warnings.warn`` of the function above counts them."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("millpond."):
        frame, level = frame.f_back, level + 1
    return level


def _in_child() -> None:
    _looking._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_in_child)
