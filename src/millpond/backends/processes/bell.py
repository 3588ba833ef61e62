"""A descriptor that any thread, or a signal handler, can make readable."""

from __future__ import annotations

import os
import threading

from millpond.system import wakeups


class Bell:
    """Rung by ``ring``, heard by polling ``fileno()``, silenced by ``hush``.

    A late ring must not write to a descriptor that was closed and given to somebody else: hence the lock. It
    may be taken again by its own thread, since signal handlers and ``__del__`` ring too.
    """

    def __init__(self) -> None:
        self._open = threading.RLock()
        self._read, self._write = wakeups.pair()

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        with self._open:
            if self._write >= 0:
                try:
                    os.write(self._write, b"\1\0\0\0\0\0\0\0")
                except BlockingIOError:
                    pass  # it has been rung often enough

    def hush(self) -> None:
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Nobody polls any more; rings from now on are not heard."""
        with self._open:
            ends, self._read, self._write = {self._read, self._write}, -1, -1
        for fd in ends - {-1}:
            os.close(fd)
