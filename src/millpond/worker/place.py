"""A worker process's place in the machine: what it sees to before anything of the user's is loaded.

Rules: once a process, whoever calls first, since a worker takes its place before its parent's main module is
imported where its start allows it, and else in ``serving.serve``; nothing is imported for it but threadpoolctl,
and that only where libraries are loaded that it is for. Libraries that are loaded later read the environment.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, Final, NamedTuple

from millpond import cpus

LIBRARIES: Final = {
    "OMP_NUM_THREADS": "openmp",
    "OPENBLAS_NUM_THREADS": "openblas",
    "MKL_NUM_THREADS": "mkl",
    "BLIS_NUM_THREADS": "blis",
    "VECLIB_MAXIMUM_THREADS": "",
    "NUMEXPR_NUM_THREADS": "",
}
"""Variables that limit threads, and what threadpoolctl calls their library, if it knows it."""
_BRINGERS: Final = ("numpy", "torch")
"""Packages without which no such library is loaded."""

_taken = 0  # by which process
_limited = 0  # threads, in this process or the one that it is a copy of


class Place(NamedTuple):
    """What one worker is told of the machine."""

    environment: dict[str, str]  # variables to set
    threads: int = 0  # of each library whose variable is among them; 0: it is left alone
    exactly: bool = False  # also where it uses fewer
    cpus: frozenset[int] | None = None  # to run on
    usable: int = 1  # CPUs that the program and its workers may use
    descriptors: int = 0  # that it may have open; 0: as many as its parent


def take(place: Place) -> None:
    """Take the place. Raises OSError where the CPUs are no longer to be had."""
    global _taken
    if _taken == os.getpid():
        return
    _taken = os.getpid()
    if place.cpus is not None:
        os.sched_setaffinity(0, place.cpus)
    os.environ.update(place.environment)
    cpus.of_thread.set(None)  # a copy made in a thread's task has that thread's
    limit(place)
    _seed()


def limit_descriptors(place: Place) -> None:
    """Have the program's own limit. After what the worker itself needs was opened: a copy of the program has all
    open that the program has.
    """
    if place.descriptors:
        from millpond.system import descriptors

        descriptors.limit(place.descriptors)


def forget_handler() -> None:
    """A handler of the program's for SIGTERM does not run here, where that ends a worker; one that the
    initializer sets does."""
    if callable(signal.getsignal(signal.SIGTERM)):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def without_threads(place: Place) -> Place:
    """The same, for a worker whose libraries are limited later: OpenBLAS starts its threads when it is told
    how many, and in a worker with a sandbox that has to be inside it."""
    return place._replace(threads=0)


def limit(place: Place) -> None:
    """Limit the threads of libraries that are loaded; a copy of this process need not do it again.

    OpenBLAS starts its threads when it is told how many; those end with the next fork.
    """
    global _limited
    if place.threads in (0, _limited):
        return
    wanted = {LIBRARIES.get(name) for name in place.environment}
    for library in libraries():
        _limited = place.threads
        if library.internal_api in wanted and (
            place.exactly or library.num_threads > place.threads
        ):
            library.set_num_threads(place.threads)


def libraries() -> list[Any]:
    """Those that are loaded, as threadpoolctl has them; none where that is not installed.

    Costs 7 ms at first, and 1 ms again, in a copy of this process too.
    """
    if not any(name in sys.modules for name in _BRINGERS):
        return []
    try:
        import importlib
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it thinks of them need not be told by us
            found: list[Any] = (
                importlib.import_module("threadpoolctl").ThreadpoolController().lib_controllers
            )
        return found
    except Exception:
        return []  # not installed, or baffled by a library


def _seed() -> None:
    """NumPy's global generator is copied by a fork; Python's own seeds itself anew."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed([*os.urandom(16)])
