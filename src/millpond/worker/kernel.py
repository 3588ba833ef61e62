"""System calls that Python has no function for, by their numbers; only sandboxed workers load this."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from typing import Any, Final

PR_GET_SECCOMP: Final = 21
PR_SET_NO_NEW_PRIVS: Final = 38
PR_GET_NO_NEW_PRIVS: Final = 39

_CAPABILITY_VERSION: Final = 0x20080522
_CAP_DAC_OVERRIDE: Final = 1
_CAPGET, _CAPSET = {"x86_64": (125, 126), "aarch64": (90, 91)}.get(platform.machine(), (0, 0))

_libc: Any = None


def _loaded() -> Any:
    global _libc
    if sys.platform != "linux":
        raise OSError(38, f"not on {sys.platform}")
    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
        _libc.syscall.restype = ctypes.c_long
    return _libc


def call(number: int, *arguments: Any) -> int:
    """A system call. Raises OSError."""
    widened = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_loaded().syscall(ctypes.c_long(number), *widened))


def prctl(option: int, *arguments: int) -> int:
    """``prctl(2)``. Raises OSError."""
    four = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_loaded().prctl(option, *four))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def drop_capabilities() -> None:
    """Give up what a process run by root may do beyond others, but for reading files of theirs.

    Landlock says which files those are; a folder of somebody else's would else be no use to a root program.
    """
    if not _CAPGET:
        raise OSError(38, f"not known on {platform.machine()}")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (
        ctypes.c_uint32 * 6
    )()  # effective, permitted, inheritable: the low words, then the high ones
    call(_CAPGET, header, sets)
    kept = sets[1] & (1 << _CAP_DAC_OVERRIDE)
    sets[:] = [sets[0] & kept, kept, 0, 0, 0, 0]
    call(_CAPSET, header, sets)
