"""What a pool's workers are told of the machine: each one's share of the CPUs, its threads, its CPUs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from millpond import amounts, cpus
from millpond.worker.place import LIBRARIES, Place

_MOST_THREADS: Final = 1 << 16
"""What OpenMP libraries read without complaint."""

_MARK = "MILLPOND_THREADS"
"""Names the variables that a pool has set, with their values, so that a pool in it may change them."""


class Staff(NamedTuple):
    """How many workers a pool has, and what was asked for them: see ``Pool``."""

    workers: int
    cpus: Any = None
    blas_threads: int | None = None
    at_most_once: bool = False


def places(staff: Staff) -> list[Place]:
    """The place of each worker process.

    Raises TypeError or ValueError for what makes no sense, RecursionError where pools are nested too deep.
    """
    threads = _checked(staff.blas_threads)
    pins = cpus.pinning(staff.cpus)
    usable = cpus.available()
    among = len(frozenset().union(*pins)) if pins else None
    share = cpus.share(staff.workers, among, usable)
    return [
        _place(share, pins[n % len(pins)] if pins else None, threads)._replace(usable=usable)
        for n in range(staff.workers)
    ]


def _place(share: cpus.Share, pinned: frozenset[int] | None, threads: int | None) -> Place:
    if pinned is not None:
        share = share._replace(cpus=min(share.cpus, len(pinned)))
    count = share.cpus if threads is None else threads
    limits = thread_variables(count, os.environ, asked=threads is not None)
    environment = {**share.environment(), **limits}
    return Place(environment, count if limits else 0, threads is not None, pinned)


def thread_variables(count: int, environment: Mapping[str, str], asked: bool) -> dict[str, str]:
    """The variables that limit threads to ``count``: those that the user has not set, or all where
    the pool was ``asked`` for it. Most libraries read ``OMP_NUM_THREADS``: whoever has set that has
    told them."""
    if not count:
        return {}
    ours = environment.get(_MARK, "").split()
    theirs = {
        name
        for name in LIBRARIES
        if not asked and environment.get(name) and f"{name}={environment[name]}" not in ours
    }
    if "OMP_NUM_THREADS" in theirs:
        return {}
    settings = {name: str(count) for name in LIBRARIES if name not in theirs}
    return {**settings, _MARK: " ".join(f"{name}={count}" for name in settings)}


def describe(place: Place) -> dict[str, Any]:
    """What ``Pool.info()`` says of a worker's place."""
    by = None
    if place.threads:
        by = "environment"
        with contextlib.suppress(ImportError):  # at the interpreter's end nothing can be looked for
            if importlib.util.find_spec("threadpoolctl") is not None:
                by += ", threadpoolctl"
    return {
        "share": int(place.environment[cpus.VARIABLE]),
        "blas_threads": place.threads or None,
        "blas_limited_by": by,
    }


def _checked(threads: Any) -> int | None:
    if threads is None:
        return None
    return amounts.whole("blas_threads", threads, 0, _MOST_THREADS)
