"""A descriptor that any thread, or a signal handler, can make readable."""

from __future__ import annotations

import os


class Bell:
    """Rung by ``ring``, heard by polling ``fileno()``, silenced by ``hush``.

    Closed when nobody refers to it any more, never before: a late ring must not write to a descriptor that
    has been given to somebody else.
    """

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._read = self._write = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._read, self._write = os.pipe()
            os.set_blocking(self._read, False)
            os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        try:
            os.write(self._write, b"\1\0\0\0\0\0\0\0")
        except BlockingIOError:
            pass  # it has been rung often enough

    def hush(self) -> None:
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass

    def __del__(self) -> None:
        os.close(self._read)
        if self._write != self._read:
            os.close(self._write)
