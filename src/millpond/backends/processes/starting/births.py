"""How a nursery's server process comes to be, and how it is ended.

Rules: all signals are blocked from before the birth on; the server gets what shows the end of this process,
taken here, where it cannot be another's; nothing of it has a name.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # signal's wraps each answer in enums
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from millpond.backends.processes.starting import binding, child, commands, preloading, standard
from millpond.backends.processes.starting.direct import fork_sealed
from millpond.backends.processes.starting.interruptions import ALL_SIGNALS
from millpond.backends.processes.starting.popen import close_all, wait_readable
from millpond.backends.processes.starting.server import Server, settle_in
from millpond.backends.processes.starting.terms import terms_of
from millpond.system import ends, low, sockets, states
from millpond.worker import place

if TYPE_CHECKING:
    from millpond.backends.processes.starting.bystanders import Rest, Watch

_GRACE = 0.2
"""Seconds in which a server ends that was told to, or heard that nobody listens."""
_GO = b"!"


class Birth(NamedTuple):
    """A server that runs: its pid, what shows its end, our end of its control socket."""

    pid: int
    end_fd: int
    control: sockets.AnySocket


class _Kept(sockets.Socket):
    """One that is needed until the last join at the interpreter's end, after which Python warns of open ones."""

    def __del__(self) -> None:
        self.close()


class Unborn(NamedTuple):
    """A process that the server is to fork at once, and the descriptors that are for nobody else."""

    process: BaseProcess
    fds: Sequence[int]


@low.filled()
def fork(
    inherited: Mapping[str, object], first: Callable[[], object], brood: Sequence[Unborn] = (),
    watch: Watch | None = None,
) -> Birth:  # fmt: skip
    """A copy of this process that serves, after it has called ``first`` and forked its brood.

    With ``watch``, it serves only if the other threads were at rest while it was made; Unrest if they never are.
    """
    standard.util._flush_std_streams()
    binding.prepare()  # here, so that the next copy has it too
    parent_fd = ends.of_self()
    try:
        copy = _Copy(inherited, first, parent_fd, brood, waits=watch is not None)
        return _copied(copy, bool) if watch is None else _copied_at_rest(copy, watch)
    finally:
        close_all(parent_fd)


def _copied(copy: _Copy, just_before: Callable[[], object]) -> Birth:
    ours, theirs = sockets.pair()
    try:
        just_before()
        pid = fork_sealed(lambda mask: copy.serve(ours, theirs, mask), ALL_SIGNALS)
        return _watched(pid, ours)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()


def _copied_at_rest(copy: _Copy, watch: Watch) -> Birth:
    from millpond.backends.processes.starting.bystanders import Unrest

    restless = ""
    for _ in watch.attempts():
        seen: list[Rest] = []
        try:
            birth = _copied(copy, lambda seen=seen: seen.append(watch.look()))  # type: ignore[misc]
        except Unrest as unrest:
            restless = str(unrest)
            continue
        restless = seen[0].awake()
        if not restless:
            birth.control.send(_GO)
            return birth
        end(birth, os.getpid())
    raise Unrest(restless)


class _Copy:
    """What the copy knows of its parent; its lives as the server, and as each child."""

    def __init__(
        self, inherited: Mapping[str, object], first: Callable[[], object], parent_fd: int,
        brood: Sequence[Unborn], waits: bool,
    ) -> None:  # fmt: skip
        self.inherited = inherited
        self.first = first
        self.brood = brood
        self.waits = waits  # until the parent knows that it is a good copy
        self.parent = os.getpid()
        self.parent_fd = parent_fd  # shows the parent's end
        self.collects = gc.isenabled()
        self.on_child_signal: Any = signal.getsignal(signal.SIGCHLD)
        self.mask: set[int] = set()

    def serve(
        self, ours: sockets.AnySocket, control: sockets.AnySocket, mask: set[int]
    ) -> NoReturn:
        code = 1
        try:
            settle_in()
            place.forget_handler()  # here, so that no child has it for a moment
            ours.close()
            if self.waits and control.recv(len(_GO)) != _GO:
                os._exit(0)
            binding.prepare()
            self.mask = mask
            self.pid = os.getpid()
            if os.getppid() == self.parent:
                self.first()
                server = Server(control, self.parent_fd)
                server.bear(partial(self.run_own, unborn) for unborn in self.brood)
                self.keep_only(())
                server.serve(self.run_child)
            code = 0
        except Exception:
            child.report()
        finally:
            os._exit(code)

    def run_child(self, fds: Sequence[int]) -> NoReturn:
        code = 1
        try:
            child.begin_forked()
            opening, pickled, outcome = child.open_payload(fds[0], fds[1:])
            self.wake(opening["bound"], opening["blocked"])
            code = child.run_sent(opening, pickled, outcome, self.parent_fd, self.inherited)
        except Exception:
            child.report()
        finally:
            child.leave_forked(code)

    def run_own(self, unborn: Unborn) -> NoReturn:
        code = 1
        try:
            child.begin_forked()
            self.keep_only(unborn.fds)
            self.wake(True, terms_of(unborn.process).blocked)
            code = child.run_inherited(unborn.process, self.parent_fd)
        except Exception:
            child.report()
        finally:
            child.leave_forked(code)

    def keep_only(self, fds: Sequence[int]) -> None:
        for unborn in self.brood:
            if unborn.fds is not fds:
                close_all(*unborn.fds)

    def wake(self, bound: bool, blocked: Iterable[int]) -> None:
        if bound:
            binding.bind_to_thread(self.pid)
        if self.on_child_signal is not None:
            signal.signal(signal.SIGCHLD, self.on_child_signal)
        child.wake(self.mask.union(blocked), self.collects)


@low.filled()
def execute(preload: Sequence[str] | None, environment: Mapping[str, str] | None = None) -> Birth:
    """A fresh interpreter that serves, after it has imported ``preload``; ``environment``: instead of our own."""
    orders = parent_fd = -1
    pair, theirs = sockets.pair()
    ours = _Kept(fileno=pair.detach())
    mask = pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        parent_fd = ends.of_self()
        tracker = standard.resource_tracker().getfd()
        orders = preloading.orders(preload, os.getpid(), tracker)
        pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
        fds = [parent_fd, theirs.fileno()]
        pid = commands.run("serve", orders, fds, [tracker], environment)
        return _watched(pid, ours)
    except BaseException:
        ours.close()
        raise
    finally:
        pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        close_all(*(fd for fd in (parent_fd, orders) if fd >= 0))


def _watched(pid: int, ours: sockets.AnySocket) -> Birth:
    try:
        return Birth(pid, ends.of_child(pid), ours)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        _reap(pid)
        raise


def end(birth: Birth, parent: int) -> None:
    """Close the control socket, which ends the server; kill it where that takes too long."""
    if os.getpid() != parent:
        return  # a forked copy has let go of it already
    if birth.control.fileno() >= 0:
        try:
            birth.control.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        birth.control.close()
    if states.is_stopped(birth.pid) or not wait_readable(birth.end_fd, _GRACE):
        try:
            ends.send_signal(birth.end_fd, birth.pid, signal.SIGKILL)
        except PermissionError:
            pass  # this program has given up the right to; it ends when it goes on, as nobody listens
        wait_readable(birth.end_fd, _GRACE)
    if not _reap(birth.pid, os.WNOHANG):  # a debugger keeps it
        threading.Thread(
            target=_reap, args=(birth.pid,), name="millpond-reaper", daemon=True
        ).start()
    close_all(birth.end_fd)


def _reap(pid: int, flags: int = 0) -> bool:
    try:
        return bool(os.waitpid(pid, flags)[0])
    except ChildProcessError:
        return True
