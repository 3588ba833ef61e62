"""Descriptors that become readable when a process ends, and signals that cannot hit another process.

    Linux            a pidfd
    anywhere else    of a child: a thread waits for it, and writes to a socket
                     of this process: the reading end of a pipe, whose other end nobody else holds

Rules: what shows an end is never the end of a file that the ended process held, since a copy of that process
may hold it as well; whoever gets such a descriptor closes it; a forked copy of this process lets go of the pipe.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading

from millpond.system import refusals, sockets

_making = threading.Lock()
_life: tuple[int, int] | None = None
"""The pipe that ends with this process, where there are no pidfds."""


def pidfd(pid: int) -> int | None:
    """A pidfd, or None where the system has none. Raises ProcessLookupError once ``pid`` is reaped."""
    opener = getattr(os, "pidfd_open", None)
    try:
        if opener is not None:
            fd: int = opener(pid)
            return fd
    except OSError as error:
        if not refusals.is_refusal(error):
            raise
    refusals.note("pidfd_open", "the ends of processes are seen by SIGCHLD and threads that wait")
    return None


def is_pidfd(fd: int) -> bool:
    """Whether a descriptor that shows an end is a pidfd."""
    kind = os.fstat(fd).st_mode
    return not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind))


def of_child(pid: int) -> int:
    """A descriptor that shows the end of a child of this process, which need not have been reaped.

    Raises OSError; ProcessLookupError, where there are pidfds, if the child was reaped by somebody else.
    """
    fd = pidfd(pid)
    return _of_waiter(pid) if fd is None else fd


def _of_waiter(pid: int) -> int:
    reader, writer = sockets.pair()
    waiter = threading.Thread(
        target=_wait, args=(pid, writer), name=f"millpond-end-of-{pid}", daemon=True
    )
    try:
        waiter.start()
    except RuntimeError as failure:
        reader.close()
        writer.close()
        raise BlockingIOError(11, str(failure)) from failure
    return reader.detach()


def _wait(pid: int, writer: sockets.Socket) -> None:
    """A thread's life: until the child has ended. It is not reaped here."""
    with writer:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # somebody else has reaped it, or SIGCHLD is ignored
        try:
            # A byte, since a copy of this process may hold the socket, too.
            writer.send(b"\0", socket.MSG_NOSIGNAL)
        except OSError:
            pass  # nobody wants to know


def of_self() -> int:
    """A descriptor that shows the end of this process, for another process to hold."""
    global _life
    fd = pidfd(os.getpid())
    if fd is not None:
        return fd
    with _making:
        if _life is None:
            _life = os.pipe()
        return os.dup(_life[0])


def send_signal(fd: int, pid: int, number: int) -> None:
    """Send a signal to the process ``pid``, whose end ``fd`` shows. Raises OSError."""
    if is_pidfd(fd):
        sender = getattr(signal, "pidfd_send_signal", None)
        try:
            if sender is not None:
                sender(fd, number)
                return
        except OSError as error:
            if not refusals.is_refusal(error):
                raise
            os.kill(pid, number)  # which may not be allowed either
            refusals.note("pidfd_send_signal", "signals go to the numbers of processes")
            return
    os.kill(pid, number)


def _in_child() -> None:
    global _life
    life, _life = _life, None
    for fd in life or ():
        os.close(fd)
    _making._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_in_child)
