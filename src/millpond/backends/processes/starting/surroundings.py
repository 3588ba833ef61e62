"""What a child has from its parent by being forked by it, where a server forks it instead.

The working directory, ``sys.argv`` and ``sys.path`` travel with multiprocessing's preparation data;
here are the environment, umask, signal mask, CPU affinity, priority and resource limits.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Any

from millpond.backends.processes.starting import interruptions

_LIMITS = [number for name, number in sorted(vars(resource).items()) if name.startswith("RLIMIT_")]


def take(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """This process's surroundings, and the calling thread's signal mask; ``environment``: instead of its own."""
    environ = dict(os.environb)
    if environment is not None:
        environ = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
    return {
        "environ": environ,
        "umask": _umask(),
        "mask": set(map(int, interruptions.mask())),
        "affinity": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": {number: resource.getrlimit(number) for number in _LIMITS},
    }


def put(wanted: dict[str, Any]) -> None:
    """Give them to this process; what needs a privilege that is missing stays as it is."""
    have = take()
    if wanted["environ"] != have["environ"]:
        _set_environment(wanted["environ"], have["environ"])
    if wanted["umask"] is not None:
        os.umask(wanted["umask"])
    if wanted["affinity"] is not None and wanted["affinity"] != have["affinity"]:
        _try(os.sched_setaffinity, 0, wanted["affinity"])
    if wanted["priority"] != have["priority"]:
        _try(os.setpriority, os.PRIO_PROCESS, 0, wanted["priority"])
    for number, limit in wanted["limits"].items():
        if limit != have["limits"].get(number):
            _try(resource.setrlimit, number, limit)


def _set_environment(wanted: dict[bytes, bytes], have: dict[bytes, bytes]) -> None:
    for name in have.keys() - wanted.keys():
        del os.environb[name]
    for name, value in wanted.items():
        if have.get(name) != value:
            os.environb[name] = value


def _umask() -> int | None:
    """Read without setting it, which other threads would notice."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return None


def _try(change: Any, *args: Any) -> None:
    try:
        change(*args)
    except (OSError, ValueError):
        pass
