"""What a MemoryError does not say: how much memory the process may have, and how much of it it has."""

from __future__ import annotations

import os
import resource

from millpond.worker import raised


def told() -> str:
    """The limit and the usage in words; "" if the process has no limit of its own."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    with open("/proc/self/statm", "rb") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    return f"its worker may have {limit >> 20} MiB of address space (RLIMIT_AS), and has {used >> 20} MiB"


def note(exception: BaseException) -> None:
    """Add that to an error for want of memory."""
    try:
        said = told()
        if said:
            raised.add_note(exception, said)
    except (OSError, MemoryError, AttributeError):
        pass  # there is no /proc, or no memory for this either
