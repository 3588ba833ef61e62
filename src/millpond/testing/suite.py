"""What every theme of the conformance suite builds on: a pool to test, and a limit for each test.

Rules: a test makes its own pools, through `make_pool` only, so that each test can be checked for
leaks by itself; a test that would hang fails instead (`TIME_LIMIT`); nothing sleeps to wait.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from millpond import Pool

TIME_LIMIT = float(os.environ.get("MILLPOND_TEST_TIME_LIMIT", "60"))
"""Seconds after which a test of this suite is taken to hang, and fails."""

SOON = 20.0
"""Seconds in which whatever should happen at once must have happened, on a busy machine too."""


def _too_late(_signum: int, frame: FrameType | None) -> None:
    place = "" if frame is None else f" in {frame.f_code.co_filename}:{frame.f_lineno}"
    pytest.fail(f"the test hangs: {TIME_LIMIT} s are over{place}")


class Suite:
    """Give `make_pool`; the themes do the rest."""

    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        """A new pool of the backend under test; `options` are the constructor's others."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _ends_in_time(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, _too_late)
        started = time.monotonic()
        # Again and again: what ends the test may hang as well.
        left, _ = signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT, TIME_LIMIT / 3)
        try:
            yield
        finally:
            # Whoever had this timer (pytest-timeout does) gets back what is left of it.
            if left:
                left = max(left - (time.monotonic() - started), 0.001)
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, left)

    @pytest.fixture
    def pool(self) -> Iterator[Pool]:
        """A pool of two workers, terminated and joined after the test."""
        pool = self.make_pool(2)
        try:
            yield pool
        finally:
            pool.terminate()
            pool.join()
