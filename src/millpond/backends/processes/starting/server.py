"""The nursery's own process: it forks children on request, and tells how they ended.

    parent                          this process                         a child
    Request, descriptors  ----->    fork  ------------------------->     child.py
    Started, a pidfd      <-----
    Exited, its status    <-----    waitpid, once its pidfd is readable

Rules: one thread; all signals stay blocked (not ignored, which what a child executes would
inherit); it never blocks on the parent (answers queue); it ends when the parent's pidfd shows the
parent's end, or the control socket is closed, and its bound children end with it, which the kernel
sees to.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # signal's wraps each answer in enums
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NoReturn

from millpond.backends.processes.starting.interruptions import ALL_SIGNALS
from millpond.backends.processes.starting.popen import close_all

REQUEST = struct.Struct(
    "<QII"
)  # the request's number; its descriptors; 1: bound to the parent's life
ANSWER = struct.Struct("<IiQQ")  # what; errno or status; the request's number; the pid
STARTED, FAILED, EXITED, BUSY = range(1, 5)
END = 0
"""The number of the request to end at once, with the bound children."""

MOST_FDS = 250
"""The kernel passes at most 253 descriptors in one message."""

Run = Callable[[Sequence[int]], NoReturn]
"""What a child does with the descriptors that came; the first is the payload."""


class Server:
    """``serve()`` is the life of the process."""

    def __init__(self, control: socket.socket, parent_fd: int) -> None:
        control.setblocking(False)
        self._control = control
        self._parent_fd = parent_fd
        self._children: dict[int, tuple[int, bool]] = {}  # pidfd -> pid, bound
        self._answers: deque[tuple[bytes, int | None]] = deque()
        self._poll: Any = select.poll()
        self._poll.register(parent_fd, select.POLLIN)
        self._poll.register(control, select.POLLIN)
        self._retired = False
        self._ending = False

    def bear(self, lives: Iterable[Callable[[], NoReturn]]) -> None:
        """Fork children that need not be asked for: they count from 1 on, and are bound."""
        for number, live in enumerate(lives, END + 1):
            try:
                self._fork(live, number, True)
            except OSError as error:
                self._answer(FAILED, error.errno or 0, number, 0)

    def serve(self, run: Run) -> None:
        """Until the parent ends, or has closed its side."""
        while not self._finished():
            for fd, what in self._poll.poll():
                if fd == self._parent_fd:
                    self._kill_bound()
                    return
                if fd in self._children:
                    self._ended(fd)
                elif what & select.POLLOUT:
                    self._flush()
                elif what & select.POLLIN:
                    self._request(run)
                else:  # hung up: the parent closed both directions
                    self._kill_bound()
                    return

    def _finished(self) -> bool:
        if self._ending:
            return not any(bound for _, bound in self._children.values())
        return self._retired and not self._children

    def _request(self, run: Run) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(
                self._control, REQUEST.size, MOST_FDS, getattr(socket, "MSG_CMSG_CLOEXEC", 0)
            )
        except ConnectionResetError:  # the parent ended with answers unread
            self._ending = True
            self._kill_bound()
            return
        if not data:  # the parent closed its writing side: finish what runs
            self._retired = True
            self._poll.modify(self._control, 0)
            return
        number, count, bound = REQUEST.unpack(data)
        if number == END:
            self._ending = True
            self._kill_bound()
            return
        try:
            if len(fds) != count:  # our own limit of descriptors cut the message
                raise OSError(24, "too many open files in the process that forks children")
            self._fork(partial(run, fds), number, bool(bound))
        except OSError as error:
            self._answer(FAILED, error.errno or 0, number, 0)
        finally:
            close_all(*fds)

    def _fork(self, live: Callable[[], NoReturn], number: int, bound: bool) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                self._forget()
                live()
            finally:
                os._exit(1)
        try:
            pidfd = os.pidfd_open(pid)
            self._poll.register(pidfd, select.POLLIN)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._children[pidfd] = (pid, bound)
        self._answer(STARTED, 0, number, pid, pidfd)

    def _forget(self) -> None:
        """In a child: the server's descriptors are none of its business."""
        close_all(self._control.detach(), *self._children)

    def _ended(self, pidfd: int) -> None:
        pid, _ = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        _, status = os.waitpid(pid, 0)
        # A pidfd that waits to be sent is not ours to close yet.
        self._answer(EXITED, os.waitstatus_to_exitcode(status), 0, pid, close=pidfd)

    def _answer(
        self,
        what: int,
        value: int,
        number: int,
        pid: int,
        fd: int | None = None,
        close: int | None = None,
    ) -> None:
        self._answers.append((ANSWER.pack(what, value, number, pid), fd))
        self._flush()
        if close is not None:
            if self._answers:
                self._answers.append((b"", close))
            else:
                os.close(close)

    def _flush(self) -> None:
        while self._answers:
            data, fd = self._answers[0]
            try:
                if not data:
                    os.close(fd)  # type: ignore[arg-type]
                elif fd is None:
                    self._control.send(data)
                else:
                    socket.send_fds(self._control, [data], [fd])
            except BlockingIOError:
                break
            except OSError:  # the parent is gone, its pidfd will say so
                pass
            self._answers.popleft()
        wanted = (0 if self._retired else select.POLLIN) | (select.POLLOUT if self._answers else 0)
        self._poll.modify(self._control, wanted)

    def _kill_bound(self) -> None:
        for pidfd, (_, bound) in self._children.items():
            if bound:
                try:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                except OSError:
                    pass


def say_busy(control: socket.socket) -> None:
    """A sign of life while nothing can be answered yet."""
    try:
        control.send(ANSWER.pack(BUSY, 0, 0, 0), socket.MSG_DONTWAIT)
    except OSError:
        pass  # nobody listens, or enough was said


def settle_in() -> None:
    """What the server's process does to itself first."""
    gc.disable()  # no finalizer of the parent's objects runs here
    pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it was ignored no status could be had
    for fd in (0, 1, 2):  # what arrives must not land there
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
