"""Which calls this system has refused so far, and what its programs do without.

A container's seccomp profile answers with EPERM, an older kernel with ENOSYS. A call is tried each time: the
first refusal costs no more than the later ones, and a process that is forked has nothing to be told.
"""

from __future__ import annotations

import errno
import os
import sys

_REFUSED = (errno.ENOSYS, errno.EPERM)

_FOLDERS = {
    "/proc/self": (os.R_OK, "what waits behind a long task is not given to another worker"),
    "/dev/shm": (os.W_OK, "multiprocessing's own locks and queues cannot be made"),
}
"""What is there on every Linux, unless a container leaves it out, and what cannot be done without."""

_instead: dict[str, str] = {}


def is_refusal(error: OSError) -> bool:
    """Whether the system does not have the call, or does not allow it to anybody."""
    return error.errno in _REFUSED


def note(call: str, instead: str) -> None:
    """The call was refused; what is done ``instead``, and what that costs."""
    _instead.setdefault(call, instead)


def missing() -> str:
    """One line: what this system does not have or refused, with what is done without each; "" if it has all."""
    folders = _FOLDERS if sys.platform == "linux" else {}
    absent = {path: lost for path, (how, lost) in folders.items() if not os.access(path, how)}
    found = sorted({**_instead, **absent}.items())
    return "; ".join(f"no {what}: {instead}" for what, instead in found)
