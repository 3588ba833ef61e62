"""The contract on threads, which cannot be killed."""

from typing import Any

from millpond import Pool
from millpond.testing import ConcurrentBackendTests


class TestThreads(ConcurrentBackendTests):
    kills_workers = False

    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return Pool(processes, backend="threads", **options)
