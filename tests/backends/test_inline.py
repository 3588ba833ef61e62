"""The contract in the caller's own thread."""

from typing import Any

from millpond import Pool
from millpond.testing import BackendTests
from millpond.testing.coroutines import CoroutineTests
from millpond.testing.defiance import DefiantCoroutineTests


class TestInline(BackendTests, CoroutineTests, DefiantCoroutineTests):
    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return Pool(processes, backend="inline", **options)
