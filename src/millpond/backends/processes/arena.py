"""This program's file of the arena, which the workers of all its pools read, and its ``empty`` arrays lie in."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cache
from typing import Final

from millpond.system import low
from millpond.worker import memory
from millpond.worker.lending import Lending
from millpond.worker.segments import open_file

_KEPT: Final = 1 << 30
"""Bytes whose pages are kept while they are free, at most: such are written to several times faster. Half of it
for arguments, and all of it for the results of a pool."""
_OF_ALL: Final = 16
"""It is no more than this part of all memory."""
_LEAST: Final = 1 << 26
"""Of results, for one worker."""

_changing = (
    threading.RLock()
)  # garbage collection may make a pool, or end one, while this thread has it
_current: weakref.ref[Shared] | None = None


def kept_of_results(workers: int) -> int:
    """Bytes of results whose pages are kept for each worker while they are free."""
    return max(_kept() // workers, _LEAST)


@cache
def _kept() -> int:
    found = memory.look()
    return _KEPT if found is None else min(_KEPT, found.total // _OF_ALL)


class Shared(Lending):
    """The file, with its descriptor and its users."""

    def __init__(self) -> None:
        self.fd = open_file()
        super().__init__(self.fd, _kept() // 2)
        self.users = 0

    def close(self) -> None:
        """No more of it; the second time it does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            super().close()
            os.close(fd)

    def __del__(self, _over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _over():  # then this module may have been cleared
            self.close()


def current() -> Shared:
    """The one of this process, made for the first who asks. It is closed when nobody holds it any more."""
    with _changing:
        return _found()


def join() -> Shared:
    """The same for a pool, which has to ``leave``."""
    with _changing:
        low.hold()
        try:
            shared = _found()
        except BaseException:
            low.release()
            raise
        shared.users += 1
        return shared


def _found() -> Shared:
    global _current
    shared = None if _current is None else _current()
    if shared is None or shared.fd < 0:
        shared = Shared()
        _current = weakref.ref(shared)
    return shared


def leave(shared: Shared) -> None:
    """A pool has ended. With the last one it is closed, unless there are arrays in it."""
    with _changing:
        low.release()
        shared.users -= 1
        if not shared.users and not shared.owns:
            shared.close()


def _in_child() -> None:
    """A copy of this process has no part in its file."""
    global _current
    shared = None if _current is None else _current()
    if shared is not None:
        shared.close()
    _current = None
    _changing._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_in_child)
