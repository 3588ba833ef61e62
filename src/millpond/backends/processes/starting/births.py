"""How a nursery's server process comes to be, and how it is ended.

Rules: all signals are blocked from before the birth on; the server gets a pidfd of this process, taken
here, where it cannot be another's; nothing of it has a name.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from multiprocessing import resource_tracker, util
from typing import NamedTuple, NoReturn

from millpond.backends.processes.starting import binding, child, commands, preloading
from millpond.backends.processes.starting.direct import fork_sealed
from millpond.backends.processes.starting.popen import close_all, wait_readable
from millpond.backends.processes.starting.server import Server, settle_in

_GRACE = 1.0


class Birth(NamedTuple):
    """A server that runs: its pid, a pidfd of it, our end of its control socket."""

    pid: int
    pidfd: int
    control: socket.socket


def fork(inherited: Mapping[str, object]) -> Birth:
    """A copy of this process that serves."""
    util._flush_std_streams()  # type: ignore[attr-defined]
    parent = os.getpid()
    on_child_signal = signal.getsignal(signal.SIGCHLD)
    collects = gc.isenabled()
    parent_fd = os.pidfd_open(parent)
    ours, theirs = socket.socketpair()

    def serve(mask: set[int]) -> NoReturn:
        code = 1
        try:
            settle_in()
            ours.close()
            binding.prepare()
            own = os.getpid()

            def run(fds: Sequence[int]) -> NoReturn:
                code = 1
                try:
                    child.begin_forked()
                    opening, pickled, outcome = child.open_payload(fds[0], fds[1:])
                    if opening["bound"]:
                        binding.bind_to_thread(own)
                    if on_child_signal is not None:
                        signal.signal(signal.SIGCHLD, on_child_signal)
                    child.wake(mask)
                    if not collects:
                        gc.disable()
                    code = child.run_sent(opening, pickled, outcome, parent_fd, inherited)
                except Exception:
                    child.report()
                finally:
                    child.leave_forked(code)

            if os.getppid() == parent:
                Server(theirs, parent_fd).serve(run)
            code = 0
        except Exception:
            child.report()
        finally:
            os._exit(code)

    try:
        pid = fork_sealed(serve)
        return _watched(pid, ours)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(parent_fd)


def execute(preload: Sequence[str] | None) -> Birth:
    """A fresh interpreter that serves, after it has imported ``preload``."""
    parent_fd = os.pidfd_open(os.getpid())
    ours, theirs = socket.socketpair()
    fds = [parent_fd, theirs.fileno()]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    orders = -1
    try:
        tracker = resource_tracker.getfd()
        orders = preloading.orders(preload, os.getpid(), tracker)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = commands.run("serve", orders, fds, [tracker])
        return _watched(pid, ours)
    except BaseException:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        close_all(parent_fd, *(() if orders < 0 else (orders,)))


def _watched(pid: int, ours: socket.socket) -> Birth:
    try:
        return Birth(pid, os.pidfd_open(pid), ours)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        _reap(pid)
        raise


def end(birth: Birth) -> None:
    """Close the control socket, which ends the server; kill it where that takes too long."""
    if birth.control.fileno() >= 0:
        try:
            birth.control.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        birth.control.close()
    if not wait_readable(birth.pidfd, _GRACE):
        signal.pidfd_send_signal(birth.pidfd, signal.SIGKILL)
    _reap(birth.pid)
    close_all(birth.pidfd)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
