"""The real engine over simulated workers passes the public conformance suite, too."""

from __future__ import annotations

import os
from typing import Any

from millpond import Pool
from millpond.testing import BackendTests, tasks
from millpond.testing.isolation import MixedTravelTests, TravelTests
from millpond.testing.simulation_pool import SimulatedPool


class TestSimulated(BackendTests, TravelTests, MixedTravelTests):
    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return SimulatedPool(processes, **options)

    def test_tasks_run_in_other_processes(self, pool: Pool) -> None:
        """A simulated process is a thread of this one."""
        assert set(pool.map(tasks.pid, range(20))) == {os.getpid()}
