"""Functions that the scenarios send to workers, beside those of ``millpond.testing``."""

from __future__ import annotations

import os
import time
from typing import Any

from millpond.testing import tasks


def jot(path: str, x: int) -> int:
    """Note the number in the journal."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, b"%d\n" % x)
    finally:
        os.close(fd)
    return x


def jot_row(row: tuple[str, int]) -> int:
    return jot(*row)


def jot_and_die_on(path: str, x: int, bad: int, how: str) -> int:
    jot_slowly(path, x)
    return tasks.die_on(x, bad, how)


def jot_and_die_row(row: tuple[str, int, int, str]) -> int:
    return jot_and_die_on(*row)


def jot_slowly(path: str, x: int, payload: Any = None) -> int:
    """Take longer than sending an outcome does, so that no other task shares its fate."""
    jot(path, x)
    end = time.monotonic_ns() + 60_000
    while time.monotonic_ns() < end:
        pass
    return x


def jot_slowly_row(row: tuple[Any, ...]) -> int:
    return jot_slowly(*row)


_journal = ""


def keep_journal(path: str) -> None:
    """An initializer: where ``jot_here`` notes."""
    global _journal
    _journal = path


def jot_here(x: int) -> int:
    return jot_slowly(_journal, x)


def jot_and_return(path: str, x: int, payload: Any) -> tuple[int, Any]:
    return jot_slowly(path, x), payload
