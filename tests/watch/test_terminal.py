"""What stands on a terminal after each drawing. A small model of one reads what was written."""

from __future__ import annotations

import io
import os
import re
import sys
import termios
from collections.abc import Iterator

import pytest

from millpond.watch import displays, terminal
from millpond.watch.snapshot import Snapshot
from millpond.watch.terminal import Terminal, is_terminal, plain_layout, rich_layout
from millpond.watch.views import Lines, View
from tests.watch.jobs import snapshot

CODES = re.compile(r"\x1b\[(\?7[lh]|\d*[AKJm])|[\r\n]|[^\x1b\r\n]")


class Screen:
    """A pseudo-terminal, and what a person would see on it."""

    def __init__(self, columns: int = 80, lines: int = 24, encoding: str = "utf-8") -> None:
        self._reader, writer = os.openpty()
        termios.tcsetwinsize(writer, (lines, columns))
        self.stream = io.TextIOWrapper(io.FileIO(writer, "w"), encoding, "backslashreplace")
        self._columns = columns
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0
        self._wraps = True

    def close(self) -> None:
        self.stream.close()
        os.close(self._reader)

    def seen(self) -> list[str]:
        """Every line, as of now."""
        written = self.written()
        assert CODES.sub("", written) == "", "written and not known to this model"
        for code in CODES.finditer(written):
            self._obey(code[0])
        return ["".join(line).rstrip() for line in self._lines]

    def written(self) -> str:
        """What was written since this was asked last. A bell marks the end, as it comes by and by."""
        os.write(self.stream.fileno(), b"\a")
        data = b""
        while not data.endswith(b"\a"):
            data += os.read(self._reader, 1 << 16)
        return data[:-1].decode(self.stream.encoding)

    def _obey(self, code: str) -> None:
        line = self._lines[self._row]
        if code == "\r":
            self._column = 0
        elif code == "\n":
            self._down()
        elif code == "\x1b[K":
            del line[self._column :]
        elif code == "\x1b[J":
            del line[self._column :], self._lines[self._row + 1 :]
        elif code.startswith("\x1b[?7"):
            self._wraps = code.endswith("h")
        elif code.endswith("A") and code.startswith("\x1b"):
            self._row = max(self._row - int(code[2:-1] or 1), 0)
        elif not code.startswith("\x1b"):
            self._write(code)

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._lines):
            self._lines.append([])

    def _write(self, character: str) -> None:
        if self._column >= self._columns:
            if self._wraps:
                self._down()
                self._column = 0
            else:
                self._column = self._columns - 1
        line = self._lines[self._row]
        line.extend(" " * (self._column + 1 - len(line)))
        line[self._column] = character
        self._column += 1


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.close()


def bars(screen: Screen, count: int) -> tuple[Terminal, list[View]]:
    drawn = Terminal(screen.stream, plain_layout)
    return drawn, [terminal._Bar(drawn) for _ in range(count)]


def draw(bar: View, *counts: int, last: bool = False, name: str = "squares") -> None:
    seen = snapshot(*counts, description=name)
    (bar.close if last else bar.show)(seen)
    bar.refresh()


def test_a_bar_is_drawn_over_itself_and_the_next_line_is_below_it(screen: Screen) -> None:
    _, (bar,) = bars(screen, 1)
    draw(bar, 999, 1000)
    assert screen.seen() == ["squares: 999/1,000, 99%, 12 s so far"]
    draw(bar, 1000, 1000, last=True)
    screen.stream.write("next\n")
    screen.stream.flush()
    assert screen.seen() == ["squares: 1,000/1,000, 100%, in 12 s", "next", ""]


def test_several_bars_are_drawn_together_and_each_is_left_where_it_ended(screen: Screen) -> None:
    _, (one, two, three) = bars(screen, 3)
    for bar, name in ((one, "one"), (two, "two"), (three, "three")):
        draw(bar, 1, 4, name=name)
    draw(two, 2, 4, name="two")
    assert [text[:10] for text in screen.seen()] == ["one: 1/4, ", "two: 2/4, ", "three: 1/4"]
    draw(two, 4, 4, last=True, name="two")
    assert [text[:10] for text in screen.seen()] == ["two: 4/4, ", "one: 1/4, ", "three: 1/4"]
    draw(three, 4, 4, last=True, name="three")
    draw(one, 4, 4, last=True, name="one")
    assert screen.seen() == [
        "two: 4/4, 100%, in 12 s",
        "three: 4/4, 100%, in 12 s",
        "one: 4/4, 100%, in 12 s",
        "",
    ]


def test_nothing_is_written_while_nothing_changes(screen: Screen) -> None:
    drawn, (one, two) = bars(screen, 2)
    one.show(snapshot(1, 2))
    two.show(snapshot(1, 2))
    one.refresh()
    assert screen.written().count("squares") == 2
    two.refresh()
    drawn.refresh()
    assert screen.written() == ""


def test_no_more_bars_than_fit() -> None:
    screen = Screen(lines=4)
    _, many = bars(screen, 6)
    for bar in many:
        bar.show(snapshot(1, 2))
    many[0].refresh()
    assert len(screen.seen()) == 3
    for bar in many:
        bar.close(snapshot(2, 2))
    many[0].refresh()
    assert screen.seen() == ["squares: 2/2, 100%, in 12 s"] * 6 + [""]
    screen.close()


@pytest.mark.parametrize("layout", ["plain", "rich"])
@pytest.mark.parametrize("name", ["squares", "a description that is far too long for this"])
def test_a_narrow_terminal_keeps_one_line_for_each(layout: str, name: str) -> None:
    screen = Screen(columns=24)
    drawn = Terminal(screen.stream, plain_layout if layout == "plain" else None)
    bar = terminal._Bar(drawn)
    draw(bar, 1, 4, name=name)
    draw(bar, 2, 4, name=name)
    assert len(screen.seen()) == 1
    draw(bar, 4, 4, name=name, last=True)
    (text, rest) = screen.seen()
    assert text.startswith(name[:4])
    assert (len(text) <= 24, rest) == (True, "")
    screen.close()


# With rich ----------------------------------------------------------------------------------------


def rows(*snapshots: Snapshot, last: bool = False) -> list[terminal.Row]:
    return [terminal.Row(each, last) for each in snapshots]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text)


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("colours")
def test_rich_draws_a_bar_between_the_description_and_the_counts(screen: Screen) -> None:
    half, done = snapshot(50, 100, rate=5, eta=10), snapshot(100, 100, description="[red]cubes")
    one, two = rich_layout(screen.stream)(rows(half, done), 60)
    assert "\x1b[" in one
    assert plain(one).split() == [
        "squares",
        "━━━━━━━━╸━━━━━━━━",
        "50/100",
        "50%",
        "10",
        "s",
        "left",
        "5.0/s",
    ]
    assert plain(two).split()[:3] == ["[red]cubes", "━" * 17, "100/100"]


@pytest.mark.usefixtures("colours")
def test_without_colours_where_they_are_not_wanted(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    (one,) = rich_layout(screen.stream)(rows(snapshot(50, 100)), 60)
    assert plain(one) == one


def test_only_characters_that_the_terminal_has() -> None:
    screen = Screen(encoding="ascii")
    (one,) = rich_layout(screen.stream)(rows(snapshot(5, 10, description="Größe" * 9)), 60)
    assert one.isascii()
    assert len(plain(one)) <= 60
    assert "--" in one
    screen.close()


def test_wide_characters_keep_the_columns(screen: Screen) -> None:
    wide, narrow = rich_layout(screen.stream)(
        rows(snapshot(5, 10, description="日本語"), snapshot(5, 10)), 60
    )
    assert plain(wide).index("5/10") + 3 == plain(narrow).index("5/10")


@pytest.mark.parametrize(
    ("seen", "last", "full"),
    [
        (snapshot(0, 0), True, 1.0),
        (snapshot(3, None), True, 0.0),
        (snapshot(3, 4), True, 0.75),
        (snapshot(3, None), False, None),
    ],
)
def test_how_full_a_bar_is(seen: Snapshot, last: bool, full: float | None) -> None:
    total, done = terminal._extent(seen, last)
    assert (None if total is None else done / total) == full


def test_without_rich_it_is_text(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert terminal.best_layout(screen.stream) is plain_layout


# Which display ------------------------------------------------------------------------------------


def test_bars_are_for_terminals_that_can_be_drawn_on(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(screen.stream)
    monkeypatch.setattr(sys, "stderr", screen.stream)
    assert isinstance(displays.best_view(), terminal._Bar)
    assert displays.best_view()._terminal is displays.best_view()._terminal  # type: ignore[attr-defined]
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(screen.stream)
    assert isinstance(displays.best_view(), Lines)
    monkeypatch.delenv("TERM")
    assert not is_terminal(screen.stream)
    terminal._terminals.clear()


def test_without_stderr_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert type(displays.best_view()) is View


def test_a_closed_stderr_is_no_terminal(screen: Screen) -> None:
    screen.stream.close()
    assert not is_terminal(screen.stream)
