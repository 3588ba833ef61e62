"""Bars on a terminal, drawn in place by ``rich``; as plain text where it is not installed.

Rules: all bars of a terminal are drawn together, in one write; the cursor waits behind the last one and is never
hidden, so that a program that is killed leaves nothing to repair. Only ``rich``'s layout is used, not its live
display: that one puts itself in the place of sys.stdout, and has locks. A bar that has ended is left above those
that go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TextIO

from millpond.watch.outlet import descriptor, encodable, put
from millpond.watch.snapshot import Snapshot
from millpond.watch.views import View
from millpond.watch.wording import line, title, words

_WIDEST = 100
"""Columns that a bar takes at most."""
_CUT, _WRAP = "\x1b[?7l", "\x1b[?7h"  # what goes on behind the right margin
_ERASE_LINE, _ERASE_BELOW = "\x1b[K", "\x1b[J"


class Row(NamedTuple):
    """One bar, as it is to be seen."""

    snapshot: Snapshot
    last: bool


Layout = Callable[[Sequence[Row], int], list[str]]
"""Rows, and the columns there are -> a line for each."""


def is_terminal(stream: TextIO) -> bool:
    """Whether bars can be drawn in place on it."""
    fd = descriptor(stream)
    return fd is not None and os.isatty(fd) and os.environ.get("TERM", "dumb") != "dumb"


def bar_on(stream: TextIO) -> View:
    """A new bar on a terminal."""
    terminal = _terminals.get(stream)
    if terminal is None:
        terminal = _terminals.setdefault(stream, Terminal(stream))
    return _Bar(terminal)


class Terminal:
    """The bars of one terminal. Used by one thread at a time."""

    def __init__(self, stream: TextIO, layout: Layout | None = None) -> None:
        self.rows: dict[_Bar, Snapshot] = {}  # of bars that go on
        self.ended: list[Snapshot] = []  # of those that do not
        self.changed = False
        self._stream = stream
        self._layout = layout or best_layout(stream)
        self._height = 0  # lines drawn that go on

    def refresh(self) -> None:
        """Draw what has changed."""
        if not self.changed:
            return
        self.changed = False
        columns, lines = _size(self._stream)
        current = [Row(snapshot, last=False) for snapshot in self.rows.values()]
        shown = [*(Row(snapshot, last=True) for snapshot in self.ended), *current[: lines - 1]]
        above = len(self.ended)
        self.ended = []
        drawn = [text + _ERASE_LINE for text in self._layout(shown, min(columns - 1, _WIDEST))]
        text = "".join(f"{each}\n" for each in drawn[:above]) + "\n".join(drawn[above:])
        back = f"\x1b[{self._height - 1}A" if self._height > 1 else ""
        self._height = len(drawn) - above
        put(self._stream, f"{_CUT}\r{back}{text}{_ERASE_BELOW}{_WRAP}")


class _Bar(View):
    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def show(self, snapshot: Snapshot) -> None:
        self._terminal.rows[self] = snapshot
        self._terminal.changed = True

    def close(self, snapshot: Snapshot) -> None:
        self._terminal.rows.pop(self, None)
        self._terminal.ended.append(snapshot)
        self._terminal.changed = True

    def refresh(self) -> None:
        self._terminal.refresh()


def best_layout(stream: TextIO) -> Layout:
    """That of ``rich``, or the plain one where it is not installed."""
    try:
        return rich_layout(stream)
    except ImportError:
        return plain_layout


def plain_layout(rows: Sequence[Row], width: int) -> list[str]:
    """A line of text for each; the terminal cuts off what is too long."""
    return [line(*row) for row in rows]


def rich_layout(stream: TextIO) -> Layout:
    """Columns with a bar, in colour where the terminal has it. Raises ImportError without ``rich``."""
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Column, Table
    from rich.text import Text

    console = Console(file=stream, force_terminal=True, force_jupyter=False)
    overflow: Literal["ellipsis", "crop"]
    overflow = "ellipsis" if console.encoding.startswith("utf") else "crop"

    def layout(rows: Sequence[Row], width: int) -> list[str]:
        table = Table.grid(
            Column(no_wrap=True, overflow=overflow, max_width=max(width // 3, 8)),
            Column(ratio=1),
            Column(no_wrap=True, overflow=overflow),
            padding=(0, 2, 0, 0),
            expand=True,
        )
        for snapshot, last in rows:
            total, done = _extent(snapshot, last)
            table.add_row(
                Text(encodable(title(snapshot), stream)),
                ProgressBar(total=total, completed=done),
                Text("  ".join(words(snapshot, last))),
            )
        with console.capture() as capture:
            console.print(table, width=width)
        return [text.rstrip() for text in capture.get().splitlines()]

    return layout


def _extent(snapshot: Snapshot, last: bool) -> tuple[int | None, int]:
    """The whole of a bar and what is full of it; None: something moves in it."""
    if snapshot.total is None:
        return (1, 0) if last else (None, 0)
    return (snapshot.total, snapshot.done) if snapshot.total else (1, 1)


def _size(stream: TextIO) -> tuple[int, int]:
    """Columns and lines of the terminal."""
    columns, lines = os.get_terminal_size(stream.fileno())
    return columns or 80, lines or 24  # some do not say


_terminals: dict[TextIO, Terminal] = {}

os.register_at_fork(after_in_child=_terminals.clear)
