"""The failpoints of the parent's side; ``worker.failpoints`` has the rules.

A worker passes each, or the parent:

``engine.send`` and ``engine.sent`` of a chunk, ``engine.received``, read from a channel and not looked at yet,
``engine.recall``, before a worker is stopped to look at it, ``engine.started``, a worker that was just started,
and ``engine.death``, noticed and not dealt with: what is ordered is done to the worker. At the same places
``parent.send`` and so on do it to the parent itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

from millpond.worker.failpoints import Armed, around, nothing

PLACES: Final = ("send", "sent", "received", "recall", "started", "death")
POINTS: Final = tuple(f"{side}.{place}" for side in ("engine", "parent") for place in PLACES)

armed: Final = Armed()


def wrap(backend: Any) -> None:
    """Have the methods of the backend's class pass the points."""
    around(backend, "__init__", nothing, lambda *_args, **_kwds: armed.load(POINTS))
    around(backend, "send", _of_worker("send"), _of_worker("sent"))
    around(backend, "recall", _of_worker("recall"), nothing)
    around(backend, "start", nothing, _of_worker("started"))
    around(backend, "_take", _of_child("received"), nothing)
    around(backend, "_on_death", _of_child("death"), nothing)


def _of_worker(place: str) -> Callable[..., None]:
    def passed(backend: Any, worker: int, *_args: Any, **_kwds: Any) -> None:
        child = backend._children.get(worker)
        if child is not None:
            _pass(place, child)

    return passed


def _of_child(place: str) -> Callable[..., None]:
    return lambda _backend, child, *_: _pass(place, child)


def _pass(place: str, child: Any) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended already, and was reaped
        armed.passing(f"engine.{place}", child.process.pid)
    armed.passing(f"parent.{place}")
