"""Whether this process may be forked although it has other threads: only where each is seen to be at rest.

A thread is at rest when it lies in a wait that is known to hold nothing (``parked``), when no lock of Python's is
held that could be its own, and when the kernel says that it has slept from before the look until after the fork.
All that a copy of the process misses then is threads that wait.

    rest = watch.look()    raises Unrest, which says who may hold a lock
    pid = os.fork()        the copy waits until it hears that it may go on
    rest.awake()           whoever was awake meanwhile: then the copy is thrown away

Rules: in doubt a thread is not at rest; nothing of the program's own runs during the look.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import types
from collections.abc import Iterable, Iterator
from typing import Final

OWN: Final = ("millpond-caretaker", "millpond-deadlines", "millpond-end")
"""How threads of ours are called that hold no lock across a fork but ``parking.FORSAKEN``; others run any code."""


class Unrest(Exception):
    """This process is not to be forked; the names of the threads that may hold a lock."""


def present() -> bool:
    """Whether there are threads to look at."""
    return bool(_others()) or _strangers()


def _others() -> list[threading.Thread]:
    current = threading.current_thread()
    return [
        thread
        for thread in threading.enumerate()
        if thread is not current and not thread.name.startswith(OWN)
    ]


def _strangers() -> bool:
    """Whether there are threads with frames of Python that the module threading does not know."""
    return not _frames().keys() <= {thread.ident for thread in threading.enumerate()}


def _frames() -> dict[int, types.FrameType]:
    """What the other threads do. Without this one's, which would refer to it and keep all alive."""
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    return frames


class Rest:
    """That all lie still; until when, ``awake`` says."""

    def __init__(self, threads: Iterable[threading.Thread]) -> None:
        self._sleep = {thread: _sleep(thread) for thread in threads}
        restless = [thread for thread, sleep in self._sleep.items() if sleep is None]
        if restless:
            raise Unrest(name(restless))

    def awake(self) -> str:
        """The names of those that have been awake since."""
        return name(thread for thread, sleep in self._sleep.items() if sleep != _sleep(thread))


class Watch:
    """Looks at the other threads, again and again for ``patience`` seconds; the first look takes longest."""

    def __init__(self, patience: float) -> None:
        from millpond.backends.processes.starting import parked

        self._is_parked = parked.is_parked
        self._locks = parked.Locks()
        self._patience = patience

    def attempts(self) -> Iterator[None]:
        """For as long as it makes sense to look again: some are awake only now and then."""
        deadline, pause = time.monotonic() + self._patience, 0.0005
        while True:
            yield
            if time.monotonic() > deadline:
                return
            time.sleep(pause)
            pause = min(2 * pause, 0.005)

    def look(self) -> Rest:
        """At what they do at this moment. Raises Unrest."""
        threads = _others()
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise Unrest(name(threads))
        self._see(threads)  # what is remembered of it makes the moment that counts short
        rest = Rest(threads)
        frames = self._see(threads)
        if _strangers():
            raise Unrest("threads that the module threading does not know")
        if self._locks.is_one_held(frames):
            raise Unrest(name(threads))
        return rest

    def _see(self, threads: Iterable[threading.Thread]) -> dict[int, types.FrameType]:
        frames = _frames()
        restless = [one for one in threads if not self._is_parked(frames.get(one.ident or 0))]
        if restless:
            raise Unrest(name(restless))
        return frames


def name(threads: Iterable[threading.Thread]) -> str:
    """Their names, for a person."""
    return ", ".join(thread.name for thread in threads)


def _sleep(thread: threading.Thread) -> tuple[bytes, ...] | None:
    """What changes when the thread is awake for a moment, or None if it is awake, or that cannot be told."""
    # Of a process that was forked, the main thread's number may be its parent's still.
    number = os.getpid() if thread is threading.main_thread() else thread.native_id
    try:
        with open(f"/proc/self/task/{number}/status", "rb") as status:
            lines = status.read().splitlines()
    except OSError:
        return None
    switches = tuple(line for line in lines if b"ctxt_switches" in line)
    asleep = any(line.startswith(b"State:\tS") for line in lines)
    return switches if asleep and switches else None
