"""A server process that forks children on request: its parent's side.

``Nursery.fork(inherited)`` is a copy of this process as it is now, single-threaded from here on: its
children see the globals of now, and objects in ``inherited`` need no pickling. ``Nursery.exec()`` is a
fresh interpreter that has imported what this process has: the fork server.

    nursery = Nursery.fork({"initializer": initializer})
    process._server = nursery           # any millpond Process, before its start()
    process.start()

Rules: requests are serialised by one lock, which any thread may take, and bounded in time; what the
server says is captured in one step, so an exception from a signal handler loses nothing; a start that
was given up leaves no child behind; a forked copy of this process closes its end and asks nothing.
"""

from __future__ import annotations

import array
import itertools
import os
import signal
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from multiprocessing import util
from typing import Any, Protocol

from millpond.backends.processes.starting import births, payload, server
from millpond.backends.processes.starting.popen import close_all, wait_readable

PATIENCE = 30
"""Seconds without a sign of life after which a start is given up."""

_ANSWER_SPACE = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
_here: weakref.WeakSet[Nursery] = weakref.WeakSet()


class NurseryError(OSError):
    """The server that forks processes has ended, or does not answer."""


class Child(Protocol):
    """What asks for a child, and is told of it."""

    def born(self, pid: int, pidfd: int) -> None: ...

    def ended(self, status: int) -> None: ...


class Nursery:
    """One such server. ``names`` says what its children have already."""

    def __init__(self, birth: births.Birth, inherited: Mapping[str, object] | None) -> None:
        self.pid = birth.pid
        self.inherited = inherited
        self.names = None if inherited is None else {id(v): n for n, v in inherited.items()}
        self._control = birth.control
        self._pidfd = birth.pidfd
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._inbox: deque[Any] = deque()
        self._asked: dict[int, Child] = {}
        self._children: weakref.WeakValueDictionary[int, Child] = weakref.WeakValueDictionary()
        # Last of all at exit: what multiprocessing joins there must still be told of.
        self._finalizer = util.Finalize(self, births.end, (birth,), exitpriority=-100)
        _here.add(self)

    @classmethod
    def fork(cls, inherited: Mapping[str, object]) -> Nursery:
        """A copy of this process as it is now."""
        return cls(births.fork(inherited), inherited)

    @classmethod
    def exec(cls, preload: Sequence[str] | None = None) -> Nursery:
        """A fresh interpreter; ``preload`` are modules that it imports (default: as this process)."""
        return cls(births.execute(preload), None)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def alive(self) -> bool:
        """Whether the server runs."""
        return self._control.fileno() >= 0 and not wait_readable(self._pidfd, 0)

    def start(self, child: Child, payload_fd: int, fds: Sequence[int], bound: bool) -> None:
        """Have ``child`` forked; it is told before this returns. Raises NurseryError."""
        if len(fds) >= server.MOST_FDS:
            raise ValueError("too many fds")
        if not self._lock.acquire(timeout=PATIENCE):
            raise self._silent()
        number = next(self._numbers)
        try:
            self._asked[number] = child
            self._send(server.REQUEST.pack(number, len(fds) + 1, bound), [payload_fd, *fds])
            self._await(lambda: number not in self._asked, PATIENCE)
        except BaseException:
            if self._asked.pop(number, None) is not None:
                payload.give_up(payload_fd)
            raise
        finally:
            self._lock.release()

    def learn_end(self, child: Child, known: Any, patience: float = 5.0) -> None:
        """Read what the server says until ``known()``; ``child``'s pidfd says already that it ended."""
        if not self._lock.acquire(timeout=patience):
            return
        try:
            self._await(known, patience)
        except OSError:
            pass
        finally:
            self._lock.release()

    def retire(self) -> None:
        """Take no more requests; the server ends once its children have."""
        try:
            self._control.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        """End the server and the children that are bound to this process; bounded."""
        if self._lock.acquire(timeout=1):
            try:
                self._send(server.REQUEST.pack(server.END, 0, 0), [])
                self._await(lambda: False, 1)  # until it hangs up: how its children ended
            except OSError:
                pass
            finally:
                self._lock.release()
        self._finalizer()

    # --- the conversation ---

    def _send(self, data: bytes, fds: list[int]) -> None:
        if self._control.fileno() < 0:
            raise self._gone()
        try:
            socket.send_fds(self._control, [data], fds) if fds else self._control.send(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._gone() from error

    def _await(self, done: Any, patience: float) -> None:
        """Handle what comes until ``done()``, as long as there are signs of life."""
        # Counted in slices, not by the clock: a program that was stopped and goes on has lost only one.
        slices = left = max(1, round(patience * 10))
        while not self._handle_all() and not done():
            if self._control.fileno() < 0:
                raise self._gone()
            if wait_readable(self._control.fileno(), 0.1):
                if not self._receive():
                    if self._handle_all() or not done():
                        raise self._gone()
                    return
                left = slices
            else:
                left -= 1
                if left == 0:
                    raise self._silent()

    def _receive(self) -> bool:
        """Take one answer off the socket; False at its end."""
        try:
            # One call from C to C: no signal handler runs between reading and keeping.
            self._inbox.extend(
                map(self._control.recvmsg, (server.ANSWER.size,), (_ANSWER_SPACE,), (_FLAGS,))
            )
        except ConnectionResetError:
            return False
        return bool(self._inbox[-1][0])

    def _handle_all(self) -> bool:
        """Handle what was received; each answer is forgotten only after it was handled."""
        while self._inbox:
            data, ancillary, _, _ = self._inbox[0]
            if data:
                self._handle(data, ancillary)
            self._inbox.popleft()
        return False

    def _handle(self, data: bytes, ancillary: Any) -> None:
        what, value, number, pid = server.ANSWER.unpack(data)
        if what == server.STARTED:
            pidfd = array.array("i", ancillary[0][2])[0] if ancillary else -1
            self._started(number, pid, pidfd)
        elif what == server.FAILED:
            if self._asked.pop(number, None) is not None:
                raise OSError(value, f"the child could not be forked: {os.strerror(value)}")
        elif what == server.EXITED:
            child = self._children.pop(pid, None)
            if child is not None:
                child.ended(value)

    def _started(self, number: int, pid: int, pidfd: int) -> None:
        child = self._asked.get(number)
        if child is not None:
            self._children[pid] = child
            child.born(pid, pidfd)
            self._asked.pop(number, None)
        elif pid not in self._children:  # its start was given up
            if pidfd >= 0:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)

    def _gone(self) -> NurseryError:
        return NurseryError(f"the process that forks children (pid {self.pid}) has ended")

    def _silent(self) -> NurseryError:
        return NurseryError(
            f"the process that forks children (pid {self.pid}) has not answered for {PATIENCE} s;"
            " is it stopped?"
        )

    def _let_go(self) -> None:
        """In a forked copy of this process: the server is the original's."""
        close_all(self._control.detach(), self._pidfd)


_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_fork_server: Nursery | None = None
_fork_server_lock = threading.Lock()


def fork_server() -> Nursery:
    """The fork server of this process; started when first needed, and again if it has ended."""
    global _fork_server
    with _fork_server_lock:
        if _fork_server is not None and not _fork_server.alive():
            _fork_server.close()
            _fork_server = None
        if _fork_server is None:
            _fork_server = Nursery.exec()
        return _fork_server


def current_fork_server() -> Nursery | None:
    """The fork server if there is one; starts none."""
    return _fork_server


def shutdown() -> None:
    """End the fork server, once its children have ended."""
    global _fork_server
    with _fork_server_lock:
        old, _fork_server = _fork_server, None
    if old is not None:
        old.retire()
        deadline = time.monotonic() + 1
        while old.alive() and time.monotonic() < deadline:
            wait_readable(old._pidfd, 0.1)
        if not old.alive():
            old.close()


def _in_child() -> None:
    global _fork_server
    for nursery in list(_here):
        nursery._let_go()
    _here.clear()
    _fork_server = None
    _fork_server_lock._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_in_child)
