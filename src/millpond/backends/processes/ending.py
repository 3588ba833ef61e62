"""Ending processes within a bound: TERM, CONT, wait, KILL."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Sequence
from typing import Any

_AFTER_KILL = 0.5
"""Seconds for the kernel to end a process that was sent SIGKILL."""
PARTING = 0.3
"""Seconds that a process which was asked to leave has for that before SIGTERM, at most."""


def end_all(processes: Sequence[Any], grace: float, leaving: Sequence[Any] = ()) -> None:
    """End the processes. ``leaving``: those that were asked to leave, and get SIGTERM a moment later if they stay.

    Those that have not gone after ``grace`` seconds get SIGKILL. What a foreign context calls a process may have
    neither a sentinel nor ``kill``: it is asked to end.
    """
    limit = time.monotonic() + grace
    _terminate([process for process in processes if process not in leaving])
    _await(leaving, min(PARTING, grace))
    _terminate(leaving)
    _await(processes, limit - time.monotonic())
    left = [p for p in processes if hasattr(p, "sentinel") and p.is_alive()]
    for process in left:
        process.kill()
    _await(left, _AFTER_KILL)
    for process in processes:
        process.join(_AFTER_KILL) if hasattr(process, "sentinel") else process.join()


def _terminate(processes: Sequence[Any]) -> None:
    for process in processes:
        with contextlib.suppress(PermissionError):  # it can only be killed
            process.terminate()
            _continue(process)


def signal_process(process: Any, number: int) -> None:
    """Send a running process a signal, if need be by whoever forked it. Raises OSError."""
    try:
        os.kill(process.pid, number)
    except PermissionError:
        popen = getattr(process, "_popen", None)
        if popen is None:
            raise
        popen._send_signal(number)


def _continue(process: Any) -> None:
    """A stopped process does not see SIGTERM before it goes on."""
    pid = getattr(process, "pid", None)
    if pid is not None and process.is_alive():
        with contextlib.suppress(ProcessLookupError):
            signal_process(process, signal.SIGCONT)


def _await(processes: Sequence[Any], seconds: float) -> None:
    """Until all have ended or the time is over."""
    limit = time.monotonic() + seconds
    running = {p.sentinel for p in processes if hasattr(p, "sentinel")}
    poll = select.poll()  # multiprocessing.connection, which has this, imports twenty modules
    for sentinel in running:
        poll.register(sentinel, select.POLLIN)
    while running:
        left = limit - time.monotonic()
        for sentinel, _ in poll.poll(max(left, 0) * 1000):
            poll.unregister(sentinel)
            running.discard(sentinel)
        if left <= 0:
            return
