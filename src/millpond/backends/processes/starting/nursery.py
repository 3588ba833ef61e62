"""A server process that forks children on request: its parent's side.

``Nursery.fork(inherited)`` is a copy of this process as it is now, single-threaded from here on:
its children see the globals of now, and objects in ``inherited`` need no pickling.
``Nursery.exec()`` is a fresh interpreter that has imported what this process has: the fork server.

    nursery = Nursery.fork({"initializer": initializer})
    terms_of(process).server = nursery  # any millpond Process, before its start()
    process.start()

Rules: requests are serialised by one lock, which any thread may take, and bounded in time; a start
that was given up leaves no child behind; a forked copy of this process closes its end and asks
nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from millpond.backends.processes.starting import births, payload, server
from millpond.backends.processes.starting.brood import Answer, Brood
from millpond.backends.processes.starting.conversation import (
    Conversation,
    NurseryError,
    no_descriptor,
)
from millpond.backends.processes.starting.interruptions import held
from millpond.backends.processes.starting.popen import close_all, wait_readable
from millpond.backends.processes.starting.terms import terms_of

if TYPE_CHECKING:
    from millpond.backends.processes.starting.bystanders import Watch

__all__ = ["Child", "Nursery", "NurseryError", "current_fork_server", "fork_server", "shutdown"]

PATIENCE = 30.0
"""Seconds without a sign of life after which a start is given up."""

_GRACE = 1.0
_MOMENT = 0.5
_BRIEF = 0.2
"""Seconds, beyond its children's grace, in which a server's end has to be seen to: ``terminate()`` is bounded."""
_here: weakref.WeakSet[Nursery] = weakref.WeakSet()


class Child(Protocol):
    """What asks for a child, and is told of it."""

    def born(self, pid: int, pidfd: int) -> None: ...

    def ended(self, status: int) -> None: ...


class Nursery:
    """One such server. ``names`` says what its children have already."""

    def __init__(
        self, birth: births.Birth, inherited: Mapping[str, object] | None, brood: int = 0
    ) -> None:
        self.pid = birth.pid
        self.inherited = inherited
        self.names = None if inherited is None else {id(v): n for n, v in inherited.items()}
        self._control = birth.control
        self.end_fd = birth.end_fd
        self._lock = threading.RLock()
        self._brood = Brood(brood)
        self._numbers = itertools.count(self._brood.end)
        self._asked: dict[int, Child] = {}
        self._given_up: set[int] = set()
        self._children: weakref.WeakValueDictionary[int, Child] = weakref.WeakValueDictionary()
        this = weakref.ref(self)  # no cycle: it ends as soon as nobody needs it
        self._talk = Conversation(birth.control, birth.pid, lambda *a: _pass_on(this, *a))
        # At exit nothing need be done: the server sees it, and what is joined there is told of.
        self._finalizer = weakref.finalize(self, births.end, birth, os.getpid())
        self._finalizer.atexit = False
        _here.add(self)

    @classmethod
    def fork(
        cls,
        inherited: Mapping[str, object],
        first: Callable[[], object] = bool,
        brood: Sequence[births.Unborn] = (),
        watch: Watch | None = None,
    ) -> Nursery:
        """A copy of this process as it is now; there, ``first`` is called once.

        ``brood``: processes that it forks at once. Their ``start()`` only hears of it, and takes half the time.
        ``watch``: sees that the other threads are at rest; Unrest is raised if they never are.
        """
        for number, unborn in enumerate(brood, server.END + 1):
            terms_of(unborn.process).laid = number
        with held():
            return cls(births.fork(inherited, first, brood, watch), inherited, len(brood))

    @classmethod
    def exec(
        cls, preload: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> Nursery:
        """A fresh interpreter; it imports ``preload``, by default what this process has.

        ``environment``: all that it has in its environment; by default what this process has.
        """
        with held():
            return cls(births.execute(preload, environment), None)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # a process that is sent to a child does not take its server along

    def alive(self) -> bool:
        """Whether the server runs."""
        return self._talk.open and not wait_readable(self.end_fd, 0)

    def start(self, child: Child, payload_fd: int, fds: Sequence[int], bound: bool) -> None:
        """Have ``child`` forked; it is told before this returns. Raises NurseryError."""
        if len(fds) >= server.MOST_FDS:
            raise ValueError("too many fds")
        if not self._lock.acquire(timeout=PATIENCE):
            raise self._talk.silence(PATIENCE)
        number = next(self._numbers)
        try:
            self._asked[number] = child
            self._talk.send(server.REQUEST.pack(number, len(fds) + 1, bound), [payload_fd, *fds])
            self._talk.listen(lambda: number not in self._asked, PATIENCE)
        except BaseException:
            if self._asked.pop(number, None) is not None:
                self._abandon(number, payload_fd)
            raise
        finally:
            self._lock.release()

    def adopt(self, child: Child, number: int) -> None:
        """Hear of one of the brood; as ``start``."""
        if not self._lock.acquire(timeout=PATIENCE):
            raise self._talk.silence(PATIENCE)
        try:
            self._talk.listen(lambda: self._brood.heard(number), PATIENCE)
            self._asked[number] = child
            for answer in self._brood.take(number):
                self.answer(*answer)
        finally:
            self._lock.release()

    def _abandon(self, number: int, payload_fd: int) -> None:
        """Let no child come of a request; one that was forked is killed when we hear of it."""
        payload.give_up(payload_fd)
        self._given_up.add(number)
        try:
            self._talk.listen(lambda: number not in self._given_up, _MOMENT)
        except OSError:
            pass  # it will be said when the server goes on, if it does

    def learn_end(self, known: Callable[[], bool], patience: float = 5.0) -> None:
        """Hear how a child ended whose pidfd shows that it did, until ``known()``."""
        if not self._lock.acquire(timeout=patience):
            return
        try:
            self._talk.listen(known, patience)
        except OSError:
            pass  # nobody can tell
        finally:
            self._lock.release()

    def send_signal(self, pid: int, number: int) -> bool:
        """Have the server send a child of its own a signal; whether it was told to."""
        if not self._lock.acquire(timeout=_BRIEF):
            return False
        try:
            self._talk.send(server.REQUEST.pack(server.SIGNAL, pid, number), [])
        except OSError:
            return False
        finally:
            self._lock.release()
        return True

    def retire(self) -> None:
        """Take no more requests; the server ends once its children have."""
        self._talk.half_close()

    def close(self) -> None:
        """End the server and the children that are bound to this process; bounded."""
        if self._lock.acquire(timeout=_BRIEF):
            try:
                with contextlib.suppress(OSError):  # it was retired: it knows
                    self._talk.send(server.REQUEST.pack(server.END, 0, 0), [])
                self._talk.listen(lambda: False, _BRIEF)  # until it hangs up: how they ended
            except OSError:
                pass
            finally:
                self._lock.release()
        self._finalizer()
        self._brood.close()
        _here.discard(self)  # a forked copy must not close numbers that are others' by now

    def wait(self, timeout: float) -> bool:
        """Wait for the server's end."""
        return not self._talk.open or wait_readable(self.end_fd, timeout)

    def answer(self, what: int, value: int, number: int, pid: int, pidfd: int) -> None:
        """The server says something."""
        if self._brood.note(Answer(what, value, number, pid, pidfd)):
            return
        if what == server.STARTED:
            self._started(number, pid, pidfd)
        elif what == server.FAILED:
            self._given_up.discard(number)
            if self._asked.pop(number, None) is not None:
                raise OSError(value, f"the child could not be forked: {os.strerror(value)}")
        elif what == server.EXITED:
            child = self._children.pop(pid, None)
            if child is not None:
                child.ended(value)

    def _started(self, number: int, pid: int, pidfd: int) -> None:
        child = self._asked.get(number)
        if child is not None and pidfd >= 0:
            self._children[pid] = child
            child.born(pid, pidfd)
            self._asked.pop(number, None)
        elif pid not in self._children:  # its start was given up, or we have no descriptor left
            self._asked.pop(number, None)
            self._given_up.discard(number)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it found that it has nothing to do
            if pidfd < 0:
                raise no_descriptor()
            os.close(pidfd)

    def let_go(self) -> None:
        """In a forked copy of this process: the server is the original's."""
        self._talk.let_go()
        self._brood.close()
        close_all(self.end_fd)
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]


def _pass_on(
    nursery: weakref.ref[Nursery], what: int, value: int, number: int, pid: int, fd: int
) -> None:
    listener = nursery()
    if listener is not None:
        listener.answer(what, value, number, pid, fd)


_fork_server: Nursery | None = None
_fork_server_lock = threading.RLock()


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
    """End the fork server; where children of it still run, it ends after the last of them."""
    global _fork_server
    with _fork_server_lock:
        old, _fork_server = _fork_server, None
    if old is not None:
        old.retire()
        if old.wait(_GRACE):
            old.close()


def _in_child() -> None:
    global _fork_server
    for nursery in list(_here):
        nursery.let_go()
    _here.clear()
    _fork_server = None
    _fork_server_lock._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_in_child)
