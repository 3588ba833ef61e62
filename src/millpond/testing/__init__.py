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

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millpond.testing.backend_tests import BackendTests as BackendTests
    from millpond.testing.backend_tests import ConcurrentBackendTests as ConcurrentBackendTests
    from millpond.testing.backend_tests import IsolatedBackendTests as IsolatedBackendTests
    from millpond.testing.backend_tests import ProcessBackendTests as ProcessBackendTests

__all__ = [
    "BackendTests",
    "ConcurrentBackendTests",
    "IsolatedBackendTests",
    "ProcessBackendTests",
]

_WITH_ASSERTIONS = [
    "calls", "callbacks", "concurrency", "coroutines", "deaths", "defiance", "endings", "failures", "isolation",
    "lazy", "lifecycle", "limits", "options", "programs", "recycling", "results", "states", "suite",
    "surroundings",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # On first use: a worker that imports the functions of `tasks` should not pay for pytest.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    # Before they are imported, so that their assertions explain themselves.
    modules = [f"{__name__}.{module}" for module in _WITH_ASSERTIONS]
    pytest.register_assert_rewrite(*[each for each in modules if each not in sys.modules])
    return getattr(importlib.import_module(f"{__name__}.backend_tests"), name)
