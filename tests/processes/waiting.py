"""Conditions that tests wait for, each with a limit at which the test fails; and small programs."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT = 30.0


def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {condition}")
        time.sleep(0.002)


def ends(pidfd: int, limit: float) -> bool:
    """Say whether the process behind the pidfd ends within the limit."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(limit * 1000))


@contextmanager
def program(folder: Path, text: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script, its output to be read; it is killed at the end."""
    script = folder / "program.py"
    script.write_text(text)
    with subprocess.Popen(
        [sys.executable, str(script), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def says(running: subprocess.Popen[str]) -> list[str]:
    """The words of the next line that the program prints."""
    assert running.stdout is not None
    line = running.stdout.readline()
    assert line, "the program ended without a word"
    return line.split()


def watched(pids: list[str]) -> list[int]:
    """A pidfd of each; the caller closes them."""
    return [os.pidfd_open(int(pid)) for pid in pids]
