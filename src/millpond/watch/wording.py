"""A snapshot in words, the same on every display."""

from __future__ import annotations

from millpond.errors import escape
from millpond.watch.snapshot import Snapshot


def title(snapshot: Snapshot) -> str:
    """The description, safe to show: it may come from elsewhere."""
    return escape(snapshot.description)


def words(snapshot: Snapshot, last: bool) -> list[str]:
    """All but the description, the most important first; ``last``: there is nothing left to wait for."""
    said: list[str] = []
    if snapshot.total is None:
        said.append(f"{snapshot.done:,} done")
    else:
        said.append(f"{snapshot.done:,}/{snapshot.total:,}")
        said.append(f"{100 * snapshot.done // snapshot.total if snapshot.total else 100}%")
    if snapshot.failed:
        said.append(f"{snapshot.failed:,} failed")
    if snapshot.retried:
        said.append(f"{snapshot.retried:,} retried")
    if last:
        said.append(f"in {duration(snapshot.elapsed)}")
    elif snapshot.eta is not None:
        said.append(f"{duration(snapshot.eta)} left")
    else:
        said.append(f"{duration(snapshot.elapsed)} so far")
    if snapshot.rate > 0:
        said.append(pace(snapshot.rate))
    return said


def line(snapshot: Snapshot, last: bool) -> str:
    """All of it, as one line of text."""
    return f"{title(snapshot)}: {', '.join(words(snapshot, last))}"


def duration(seconds: float) -> str:
    """``"0.4 s"``, ``"12 s"``, ``"3:05"``, ``"2:03:05"`` or ``"3 d 2:03:05"``."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    minutes, left = divmod(int(seconds), 60)
    if not minutes:
        return f"{left} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}:{left:02}"
    days, hours = divmod(hours, 24)
    return f"{f'{days:,} d ' if days else ''}{hours}:{minutes:02}:{left:02}"


def pace(rate: float) -> str:
    """Tasks a second, or a minute or an hour where that is a number to read."""
    unit, count = "s", rate
    if rate < 1:
        unit, count = ("min", 60 * rate) if 60 * rate >= 1 else ("h", 3600 * rate)
    return f"{count:,.0f}/{unit}" if count >= 10 else f"{count:.1f}/{unit}"
