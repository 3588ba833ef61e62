"""Where the driver and the caretaker wait: for channels, for workers' ends, and to be rung for."""

from __future__ import annotations

import select
from collections.abc import Callable
from time import monotonic_ns

from millpond.backends.processes.bell import Bell

_AGAIN = 50
"""Milliseconds after which the caretaker looks for dead workers again that another thread should see to."""


_BRISK = 100_000
"""Nanoseconds for which something that is due at once is looked for without sleeping."""


class Lookout:
    """Descriptors, and what to do when one of them has something."""

    def __init__(self) -> None:
        self._acts: dict[int, Callable[[int], None]] = {}
        self._epoll = select.epoll()
        self._ends = select.epoll()  # of workers, alone, for the caretaker
        self._bell = Bell()  # ends a poll
        try:
            self._gong = Bell()  # ends the caretaker's rest
        except OSError:
            self._bell.close()
            raise
        self.watch(self._bell.fileno(), lambda _: self._bell.hush())

    def watch(self, fd: int, act: Callable[[int], None], *, end: bool = False) -> None:
        """Call ``act(events)`` in ``poll`` when ``fd`` is readable; ``end``: that is a worker's end."""
        self._acts[fd] = act
        self._epoll.register(fd, select.EPOLLIN)
        if end:
            self._ends.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int, *, end: bool = False) -> None:
        """No more of it."""
        if self._acts.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            if end:
                self._ends.unregister(fd)

    def want_room(self, fd: int, wanted: bool) -> None:
        """Whether to call when ``fd`` takes more, too."""
        if fd in self._acts:  # a worker that sends what is no frame is not listened to any more
            self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def poll(self, timeout: float | None, brisk: bool = False) -> None:
        """Wait until something happens, at most so many seconds, and do what is to be done about it."""
        for fd, events in self._look_out(timeout) if brisk else self._epoll.poll(timeout):
            act = self._acts.get(fd)
            if act is not None:
                act(events)

    def _look_out(self, timeout: float | None) -> list[tuple[int, int]]:
        """Look again and again for a moment, since being woken takes longer than that; then sleep."""
        look = self._epoll.poll
        limit = monotonic_ns() + _BRISK
        while monotonic_ns() < limit:
            found = look(0)
            if found:
                return found
        return look(timeout)

    def close(self) -> None:
        """No more polls."""
        self._acts.clear()
        self._epoll.close()
        self._ends.close()

    # The bells ------------------------------------------------------------------------------------

    def wake(self) -> None:
        self._bell.ring()

    def rest(self, contended: bool) -> None:
        """Block until ``rouse`` is called or a worker ends; the caretaker's way to have nothing to do.

        ``contended``: another thread is at it already, so that a worker's end is seen to.
        """
        poll = select.poll()
        poll.register(self._gong.fileno(), select.POLLIN)
        if contended:
            poll.poll(_AGAIN)
        elif not self._ends.closed:
            poll.register(self._ends.fileno(), select.POLLIN)
            poll.poll()
        self._gong.hush()

    def rouse(self) -> None:
        self._gong.ring()

    def release(self) -> None:
        self._bell.close()
        self._gong.close()
