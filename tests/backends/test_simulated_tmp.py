from typing import Any
from millpond import Pool
from millpond.testing import BackendTests
from millpond.testing.simulation_pool import SimulatedPool

class TestSimulated(BackendTests):
    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return SimulatedPool(processes, **options)
