"""Who only looks, from any thread and at any moment, is never hurt: ``info()``, reprs, states of results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import millpond
from millpond import Pool, WorkerDied
from millpond.testing.tasks import square

PATIENCE = 60.0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def look(pool: Pool, results: list[Any]) -> None:
    """Ask everything that any thread may ask."""
    info = pool.info()
    assert info["arena"]["results"] >= 0
    for worker in info["workers"].values():
        assert worker.running is None or worker.running[1] >= 0
    repr(pool)
    repr(pool.executor)
    for process in pool._pool:
        repr(process)
        process.is_alive()
        assert isinstance(process.name, str)
    for result in results:
        repr(result)
        if result.ready():
            result.done()
        result.running()


@contextmanager
def before_the(nth: int, names: tuple[str, ...], act: Callable[[], object]) -> Iterator[list[str]]:
    """Act before the n-th bytecode that this thread runs of these functions; where that was."""
    where: list[str] = []
    left = nth

    def step(frame: FrameType, event: str, _arg: object) -> Any:
        nonlocal left
        if event == "opcode":
            left -= 1
            if left == 0:
                where.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
                act()
        return step

    def trace(frame: FrameType, _event: str, _arg: object) -> Any:
        if frame.f_code.co_qualname not in names:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return step

    sys.settrace(trace)
    try:
        yield where
    finally:
        sys.settrace(None)


def replace(pool: Pool) -> None:
    """End a worker, and let another thread see to that."""
    victim = pool._pool[0]
    os.kill(victim.pid, signal.SIGKILL)

    def see_to_it() -> None:
        while victim in pool._pool:
            pool.apply(square, (2,))

    thread = threading.Thread(target=see_to_it)
    thread.start()
    thread.join()


def test_a_worker_ends_at_every_bytecode_of_a_look() -> None:
    names = (
        "ProcessBackend.info",
        "ProcessBackend.arena",
        "Child.info",
        "Child.lent",
        "Slate.now",
        "Engine.info",
    )
    with Pool(1, start_method="fork") as pool:
        pool.map(square, range(4), chunksize=1)
        place, fell = 0, True
        while fell:
            place += 1
            with before_the(place, names, lambda: replace(pool)) as where:
                look(pool, [])
            fell = bool(where)
        assert place > 50


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_while_workers_die(method: str) -> None:
    failures: list[str] = []
    over = threading.Event()
    results: list[Any] = []

    def monitor() -> None:
        while not over.is_set():
            try:
                look(pool, list(results))
            except Exception as failure:
                failures.append(f"{type(failure).__name__}: {failure}")

    with millpond.get_context(method).Pool(2) as pool:
        watcher = threading.Thread(target=monitor)
        watcher.start()
        try:
            for _ in range(12 if method == "fork" else 4):
                results[:] = [pool.apply_async(square, (n,)) for n in range(20)]
                results.append(pool.apply_async(die))
                for n, result in enumerate(results[:-1]):
                    assert result.get(PATIENCE) == n * n
                with pytest.raises(WorkerDied):
                    results[-1].get(PATIENCE)
        finally:
            over.set()
            watcher.join()
        assert not failures, failures[:5]
    look(pool, results)


def test_a_result_that_comes_while_it_is_asked_for_is_not_taken_for_none() -> None:
    """Between any two bytecodes of ``get`` the answer may come, or another thread may decode it."""
    with Pool(1, start_method="fork") as pool:
        for place in range(1, 40):
            result = pool.apply_async(square, (7,))

            def take() -> None:
                waiter = threading.Thread(target=result.get)  # noqa: B023
                waiter.start()
                waiter.join()

            with before_the(place, ("AsyncResult.get",), take):
                assert result.get(PATIENCE) == 49, place


AT_THE_END = """
from millpond import Pool

class Late:
    def __init__(self, pool):
        self.pool = pool
    def __del__(self):
        print(self.pool.info()["state"], self.pool)

if __name__ == "__main__":
    with Pool(1, blas_threads=1) as pool:
        pool.map(abs, [1])
    late = Late(pool)
"""


def test_so_may_who_looks_at_the_very_end_of_the_interpreter(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(AT_THE_END)
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ended.stdout.split()[0], ended.stderr) == ("TERMINATE", "")
