"""Processes that may only run so long: one thread kills those that are late.

    Process.start()      watch(popen, 2.5), which gives the Popen its Deadline
    the thread           sleeps until the first limit is over, a watched process ends, or one is added
    Process.result()     asks the Deadline whether it has ``passed``

Rules: the thread lives while there is something to watch and wakes for nothing else; a deadline has a
descriptor of its own for its process, so that neither a process that was closed meanwhile nor a pid
that was used again is ever hit, and knows no Process object; after a fork the copy watches nothing.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

from millpond.backends.processes.bell import Bell
from millpond.backends.processes.starting.popen import close_all, wait_readable
from millpond.system import ends

if TYPE_CHECKING:
    from millpond.backends.processes.starting.popen import Popen

_LONGEST_POLL = 1e6
"""Seconds; what ``poll`` takes has an end."""


class Deadline:
    """One process's: ``seconds`` from now on. ``passed`` says that it was killed, or was about to be."""

    def __init__(self, popen: Popen, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self.at = time.monotonic() + seconds
        # Not 0, 1 or 2, even where the program has closed those.
        self.fd = fcntl.fcntl(popen.sentinel, fcntl.F_DUPFD_CLOEXEC, 3)
        self._pid = popen.pid

    def kill(self) -> None:
        """End the process; native code and a stopped process are no obstacle."""
        self.passed = True  # before whoever waits for its end can ask
        try:
            if ends.is_pidfd(self.fd) or not wait_readable(self.fd, 0):
                ends.send_signal(self.fd, self._pid, signal.SIGKILL)
        except OSError:
            pass  # it has just ended, or runs a program that is another user's


class Watch:
    """The deadlines of this process, and the thread that sees to them."""

    def __init__(self) -> None:
        # Re-entrant: the garbage collector may run what starts another process.
        self._lock = threading.RLock()
        self._deadlines: set[Deadline] = set()
        self._bell: Bell | None = None  # the thread's, while there is one

    def add(self, deadline: Deadline) -> None:
        """See to this one, too. Raises RuntimeError where no thread can be started."""
        with self._lock:
            self._deadlines.add(deadline)
            if self._bell is not None:
                self._bell.ring()
                return
            try:
                self._bell = bell = Bell()
                threading.Thread(
                    target=self._keep, args=(bell,), name="millpond-deadlines", daemon=True
                ).start()
            except BaseException:
                self._forget(deadline)
                self._retire(self._bell)
                raise

    def let_go(self) -> None:
        """In a forked copy of this process: the deadlines are the original's."""
        close_all(*(deadline.fd for deadline in self._deadlines))
        if self._bell is not None:
            close_all(self._bell._read, self._bell._write)  # its lock may be held for ever here

    def _keep(self, bell: Bell) -> None:
        """The thread's life."""
        while True:
            with self._lock:
                watched = list(self._deadlines)
                if not watched:
                    self._retire(bell)
                    return
            ended = _wait(bell, watched)
            now = time.monotonic()
            for deadline in watched:
                if deadline.fd not in ended:
                    if now < deadline.at:
                        continue
                    deadline.kill()
                self._forget(deadline)

    def _forget(self, deadline: Deadline) -> None:
        self._deadlines.discard(deadline)  # first: a copy that is forked now closes what is in it
        os.close(deadline.fd)

    def _retire(self, bell: Bell | None) -> None:
        if self._bell is bell:
            self._bell = None
        if bell is not None:
            bell.close()


def _wait(bell: Bell, watched: list[Deadline]) -> set[int]:
    """Until the first deadline, a process's end or the bell; the descriptors of what has ended."""
    poll = select.poll()
    poll.register(bell.fileno(), select.POLLIN)
    for deadline in watched:
        poll.register(deadline.fd, select.POLLIN)
    left = min(deadline.at for deadline in watched) - time.monotonic()
    ended = {fd for fd, _ in poll.poll(min(max(left, 0.0), _LONGEST_POLL) * 1000.0)}
    bell.hush()
    return ended


_watch = Watch()


def watch(popen: Popen, seconds: float) -> None:
    """Have a child that was just started killed if it runs for longer than ``seconds`` from now on.

    If that cannot be seen to, the child is ended and the error raised.
    """
    try:
        popen.deadline = Deadline(popen, seconds)
        _watch.add(popen.deadline)
    except BaseException:
        popen.kill()
        popen.wait()
        popen.close()
        raise


def _in_child() -> None:
    global _watch
    old, _watch = _watch, Watch()
    old.let_go()


os.register_at_fork(after_in_child=_in_child)
