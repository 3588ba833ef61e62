"""The whole contract on processes started by spawn."""

from typing import Any

from millpond import Pool
from millpond.testing import ProcessBackendTests


class TestSpawn(ProcessBackendTests):
    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return Pool(processes, start_method="spawn", **options)
