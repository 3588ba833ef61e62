"""The whole contract on processes started by fork."""

from typing import Any

from millpond import Pool
from millpond.testing import ProcessBackendTests


class TestFork(ProcessBackendTests):
    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return Pool(processes, start_method="fork", **options)
