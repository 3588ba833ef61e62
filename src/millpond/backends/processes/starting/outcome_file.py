"""Where a Process leaves what it returned: an unnamed file in memory that both sides hold.

Rules: made before the start, so nobody needs to read for the child to end, whatever the size; an
outcome counts only once its last byte is there (the length, at the front, is written last); the
file has no name, a copy of it that a fork left in another process is closed there.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from collections.abc import Callable

from millpond.system.files import explained, unnamed_file

_HEADER = struct.Struct("<8sQ")
_WHOLE = b"millpond"
_ONE_CALL = 1 << 30  # the kernel moves at most 2 GiB a call

_open_here: set[int] = set()
_handed_on = threading.local()


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``."""
    view = memoryview(data)
    while view:
        try:
            written = os.pwrite(fd, view[:_ONE_CALL], offset)
        except OSError as error:
            raise explained(error, offset + len(view)) from None
        view = view[written:]
        offset += written


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read ``size`` bytes from ``offset`` (fewer when the file is shorter)."""
    if size <= _ONE_CALL:
        return os.pread(fd, size, offset)
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(fd, min(size, _ONE_CALL), offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)


class OutcomeFile:
    """The parent makes it, the child writes it once, the parent reads what is in it."""

    fd: int | None = None

    def __init__(self, fd: int | None = None) -> None:
        own = unnamed_file("millpond-outcome") if fd is None else fd
        self.fd = own
        self._writer = 0
        self._identity = (0, 0)
        _open_here.add(own)

    def write(self, *parts: bytes | memoryview) -> None:
        """Leave an outcome; only its process may, not a copy that the process forked.

        Raises OSError where the user's code closed the file, or has another under its number.
        """
        if self.fd is None or self._writer != os.getpid():
            return
        if _identity(self.fd) != self._identity:
            raise OSError("the file for the outcome was closed")
        at = _HEADER.size
        for part in parts:
            write_at(self.fd, part, at)
            at += len(part)
        write_at(self.fd, _HEADER.pack(_WHOLE, at - _HEADER.size), 0)

    def read(self) -> bytes | None:
        """What the child left, or None where it left nothing whole."""
        if self.fd is None:
            return None
        header = os.pread(self.fd, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            return None
        mark, size = _HEADER.unpack(header)
        outcome = read_at(self.fd, size, _HEADER.size)
        return outcome if mark == _WHOLE and len(outcome) == size else None

    def adopt(self) -> None:
        """In the child: the file is ours to write."""
        self._writer = os.getpid()
        if self.fd is not None:
            self._identity = _identity(self.fd)
        self.keep_across_fork(False)

    def keep_across_fork(self, keep: bool) -> None:
        """This thread's next fork is the child that the file is for."""
        _handed_on.fd = self.fd if keep else None

    def close(self) -> None:
        """Give the file back; the second time it does nothing."""
        fd, self.fd = self.fd, None
        if fd is not None and fd in _open_here:
            _open_here.discard(fd)
            os.close(fd)

    def __del__(self, _over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _over():  # then this module may have been cleared, and the kernel closes the file
            self.close()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # It travels as a descriptor of its own, beside the process that it belongs to.
        return type(None), ()


def _identity(fd: int) -> tuple[int, int]:
    about = os.fstat(fd)
    return about.st_dev, about.st_ino


def _close_copies() -> None:
    kept = getattr(_handed_on, "fd", None)
    for fd in _open_here:
        if fd != kept:
            try:
                os.close(fd)
            except OSError:
                pass
    _open_here.intersection_update({kept})


os.register_at_fork(after_in_child=_close_copies)
