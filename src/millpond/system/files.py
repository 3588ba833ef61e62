"""Files without a name, in memory where the system can: shared between processes by their descriptors.

Linux            memfd_create, sealed where a file must not be cut off
anywhere else    a file in /dev/shm, or where temporary files are, unlinked at once; nothing seals it
"""

from __future__ import annotations

import fcntl
import os

from millpond.system import refusals

_FOLDER = "/dev/shm"

SHRINK: int = getattr(fcntl, "F_SEAL_SHRINK", 0)
FIXED: int = SHRINK | getattr(fcntl, "F_SEAL_GROW", 0) | getattr(fcntl, "F_SEAL_SEAL", 0)
"""Seals: the file does not become smaller; its size is as it is for ever."""


def unnamed_file(label: str, size: int = 0, seals: int = 0) -> int:
    """A descriptor, none of 0 to 2, of a file of ``size`` bytes. Raises OSError."""
    fd = private(_open(label))
    try:
        if size:
            _stretch(fd, size)
        if seals:
            _seal(fd, seals)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open(label: str) -> int:
    maker = getattr(os, "memfd_create", None)
    try:
        if maker is not None:
            fd: int = maker(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            return fd
    except OSError as error:
        if not refusals.is_refusal(error):
            raise
    import tempfile

    try:
        fd, path = tempfile.mkstemp(prefix=label, dir=_FOLDER)
    except OSError:
        fd, path = tempfile.mkstemp(prefix=label)
    os.unlink(path)
    folder = os.path.dirname(path)
    refusals.note("memfd_create", f"memory that is shared lies in unlinked files of {folder}")
    return fd


def _stretch(fd: int, size: int) -> None:
    """Give the file its size, and its pages where it may lie on a disk: one that is not to be had is a SIGBUS."""
    try:
        os.ftruncate(fd, size)
        if not _is_sealable(fd):
            os.posix_fallocate(fd, 0, size)
    except OSError as error:
        raise explained(error, size) from None


def _seals(fd: int) -> int | None:
    """The seals of the file; None where it, or the system, can have none."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except (OSError, AttributeError):
        return None


def _is_sealable(fd: int) -> bool:
    seals = _seals(fd)
    return seals is not None and not seals & fcntl.F_SEAL_SEAL


def is_sealed(fd: int) -> bool:
    """Whether nobody can make the file smaller."""
    return bool((_seals(fd) or 0) & SHRINK)


def _seal(fd: int, seals: int) -> None:
    if _is_sealable(fd):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def explained(error: OSError, size: int) -> OSError:
    """The error of a file that may not be so large, with the limit that says so."""
    import errno

    if error.errno != errno.EFBIG:
        return error
    import resource

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return OSError(
        errno.EFBIG,
        f"{os.strerror(errno.EFBIG)}: one of {size} bytes is needed, and files may have {limit}"
        f" (RLIMIT_FSIZE, ulimit -f); raise that limit to {-(-size // 1024)} KiB or more",
    )


def private(fd: int) -> int:
    """The same file under a number that is not of standard input or output, where the program has closed those."""
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)
