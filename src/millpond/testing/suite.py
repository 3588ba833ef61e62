"""What every theme of the conformance suite builds on: a pool to test, and a limit for each test.

Rules: a test makes its own pools, through `make_pool` only, so that each test can be checked for
leaks by itself; a test that hangs ends the run, with every thread's stack (`TIME_LIMIT`); nothing sleeps
to wait.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from millpond import Pool

TIME_LIMIT = float(os.environ.get("MILLPOND_TEST_TIME_LIMIT", "60"))
"""Seconds after which a test of this suite is taken to hang, and the run ends."""

SOON = 20.0
"""Seconds in which whatever should happen at once must have happened, on a busy machine too."""


class Suite:
    """Give `make_pool`; the themes do the rest."""

    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        """A new pool of the backend under test; `options` are the constructor's others."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _ends_in_time(self) -> Iterator[None]:
        # No signal handler and no thread in Python: both would change how a pool works.
        faulthandler.dump_traceback_later(TIME_LIMIT, exit=True, file=sys.__stderr__ or 2)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.fixture
    def pool(self) -> Iterator[Pool]:
        """A pool of two workers, terminated and joined after the test."""
        pool = self.make_pool(2)
        try:
            yield pool
        finally:
            pool.terminate()
            pool.join()
