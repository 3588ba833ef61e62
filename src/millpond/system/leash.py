"""A leash: the kernel kills whoever took it once its holder lets go, or ends in any way, or runs another program.

It is a pipe. Its holder has the writing end alone; who takes it asks for SIGKILL as the signal that tells of
something to read (Linux: F_SETSIG, and a file description of its own by way of /proc). Unlike PR_SET_PDEATHSIG
it outlasts a change of user and sees ``exec``, and unlike ``kill`` it needs no right to send signals.

Where the system cannot do this, ``take`` says so, and the other ways have to do.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import weakref

from millpond.system import files, refusals

TIE = "millpond_tie"
"""Where a process whose children are to be on its leash has what sees to that, in its configuration."""

_F_SETSIG = 10
_held: weakref.WeakSet[Leash] = weakref.WeakSet()


class Leash:
    """Its holder's side. Raises OSError."""

    def __init__(self) -> None:
        self.end, self._held = os.pipe()
        _held.add(self)

    def give(self) -> None:
        """Whoever it is for has its end now."""
        end, self.end = self.end, -1
        if end >= 0:
            os.close(end)

    def let_go(self) -> None:
        """Who took it is killed; the second time it does nothing."""
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)
        self.give()
        _held.discard(self)

    def forget(self) -> None:
        """In a copy of the holder, which must not hold it."""
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)


def take(end: int) -> bool:
    """From now on this process is killed when the holder lets go, now if it has; False where that cannot be.

    ``end`` is closed.
    """
    try:
        # The signal is the file description's, which the copies of a holder share.
        own = os.open(f"/proc/self/fd/{end}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        refusals.note(
            "leash", "a program that runs another by exec leaves its spawned workers behind"
        )
        return False
    finally:
        os.close(end)
    own = files.private(own)
    try:
        fcntl.fcntl(own, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(own, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    except (OSError, AttributeError):
        os.close(own)
        return False
    poll = select.poll()
    poll.register(own, select.POLLIN)
    if poll.poll(0):
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def _in_child() -> None:
    for leash in list(_held):
        leash.forget()
    _held.clear()


os.register_at_fork(after_in_child=_in_child)
