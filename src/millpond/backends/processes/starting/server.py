"""The nursery's own process: it forks children on request, and tells how they ended.

    parent                          this process                         a child
    Request, descriptors  ----->    fork  ------------------------->     child.py
    Started, its end      <-----
    Exited, its status    <-----    waitpid, once it has ended

Where there are no pidfds, a child's end is what SIGCHLD told: the parent holds the other end of a pipe that is
closed here then, and the parent's own end shows by another becoming our parent, too.

Rules: one thread; all signals stay blocked (not ignored, which what a child executes would
inherit) but for SIGCHLD where it is needed; it never blocks on the parent (answers queue); it ends when
the parent's end shows, or the control socket is closed, and its bound children end with it, which the kernel
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

from millpond.backends.processes.starting import binding
from millpond.backends.processes.starting.interruptions import ALL_SIGNALS
from millpond.backends.processes.starting.popen import close_all
from millpond.system import ends, sockets, wakeups

REQUEST = struct.Struct(
    "<QII"
)  # the request's number; its descriptors; 1: bound to the parent's life
ANSWER = struct.Struct("<IiQQ")  # what; errno or status; the request's number; the pid
STARTED, FAILED, EXITED, BUSY = range(1, 5)
UNTOLD = -(1 << 16)
"""The status of a child that has ended, and whose status its debugger learns first."""
SIGNAL = (1 << 64) - 1
"""The number of the request to send a child a signal, which its parent may not: its pid, and the signal."""
END = 0
"""The number of the request to end at once, with the bound children."""

_LOOK = 250
"""Milliseconds."""

MOST_FDS = 250
"""The kernel passes at most 253 descriptors in one message."""

Run = Callable[[Sequence[int]], NoReturn]
"""What a child does with the descriptors that came; the first is the payload."""


class Server:
    """``serve()`` is the life of the process."""

    def __init__(self, control: sockets.AnySocket, parent_fd: int) -> None:
        control.setblocking(False)
        self._control = control
        self._parent_fd = parent_fd
        self._parent = os.getppid()
        # How long it may take to find that the parent has ended; None: its descriptor says so.
        self._look = None if ends.is_pidfd(parent_fd) else _LOOK
        self._reaper: Reaper | None = None  # where there are no pidfds
        # Of each child its pid and whether it is bound; by its pidfd, or the end of a pipe.
        self._children: dict[int, tuple[int, bool]] = {}
        self._answers: deque[tuple[bytes, int | None]] = deque()
        self._poll: Any = select.poll()
        self._poll.register(parent_fd, select.POLLIN)
        self._poll.register(control, select.POLLIN)
        self._traced: list[
            int
        ] = []  # children that have ended, and that a debugger keeps from being reaped
        self._retired = False
        self._ending = False
        binding.hold()

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
            if self._look is not None and os.getppid() != self._parent:
                self._kill_bound()
                return
            for fd, what in self._poll.poll(self._look):
                if self._reaper is not None and fd == self._reaper.fileno():
                    self._reaper.hush()
                    self._reap()
                elif fd == self._parent_fd:
                    self._kill_bound()
                    return
                elif fd in self._children:
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
                self._control,  # type: ignore[arg-type]  # the base has all that it needs
                REQUEST.size, MOST_FDS, getattr(socket, "MSG_CMSG_CLOEXEC", 0),
            )  # fmt: skip
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
        if number == SIGNAL:
            self._signal(count, bound)
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
                self._forget(bound)
                live()
            finally:
                os._exit(1)
        try:
            end = ends.pidfd(pid)
            if end is None:
                self._piped(number, pid, bound)
                return
            self._poll.register(end, select.POLLIN)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._children[end] = (pid, bound)
        self._answer(STARTED, 0, number, pid, end)

    def _piped(self, number: int, pid: int, bound: bool) -> None:
        """The parent gets the one end of a pipe; the other is closed here when the child has ended."""
        if self._reaper is None:
            self._reaper = Reaper()
            self._poll.register(self._reaper, select.POLLIN)
        shown, held = os.pipe()
        self._children[held] = (pid, bound)
        self._answer(STARTED, 0, number, pid, shown, close=shown)
        self._reap()  # it may have ended before anybody listened

    def _reap(self) -> None:
        for held, (pid, _) in list(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._children[held]
                self._answer(EXITED, os.waitstatus_to_exitcode(status), 0, pid)
                os.close(held)

    def _forget(self, bound: bool) -> None:
        """In a child: the server's descriptors are none of its business."""
        if not bound:
            binding.leave()
        close_all(self._control.detach(), *self._children)
        if self._reaper is not None:
            self._reaper.let_go()

    def _ended(self, end: int) -> None:
        pid, _ = self._children.pop(end)
        self._poll.unregister(end)
        self._traced = [held for held in self._traced if not os.waitpid(held, os.WNOHANG)[0]]
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            self._traced.append(pid)
        code = os.waitstatus_to_exitcode(status) if ended else UNTOLD
        # A pidfd that waits to be sent is not ours to close yet.
        self._answer(EXITED, code, 0, pid, close=end)

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
                    sockets.send_fds(self._control, data, [fd])
            except BlockingIOError:
                break
            except OSError:  # the parent is gone, its pidfd will say so
                pass
            self._answers.popleft()
        wanted = (0 if self._retired else select.POLLIN) | (select.POLLOUT if self._answers else 0)
        self._poll.modify(self._control, wanted)

    def _signal(self, wanted: int, number: int) -> None:
        for end, (pid, _) in self._children.items():
            if pid == wanted:
                try:
                    ends.send_signal(end, pid, number)
                except OSError:
                    pass  # it has changed its user, too, or has just ended

    def _kill_bound(self) -> None:
        for end, (pid, bound) in self._children.items():
            if bound:
                try:
                    ends.send_signal(end, pid, signal.SIGKILL)
                except OSError:
                    pass


class Reaper:
    """A descriptor that is readable when a child may have ended, by SIGCHLD."""

    def __init__(self) -> None:
        self._reader, self._writer = wakeups.pipe()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def fileno(self) -> int:
        return self._reader

    def hush(self) -> None:
        os.read(self._reader, 4096)

    def let_go(self) -> None:
        """In a child, which has none of it."""
        pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(self._before)
        close_all(self._reader, self._writer)


def say_busy(control: sockets.AnySocket, silence: bool = False) -> None:
    """A sign of life while nothing can be answered yet; ``silence``: it may be the last one for long."""
    try:
        control.send(ANSWER.pack(BUSY, silence, 0, 0), socket.MSG_DONTWAIT)
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
