"""What a parent holds of a child: its pid, a descriptor that shows its end, its exit status.

Rules: the end of a child is seen by a descriptor that shows that alone (``ends``), never by EOF (grandchildren
hold pipes) and never by ``waitpid`` alone (somebody else may reap, SIGCHLD may be ignored); a status that
cannot be had is 255 with ``exit_unknown`` set, as the standard library does when its fork server is gone;
nothing here waits without the caller's timeout, except where the caller gave none.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from millpond import amounts
from millpond.backends.processes.starting import standard
from millpond.system import ends, leash

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from millpond.backends.processes.deadlines import Deadline

UNKNOWN = 255
"""The exit code of a child whose status nobody can tell any more."""

_LONGEST_POLL = 3600.0

_EXIT_GRACE = 0.8
"""Seconds between SIGTERM and SIGKILL for a daemonic child of an exiting interpreter."""


def wait_readable(fd: int, timeout: float | None) -> bool:
    """Wait until ``fd`` is readable or hung up, at most ``timeout`` seconds (None: for ever)."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if timeout is None:
        return bool(poll.poll())
    deadline = time.monotonic() + timeout
    while True:
        left = max(0.0, deadline - time.monotonic())
        if poll.poll(min(left, _LONGEST_POLL) * 1000.0):
            return True
        if left <= _LONGEST_POLL:
            return False


def close_all(*fds: int, _close: Callable[[int], None] = os.close) -> None:
    """Close each descriptor, whatever became of it; also when the interpreter has cleared this module."""
    for fd in fds:
        try:
            _close(fd)
        except OSError:
            pass


class Popen:
    """One started child. The subclasses say how it is started, and how its status is learned."""

    method = "fork"
    pid: int
    sentinel: int

    def __init__(self, process_obj: BaseProcess) -> None:
        standard.util._flush_std_streams()
        self.returncode: int | None = None
        self.exit_unknown = False
        self.finalizer: Any = None
        self.deadline: Deadline | None = None  # where it may only run so long
        self._owner = os.getpid()
        # Re-entrant: a signal handler that asks for the exit code may interrupt the reaping.
        self._lock = threading.RLock()
        self._told: deque[Any] = deque(maxlen=1)  # what the kernel said of the end
        self._daemonic = bool(process_obj.daemon)
        self._terminated_at: float | None = None
        self._launch(process_obj)

    def _launch(self, process_obj: BaseProcess) -> None:
        """Start the child."""
        raise NotImplementedError

    def _reap(self) -> None:
        """Learn the exit status if the child has ended; never blocks."""
        raise NotImplementedError

    # --- the end of the child ---

    def _close_at_end(self, *fds: int) -> None:
        self.finalizer = standard.util.Finalize(self, close_all, fds)

    def _lost(self) -> None:
        self.returncode = UNKNOWN
        self.exit_unknown = True

    def _settle(self, status: int) -> None:
        self.returncode = status
        self.exit_unknown = False

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or None while it runs (always None in a forked copy of the parent)."""
        if self.returncode is None and self._owner == os.getpid():
            if flag == os.WNOHANG:
                self._reap()
            else:
                self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait at most ``timeout`` seconds for the end; the exit code, or None."""
        timeout = amounts.patience(timeout)
        if self._owner != os.getpid():
            return self.returncode
        while self.returncode is None:
            if timeout is None and self._is_overdue_at_exit():
                self.kill()
            if not wait_readable(self.sentinel, timeout):
                return None
            self._reap()
        return self.returncode

    def _is_overdue_at_exit(self) -> bool:
        """Whether the exiting interpreter told this daemonic child to end, and it will not.

        multiprocessing would wait for it for ever.
        """
        if not (self._daemonic and self._terminated_at and standard.util.is_exiting()):
            return False
        grace = self._terminated_at + _EXIT_GRACE - time.monotonic()
        return not wait_readable(self.sentinel, max(0.0, grace))

    # --- signals ---

    def _send_signal(self, sig: int) -> None:
        if self.returncode is not None:
            return
        try:
            if ends.is_pidfd(self.sentinel) or not wait_readable(self.sentinel, 0):
                ends.send_signal(self.sentinel, self.pid, sig)
        except ProcessLookupError:
            pass
        except PermissionError:
            # This program has changed its user, or the child has.
            if not self._forbidden(sig) and self.wait(timeout=0.1) is None:
                raise
        except OSError:
            if self.wait(timeout=0.1) is None:
                raise

    def _forbidden(self, sig: int) -> bool:
        """Another way to send a signal that this program may not send; whether there is one."""
        return False

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._terminated_at = time.monotonic()
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Give back the descriptors."""
        if self.finalizer is not None:
            self.finalizer()


class OwnChild(Popen):
    """A child of this very process: its status is the kernel's to tell."""

    _by_pid = False
    _leash: leash.Leash | None = None

    def _bind(self, bound: bool) -> int:
        """The end of a leash for the child, if it is bound to this process; else -1."""
        if not bound:
            return -1
        self._leash = leash.Leash()
        # Also of a start that fails.
        weakref.finalize(self, self._leash.let_go).atexit = False
        return self._leash.end

    def _forbidden(self, sig: int) -> bool:
        if sig != signal.SIGKILL or self._leash is None:
            return False
        self._leash.let_go()
        return True

    def _watch(self) -> None:
        """Take a sentinel for ``self.pid``, just started by this process."""
        try:
            self.sentinel = ends.of_child(self.pid)
        except ProcessLookupError:
            self._lost()
            self.sentinel = _hung_up()
        except OSError:
            self._discard()
            raise
        self._close_at_end(self.sentinel)
        if self._leash is not None:
            self._leash.give()

    def _discard(self) -> None:
        """The child exists but cannot be watched: end it rather than lose it."""
        os.kill(self.pid, signal.SIGKILL)
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass

    def _reap(self) -> None:
        """Learn the exit status if the child has ended; never blocks."""
        with self._lock:
            if self.returncode is not None:
                return
            try:
                status = self._ask_kernel()
            except ChildProcessError:
                status = None  # reaped by somebody else, or SIGCHLD is ignored
            if status is not None:
                self._settle(status)
            elif wait_readable(self.sentinel, 0):
                # It has ended all the same; or a debugger learns the status first.
                self._again_or_lost()

    def _again_or_lost(self) -> None:
        try:
            status = self._ask_kernel()  # it may have ended since it was asked
        except ChildProcessError:
            status = None
        self._lost() if status is None else self._settle(status)

    def _ask_kernel(self) -> int | None:
        # One call from C to C: the kernel says it once, so no signal handler may come between.
        if not any(self._told):
            try:
                self._told.extend(map(os.waitid, *self._whom, (os.WEXITED | os.WNOHANG,)))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._by_pid = True  # a kernel with pidfds that cannot be waited for
                return self._ask_kernel()
        ended = self._told[-1]
        return None if ended is None else _status(ended)

    @property
    def _whom(self) -> tuple[tuple[int], tuple[int]]:
        if self._by_pid or not ends.is_pidfd(self.sentinel):
            return (os.P_PID,), (self.pid,)
        return (os.P_PIDFD,), (self.sentinel,)


def _status(ended: os.waitid_result) -> int:
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _hung_up() -> int:
    """A descriptor that is readable at once: the child's end has been seen already."""
    reader, writer = os.pipe()
    os.close(writer)
    return reader
