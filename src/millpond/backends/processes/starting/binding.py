"""A child that must not outlive its parent, however the parent ends.

Rules: the kernel does it (PR_SET_PDEATHSIG) where the parent's thread that forked us lives as long
as the parent, which is its main thread only, since the signal follows that thread; else a watcher
does it, a process of its own that is shown the ends of both. Beside either, the child is on a leash
(``system.leash``) where the system has that: the kernel forgets PR_SET_PDEATHSIG when the child changes its
user, and a parent that runs another program by ``exec`` does not end. All of these work when the child's
interpreter is stuck.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

from millpond.system import ends, leash

_PR_SET_PDEATHSIG = 1
_prctl: Callable[..., int] | None = None
_server_leash: leash.Leash | None = None


def prepare() -> None:
    """Load what ``bind_to_thread`` needs; a server does it once, its children inherit it."""
    global _prctl
    if _prctl is None and sys.platform == "linux":
        import ctypes

        _prctl = ctypes.CDLL(None).prctl


def hold() -> None:
    """In a server: its bound children will be on its leash."""
    global _server_leash
    try:
        _server_leash = leash.Leash()
    except OSError:
        pass  # too few descriptors


def leave() -> None:
    """In a server's child that is not bound."""
    if _server_leash is not None:
        _server_leash.give()


def bind(parent: int, parent_fd: int, end: int, *, from_main_thread: bool) -> None:
    """Let this child die with ``parent``; ``parent_fd`` shows its end, ``end`` is that of its leash."""
    leash.take(end)
    if sys.platform == "linux" and from_main_thread:
        bind_to_thread(parent)
    else:
        watch_from_outside(parent_fd)


def bind_to_thread(parent: int) -> None:
    """Die when the thread that forked us ends; ``parent`` is its process."""
    prepare()
    if _server_leash is not None and _server_leash.end >= 0:
        end, _server_leash.end = _server_leash.end, -1
        leash.take(end)
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)


def watch_from_outside(parent_fd: int) -> None:
    """Start a watcher that kills this process once ``parent_fd`` shows the parent's end."""
    own, own_fd = os.getpid(), ends.of_self()
    first = os.fork()
    if first == 0:
        # Forked twice: the watcher is no child of ours, so no wait() here ever meets it.
        try:
            if os.fork() == 0:
                _watch(parent_fd, own, own_fd)
        finally:
            os._exit(0)
    os.close(own_fd)
    try:
        os.waitpid(first, 0)
    except ChildProcessError:  # SIGCHLD is ignored
        pass


def _watch(parent_fd: int, child: int, child_fd: int) -> None:
    """The watcher's life: it holds two descriptors and nothing else."""
    os.setsid()  # a signal to the program's group is not for us
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    keep = sorted((parent_fd, child_fd))
    os.closerange(0, keep[0])
    os.closerange(keep[0] + 1, keep[1])
    os.closerange(keep[1] + 1, _highest_fd())
    poll: Any = select.poll()
    poll.register(parent_fd, select.POLLIN)
    poll.register(child_fd, select.POLLIN)
    ended = {fd for fd, _ in poll.poll()}
    if child_fd not in ended:
        ends.send_signal(child_fd, child, signal.SIGKILL)


def _highest_fd() -> int:
    limit = os.sysconf("SC_OPEN_MAX")
    return limit if limit > 0 else 65536
