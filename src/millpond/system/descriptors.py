"""The soft limit of open descriptors, which is often 1,024 though many more are allowed.

Rules: it is raised only where a pool needs more than there is, by what that needs, and never beyond the hard one;
what is started for the user's code gets the limit that the program had; a limit that the program has set since
is the program's.
"""

from __future__ import annotations

import os
import resource

_FOR_A_WORKER = 8
"""Descriptors that its parent has for it: its channel, its end, its slate, its results and their mappings."""
_SPARE = 64
_USUAL = 256
"""Open descriptors, where nobody says how many there are."""

_own = 0
_raised = 0


def own_limit() -> int | None:
    """The soft limit that the program had, where it was raised for a pool."""
    return _own if _raised and resource.getrlimit(resource.RLIMIT_NOFILE)[0] == _raised else None


def provide(workers: int) -> None:
    """See to it that a pool of so many workers can be made, if the system allows it."""
    global _own, _raised
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY, hard) or workers * _FOR_A_WORKER + _SPARE < soft // 2:
        return
    needed = workers * _FOR_A_WORKER + _SPARE + _open()
    if needed <= soft:
        return
    before = own_limit()
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return  # then it may still do
    _own, _raised = soft if before is None else before, wanted


def _open() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return _USUAL


def limit(soft: int) -> None:
    """In a worker: have the limit that the program had."""
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    except (OSError, ValueError):
        pass
