"""Where snapshots go: the user's callable, lines of text, or what draws in place.

Rules: a view is called by one thread at a time; it may raise, and is then not called again.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TextIO

from millpond.watch.outlet import put
from millpond.watch.snapshot import Snapshot
from millpond.watch.wording import line

_FIRST = 5.0
"""Seconds until the first line of text; a job that takes less is one line."""
_GROWTH = 1.5
_LONGEST = 60.0
"""Seconds between lines, at most."""


class View:
    """Shows a job's snapshots; this one shows nothing."""

    def show(self, snapshot: Snapshot) -> None:
        """The job has changed, or a second has passed."""

    def close(self, snapshot: Snapshot) -> None:
        """This is the last snapshot."""

    def refresh(self) -> None:
        """All jobs have been looked at: draw what is drawn together."""


class Told(View):
    """The user's callable, called in the context of the call whose job it watches."""

    def __init__(self, told: Callable[[Snapshot], object]) -> None:
        self._told = told
        self._context = contextvars.copy_context()

    def show(self, snapshot: Snapshot) -> None:
        self._context.run(self._told, snapshot)

    close = show


class Lines(View):
    """A line of text now and then, the more seldom the longer it takes, and one at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pause = _FIRST
        self._next = _FIRST

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.elapsed >= self._next:
            self._pause = min(self._pause * _GROWTH, _LONGEST)
            self._next = snapshot.elapsed + self._pause
            put(self._stream, line(snapshot, last=False) + "\n")

    def close(self, snapshot: Snapshot) -> None:
        put(self._stream, line(snapshot, last=True) + "\n")
