"""Executors with the constructors of `concurrent.futures`', each on a pool of its own, which it ends.

CPython's tests of executors make their own; `install` puts these in the place of the standard
library's, in this process only. Nothing else of the contract is here: it is PoolExecutor's.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
from collections.abc import Callable, Iterable
from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
from typing import Any

from millpond import Pool
from millpond.executor import PoolExecutor


class OwningExecutor(PoolExecutor):
    """Whose pool ends with it."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._pool.close()
        if wait:
            self._pool.join()


class NoQueue:
    """There is no queue, and so no thread of one."""

    @staticmethod
    def join_thread() -> None:
        pass


class ProcessPoolExecutor(OwningExecutor):
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        super().__init__(Pool(max_workers, initializer, initargs, max_tasks_per_child, mp_context))

    # What CPython's tests look at to see that all has ended.

    @property
    def _executor_manager_thread(self) -> Any:
        return self.engine.life.seat._caretaker

    @property
    def _call_queue(self) -> Any:
        return NoQueue

    @property
    def _processes(self) -> dict[int, Any]:
        return {process.pid: process for process in self._pool._pool}


class ThreadPoolExecutor(OwningExecutor):
    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(Pool(max_workers, initializer, initargs, backend="threads"))

    @property
    def _threads(self) -> list[Any]:
        return self._pool._pool


def install() -> None:
    """Put them in the place of the standard library's, before CPython's tests look."""
    futures: Any = concurrent.futures
    futures.ProcessPoolExecutor = ProcessPoolExecutor
    futures.ThreadPoolExecutor = ThreadPoolExecutor
    # What is called differently: the cause of a remote exception.
    futures.process._RemoteTraceback = RemoteTraceback
