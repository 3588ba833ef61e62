"""What a parent and its nursery say to each other over their private socket: the parent's side.

Rules: what was read is kept by the same call that read it, so an exception from a signal handler
loses no answer; an answer is forgotten only after it was handled, and handling it twice does no
harm; waiting is bounded by the server's silence, not by the clock, so a program that was stopped
may go on; a server that is stopped itself is not waited for.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from millpond.backends.processes.starting import server
from millpond.backends.processes.starting.interruptions import let_in
from millpond.backends.processes.starting.popen import close_all, wait_readable
from millpond.system import sockets, states

_ANSWER_SPACE = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_SLICE = 0.1


class NurseryError(OSError):
    """The server that forks processes has ended, or does not answer."""


Answer = Callable[[int, int, int, int, int], None]
"""Told of each answer: what, value, number, pid, and the descriptor that came with it or -1."""


class Conversation:
    """Requests go out, ``on_answer`` is called with what comes back."""

    def __init__(self, control: sockets.AnySocket, server_pid: int, on_answer: Answer) -> None:
        self._control = control
        self._server_pid = server_pid
        self._on_answer = on_answer
        self._inbox: deque[Any] = deque()
        self._stopped = False  # the server, when it was waited for in vain
        self._silence_is_fine = False

    @property
    def open(self) -> bool:
        return self._control.fileno() >= 0

    def send(self, data: bytes, fds: list[int]) -> None:
        """Send a request with descriptors."""
        if not self.open:
            raise self.gone()
        if self._stopped:
            self._look(0.0)
            if self._stopped:
                raise self.silence(0.0)
        try:
            if fds:
                sockets.send_fds(self._control, data, fds)
            else:
                self._control.send(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self.gone() from error

    def listen(self, done: Callable[[], bool], patience: float) -> None:
        """Handle answers until ``done()``; gives up after ``patience`` seconds without one."""
        silent = 0.0
        while True:
            self._handle_all()
            if done():
                return
            if not self.open:
                raise self.gone()
            with let_in():
                heard = wait_readable(self._control.fileno(), 0.0 if self._stopped else _SLICE)
            if not heard:
                silent += 0 if self._silence_is_fine else _SLICE
                self._look(silent)
                if self._stopped or silent >= patience:
                    raise self.silence(silent)
                continue
            silent = 0.0
            self._stopped = False
            if not self._receive():
                self._handle_all()
                if done():
                    return
                raise self.gone()

    def _look(self, silent: float) -> None:
        """Whether the server is stopped; one that was stopped with this process may go on a little later."""
        self._stopped = (self._stopped or silent > _SLICE) and states.is_stopped(self._server_pid)

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

    def _handle_all(self) -> None:
        while self._inbox:
            data, ancillary, _, _ = self._inbox[0]
            if data:
                fd = array.array("i", ancillary[0][2])[0] if ancillary else -1
                what, value, number, pid = server.ANSWER.unpack(data)
                self._silence_is_fine = what == server.BUSY and bool(value)
                try:
                    self._on_answer(what, value, number, pid, fd)
                except OSError:
                    self._inbox.popleft()
                    raise
            self._inbox.popleft()

    def half_close(self) -> None:
        """Send no more requests."""
        try:
            self._control.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def let_go(self) -> None:
        """In a forked copy of this process: the conversation is the original's."""
        if self.open:
            close_all(self._control.detach())

    def gone(self) -> NurseryError:
        """The error that says so."""
        return NurseryError(f"the process that forks children (pid {self._server_pid}) has ended")

    def silence(self, patience: float) -> NurseryError:
        """The error that says so."""
        return NurseryError(
            f"the process that forks children (pid {self._server_pid}) has not answered for"
            f" {patience:g} s; "
            + ("it is stopped, and SIGCONT lets it go on" if self._stopped else "is it stopped?")
        )


def no_descriptor() -> OSError:
    """The error for a pidfd that could not be received."""
    import errno

    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))
