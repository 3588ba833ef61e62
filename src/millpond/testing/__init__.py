"""The conformance suite: what every millpond backend must do, as a pytest class to subclass.

    from millpond import Pool
    from millpond.testing import ProcessBackendTests

    class TestSpawn(ProcessBackendTests):
        def make_pool(self, processes=2, **options):
            return Pool(processes, start_method="spawn", **options)

Four classes, each with all of the one before; take the last that a backend can honour:

  BackendTests             any backend, the caller's own thread included
  ConcurrentBackendTests   tasks run beside the caller and beside each other
  IsolatedBackendTests     tasks run in other processes: arguments and results are pickled
  ProcessBackendTests      those processes are this machine's, and the pool's own: pids, signals

Needs pytest.
"""

import pytest

# Before the modules with the assertions are imported, so that theirs explain themselves too.
pytest.register_assert_rewrite(*[
    f"millpond.testing.{name}"
    for name in [
        "calls", "callbacks", "concurrency", "deaths", "endings", "failures", "isolation", "lazy",
        "lifecycle", "programs", "recycling", "results", "suite", "surroundings",
    ]
])  # fmt: skip

from millpond.testing.backend_tests import (  # noqa: E402
    BackendTests,
    ConcurrentBackendTests,
    IsolatedBackendTests,
    ProcessBackendTests,
)

__all__ = [
    "BackendTests",
    "ConcurrentBackendTests",
    "IsolatedBackendTests",
    "ProcessBackendTests",
]
