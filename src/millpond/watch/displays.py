"""Which of the views is the right one: what the caller's surroundings can show."""

from __future__ import annotations

import sys
from typing import TextIO

from millpond.watch.notebook import NotebookBar, in_notebook
from millpond.watch.terminal import bar_on, is_terminal
from millpond.watch.views import Lines, View


def best_view() -> View:
    """A bar in a notebook or on a terminal, else lines on stderr; nothing where there is no stderr.

    Called by the caller's own thread: what is imported for it is whole when the program forks.
    """
    if in_notebook():
        return NotebookBar()
    stream: TextIO | None = sys.stderr
    if stream is None:
        return View()
    return bar_on(stream) if is_terminal(stream) else Lines(stream)
