"""The themes put together, by what a backend can honour."""

from __future__ import annotations

from millpond.testing.amounts import NumberTests
from millpond.testing.buffers import LargeDataDeathTests, LargeDataTests
from millpond.testing.callbacks import CallbackTests
from millpond.testing.calls import CallTests, MapTests
from millpond.testing.concurrency import ConcurrencyTests
from millpond.testing.coroutines import (
    ConcurrentCoroutineTests,
    CoroutineTests,
    CoroutineWorkerTests,
)
from millpond.testing.costs import CostTests
from millpond.testing.deaths import DeathTests, IdleDeathTests
from millpond.testing.defiance import DefiantCoroutineTests, DefiantErrorTests
from millpond.testing.endings import AbandonedPoolTests, IdleWorkerTests, StubbornWorkerTests
from millpond.testing.failures import AbortTests, ErrorTests
from millpond.testing.isolation import MixedTravelTests, TravelTests
from millpond.testing.lazy import LazyInBackgroundTests, LazyTests
from millpond.testing.lifecycle import EndingWithWorkTests, LifecycleTests
from millpond.testing.limits import CancelTests, TimeoutTests, TroubleTests
from millpond.testing.logged import LoggingTests
from millpond.testing.nesting import NestingTests
from millpond.testing.options import (
    OnErrorTests,
    OptionTests,
    PauseTests,
    ProgressTests,
    RetryTests,
    SeedTests,
)
from millpond.testing.private_names import PrivateCountTests, PrivateNameTests
from millpond.testing.programs import ProgramTests
from millpond.testing.recycling import InitializerTests, RecyclingTests
from millpond.testing.results import PendingResultTests, ResultTests
from millpond.testing.states import StateTests
from millpond.testing.surroundings import SurroundingsTests


class BackendTests(
    CallTests, MapTests, ErrorTests, DefiantErrorTests, AbortTests, CallbackTests, ResultTests, LazyTests,
    LifecycleTests, OptionTests, RetryTests, OnErrorTests, SeedTests, ProgressTests, LoggingTests,
    CostTests, NumberTests, PrivateNameTests,
):  # fmt: skip
    """For any backend."""


class ConcurrentBackendTests(
    BackendTests, PendingResultTests, LazyInBackgroundTests, EndingWithWorkTests, ConcurrencyTests,
    NestingTests, PauseTests, CoroutineTests, ConcurrentCoroutineTests, PrivateCountTests,
    DefiantCoroutineTests,
):  # fmt: skip
    """For backends whose tasks run beside the caller."""


class IsolatedBackendTests(
    ConcurrentBackendTests, TravelTests, MixedTravelTests, LargeDataTests, StateTests
):  # fmt: skip
    """For backends whose tasks run in other processes."""


class ProcessBackendTests(
    IsolatedBackendTests, DeathTests, IdleDeathTests, RecyclingTests, InitializerTests,
    StubbornWorkerTests, IdleWorkerTests, AbandonedPoolTests, ProgramTests, SurroundingsTests,
    TimeoutTests, TroubleTests, CancelTests, CoroutineWorkerTests, LargeDataDeathTests,
):  # fmt: skip
    """For backends whose workers are this machine's processes, started by the pool."""
