"""Tasks of an executor start processes by the standard library, which end with their worker, however that ends."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond.testing import tasks
from millpond.testing.deaths import gone
from millpond.testing.suite import SOON

METHODS = ["fork", "forkserver", "spawn"]
FAMILY = 4
"""Who a ``found_a_family`` is: the worker, a process of it, and two of that."""


def in_a_pool(method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(tasks.square, range(5))


def in_an_executor(method: str) -> list[int]:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        return list(executor.map(tasks.square, range(5)))


def in_processes(method: str) -> list[int]:
    context: Any = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    found = []
    for x in range(5):
        process = context.Process(target=put_square, args=(queue, x))
        process.start()
        found.append(queue.get())
        process.join()
        assert process.exitcode == 0
    return found


def put_square(queue: Any, x: int) -> None:
    queue.put(x * x)


KINDS: list[Callable[[str], list[int]]] = [in_a_pool, in_an_executor, in_processes]


@pytest.mark.parametrize("inner", METHODS)
def test_tasks_may_start_processes(method: str, inner: str) -> None:
    squares = [0, 1, 4, 9, 16]
    with millpond.Pool(1, start_method=method) as pool:
        for kind in KINDS:
            assert pool.executor.submit(kind, inner).result(SOON) == squares
            with pytest.raises(AssertionError, match="daemonic processes are not allowed"):
                pool.apply(kind, (inner,))
        assert list(pool.executor.map(in_processes, [inner])) == [squares]


def is_daemonic() -> bool:
    return multiprocessing.current_process().daemon


class Asked:
    """A callable that may keep state."""

    def __call__(self) -> bool:
        return is_daemonic()


def fail_or_tell(fails: bool) -> bool:
    if fails:
        raise tasks.Oops(3)
    return is_daemonic()


def test_only_an_executor_s_own_tasks_may() -> None:
    with millpond.Pool(1) as pool:
        mixed = [pool.submit(is_daemonic), pool.executor.submit(is_daemonic)] * 50
        assert [each.result(SOON) for each in mixed] == [True, False] * 50
        assert not pool.executor.submit(Asked()).result(SOON)
        assert pool.submit(Asked()).result(SOON)
        assert isinstance(pool.executor.submit(fail_or_tell, True).exception(SOON), tasks.Oops)
        assert pool.submit(fail_or_tell, False).result(SOON)
        assert list(pool.executor.map(fail_or_tell, [False] * 4, chunksize=2)) == [False] * 4


def test_they_may_with_options_of_the_pool_too() -> None:
    with millpond.Pool(1, retries=1, timeout=SOON, seed=3) as pool:
        assert not pool.executor.submit(is_daemonic).result(SOON)
        assert pool.submit(is_daemonic).result(SOON)


def millpond_s_own(method: str) -> tuple[list[int], int, bool]:
    context = millpond.get_context(method)
    with context.Pool(2) as pool:
        squares = pool.map(tasks.square, range(3))
    process = context.Process(target=tasks.square, args=(3,))
    process.start()
    return squares, process.result(), process.daemon


@pytest.mark.parametrize("inner", METHODS)
def test_millpond_s_own_pools_and_processes_work_there(inner: str) -> None:
    with millpond.Pool(1) as pool:
        assert pool.executor.submit(millpond_s_own, inner).result(SOON) == ([0, 1, 4], 9, False)


# --- nobody outlives the worker ---------------------------------------------------------------------


def live_on(folder: str) -> None:
    """For ever, as whoever asks for it does not see."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(folder, str(os.getpid())).touch()
    while True:
        signal.pause()


def found(folder: str, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    for _ in range(2):
        context.Process(target=live_on, args=(folder,)).start()
    live_on(folder)


def found_a_family(folder: str, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    context.Process(target=found, args=(folder, method)).start()
    live_on(folder)


def family(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def await_family(folder: Path) -> list[int]:
    tasks.wait_until(lambda: len(family(folder)) == FAMILY, "all are there")
    return family(folder)


def await_their_end(pids: list[int]) -> None:
    tasks.wait_until(lambda: all(map(gone, pids)), "all are gone", 10.0)


@pytest.fixture
def no_sockets() -> Iterator[None]:
    """A fork server of the standard library that is killed leaves the folder of its socket."""
    yield
    for folder in Path(tempfile.gettempdir()).glob("pymp-*"):
        shutil.rmtree(folder)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("inner", METHODS)
def test_they_end_with_a_worker_that_is_killed(method: str, inner: str, tmp_path: Path) -> None:
    with millpond.Pool(1, start_method=method) as pool:
        future = pool.executor.submit(found_a_family, str(tmp_path), inner)
        pids = await_family(tmp_path)
        worker = pool._pool[0].pid
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        assert isinstance(future.exception(SOON), millpond.WorkerDied)
        await_their_end(pids)


def test_they_end_with_a_pool_that_is_terminated(method: str, tmp_path: Path) -> None:
    with millpond.Pool(1, start_method=method) as pool:
        pool.executor.submit(found_a_family, str(tmp_path), "fork")
        pids = await_family(tmp_path)
        pool.terminate()
        await_their_end(pids)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("inner", METHODS)
def test_they_end_with_a_program_that_is_killed(inner: str, tmp_path: Path) -> None:
    text = f"""if True:
        import signal
        import millpond
        from tests.engine.test_executor_children import found_a_family
        if __name__ == "__main__":
            pool = millpond.Pool(1)
            future = pool.executor.submit(found_a_family, {str(tmp_path)!r}, {inner!r})
            signal.pause()
    """
    with subprocess.Popen([sys.executable, "-c", text]) as program:
        try:
            pids = await_family(tmp_path)
        finally:
            program.kill()
    await_their_end(pids)


def start_a_program(folder: str) -> int:
    """By a fork that runs the functions that are registered for it."""
    waits = f"import pathlib, sys; pathlib.Path({folder!r}, 'up').touch(); sys.stdin.read()"
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    pid = os.fork()
    if pid == 0:
        os.dup2(reader, 0)
        os.execv(sys.executable, [sys.executable, "-S", "-c", waits])
    os.close(reader)
    os.close(writer)
    return pid


def test_other_programs_that_a_task_started_are_its_own_affair(tmp_path: Path) -> None:
    with millpond.Pool(1) as pool:
        pid = pool.executor.submit(start_a_program, str(tmp_path)).result(SOON)
        try:
            tasks.wait_until((tmp_path / "up").exists, "it runs")
            worker = pool._pool[0].pid
            assert worker is not None
            os.kill(worker, signal.SIGKILL)
            tasks.wait_until(lambda: gone(worker), "the worker is gone")
            assert not gone(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
        await_their_end([pid])
