"""Ends a program that was started as the leader of a session, with all that it left there."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

PATIENCE = 5.0
"""Seconds for what outlives its program by design: a resource tracker unlinks semaphores then."""


def end(leader: subprocess.Popen[Any]) -> None:
    """Let the session end by itself if its leader has; kill what is left of it."""
    if leader.poll() is not None:
        deadline = time.monotonic() + PATIENCE
        while _alive(leader.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    leader.wait()


def _alive(session: int) -> bool:
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True
