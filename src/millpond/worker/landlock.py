"""Landlock: from here on this thread, and what it starts, may use these paths and no others.

Rules: what the running kernel's version of it can restrict is restricted; paths are opened by who applies it, so a
name that is a symbolic link is what it leads to; a thread that was started before is not covered.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Sequence
from typing import Final

from millpond.worker import kernel

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every architecture
_VERSION: Final = 1
_PATH_BENEATH: Final = 1

# Rights to files and folders, in the order of their bits.
(
    _EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE, _MAKE_CHAR, _MAKE_DIR,
    _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM, _REFER, _TRUNCATE, _IOCTL_DEV,
) = (1 << bit for bit in range(16))  # fmt: skip
_OF_A_FILE: Final = _WRITE_FILE | _READ_FILE | _TRUNCATE
READ: Final = _READ_FILE | _READ_DIR
# No links, devices, sockets or pipes: a program that reads the folder later might follow them.
WRITE: Final = (
    READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)

ABSENT: Final = "the kernel has no Landlock, or it is not enabled"

_TCP: Final = 0b11  # bind, connect
_SCOPED: Final = 0b11  # abstract unix sockets, signals: not beyond this sandbox


def version() -> int:
    """Of the running kernel's Landlock; 0 where there is none."""
    try:
        return kernel.call(_CREATE, None, 0, _VERSION)
    except OSError:
        return 0


def restrict(read: Sequence[str], write: Sequence[str]) -> int:
    """Apply it; the version. Raises OSError; a path that does not exist is the caller's mistake."""
    have = version()
    if not have:
        raise OSError(errno.ENOSYS, ABSENT)
    known = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(have, 16)) - 1
    attributes = struct.pack("=QQQ", known, _TCP if have >= 4 else 0, _SCOPED if have >= 6 else 0)
    size = 24 if have >= 6 else 16 if have >= 4 else 8
    rules = kernel.call(_CREATE, attributes, size, 0)
    try:
        for path in read:
            _allow(rules, path, READ & known)
        for path in write:
            _allow(rules, path, WRITE & known)
        kernel.call(_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return have


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except PermissionError:
        return  # it is out of reach already
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        kernel.call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, fd), 0)
    finally:
        os.close(fd)
