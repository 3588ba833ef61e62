"""What is raised between two tasks of a worker, by a handler that an earlier one left behind.

It is nobody's outcome. It is shown on stderr, and the loop goes on with what it had in its hand. Where nothing
gets done in between, again and again, it is a fault of the loop itself, and ends the worker.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final, NamedTuple

from millpond.worker.raised import set_trace

_MOST: Final = 100
"""Times in a row that it may be raised without anything being done."""
_SHOWN: Final = 10
"""Of a worker, at most."""


_HEADING: Final = (
    "Exception ignored between two tasks: it was raised by a handler that a task has left behind"
)


class Hand(NamedTuple):
    """What had come of the tasks from ``seq`` on, and may not have been kept: results, then what one raised."""

    seq: int
    results: list[Any]
    error: BaseException | None
    skip: int


class Strays:
    """See the module."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._done: object = None
        self._idle = 0  # of these so far, since something was done
        self._count = 0

    def take(self, stray: BaseException, done: object, torn: bool) -> None:
        """Show it, or raise it again if it ends the worker.

        ``done`` changes when something gets done; ``torn``: how much was read is not known.
        """
        if os.getpid() != self._pid:
            os._exit(0)  # a copy that a task forked: the original goes on
        self._idle = self._idle + 1 if done == self._done else 0
        self._done = done
        if torn or self._idle > _MOST:
            raise stray
        self._count += 1
        try:
            if self._count <= _SHOWN:
                _show(stray)
        except BaseException:
            pass  # what the program has made of stderr may raise anything, and handlers may again
        set_trace(stray, None)


def _show(stray: BaseException) -> None:
    import traceback

    text = "".join(traceback.format_exception(stray))
    sys.stderr.write(f"{_HEADING}\n{text}")
