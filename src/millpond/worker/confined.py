"""What a worker in a sandbox has open: its channel, its slate, and two pipes for what it prints.

    0   /dev/null        1   a pipe to the program        2   another

The program's terminal and files are not there: who has a terminal open can read what is typed, and change its
modes. Rule: whatever else is open as the worker starts is replaced by /dev/null and not closed, since Python
objects that were copied from the program, or made as modules were loaded, may own the number.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import process
from typing import TYPE_CHECKING, Any

from millpond.system import files, low
from millpond.worker import environment
from millpond.worker.bounded_answers import BoundedAnswers
from millpond.worker.channel import Endpoint, WorkerChannel, private
from millpond.worker.slate import Slate
from millpond.worker.untrusted_records import pack_record

if TYPE_CHECKING:
    from millpond.worker.diverting import Pack
    from millpond.worker.loop import Settings
    from millpond.worker.place import Place

_MOST: int = 1 << 16
"""Descriptors that are looked for where there is no /proc to list them."""


class ConfinedEndpoint(Endpoint):
    """What a worker in a sandbox is given: its end of the channel, its slate, and where it prints to."""

    def open(self) -> tuple[WorkerChannel, Slate, int]:
        """In the worker: take the descriptors over, and let go of all others."""
        fd, page, *pipes = map(private, self.fds)
        _keep_only(fd, page, pipes)
        slate = Slate(page)
        if not files.is_sealed(page):
            _let_go_of_file(page)
        return WorkerChannel(fd), slate, page


def begin(settings: Settings, own: Place) -> tuple[Settings, Pack]:
    """In a worker that begins: take the program's variables out of its environment.

    What it has of settings from now on, and what packs a log record.
    """
    assert settings.sandbox is not None
    environment.reduce(environment.kept(settings.sandbox.environment))
    return settings._replace(place=own, answers=BoundedAnswers), pack_record


def _keep_only(fd: int, page: int, pipes: list[int]) -> None:
    _let_go_of_tracker()
    null = private(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    os.dup2(null, 0)
    for number, pipe in enumerate(pipes, 1):
        os.dup2(pipe, number)
    parent: Any = process.parent_process()
    # Readable once the parent has ended, as that is: the pipe has nobody then who reads from it.
    sentinel = getattr(parent, "_sentinel", None)
    for other in _opened() - {0, 1, 2, fd, page, null, *pipes}:
        os.dup2(2 if other == sentinel else null, other, inheritable=False)
    for other in {null, *pipes}:
        os.close(other)
    # In a copy of the program they may be anything, such as a notebook's.
    sys.stdout, sys.stderr = _stream(1), _stream(2)


def _let_go_of_file(page: int) -> None:
    """Only what is mapped of it stays: who has it open can cut it off, and end the program that looks there.

    The stack of a crash, which would be written there, is lost.
    """
    shared = os.fstat(page)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in _opened():
        if os.path.samestat(os.fstat(fd), shared):
            os.dup2(null, fd, inheritable=False)
    os.close(null)


def _stream(fd: int) -> Any:
    """Line by line: a worker that is killed has sent what it printed."""
    return open(fd, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _let_go_of_tracker() -> None:
    """The resource tracker removes, unrestricted, whatever name it is told of."""
    module: Any = sys.modules.get("multiprocessing.resource_tracker")
    if module is not None:
        tracker = module._resource_tracker
        own, tracker._fd = tracker._fd, None
        if own is not None:
            os.close(own)


def _opened() -> set[int]:
    try:
        listed = set(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        listed = set(range(min(os.sysconf("SC_OPEN_MAX"), _MOST)))
    return set(filter(low.is_open, listed))
