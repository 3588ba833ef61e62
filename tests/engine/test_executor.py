"""Executors: the conformance suite on pools of each kind, and what a program around them sees."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest

from millpond import CannotKill, Pool, PoolForkedError
from millpond.executor import PoolExecutor
from millpond.future import PoolFuture
from millpond.testing import tasks
from millpond.testing.executors import (
    ExecutorDeathTests,
    ExecutorTests,
    PendingExecutorTests,
)
from millpond.testing.suite import SOON
from millpond.worker.outcome import Error, Value


class TestProcesses(ExecutorTests, PendingExecutorTests, ExecutorDeathTests):
    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return Pool(processes, **options)


class TestThreads(ExecutorTests, PendingExecutorTests):
    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return Pool(processes, backend="threads", **options)


class TestInline(ExecutorTests):
    def make_pool(self, processes: int = 2, **options: Any) -> Pool:
        return Pool(processes, backend="inline", **options)


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(1)
    yield made
    made.terminate()
    made.join()


def program(text: str) -> tuple[str, str]:
    """What a program printed, and what it said on stderr."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=60
    )
    return run.stdout, run.stderr


# --- the program's end ---------------------------------------------------------------------------


def test_a_program_does_not_end_before_what_it_submitted() -> None:
    out, err = program("""
        import time
        from millpond import Pool
        from millpond.executor import PoolExecutor
        executor = PoolExecutor(Pool(2))
        executor.submit(time.sleep, 0.2).add_done_callback(lambda future: print("called back"))
        executor.submit(print, "one", flush=True)
        executor.shutdown(wait=False)
    """)
    assert sorted(out.splitlines()) == ["called back", "one"]
    assert err == ""


def test_nothing_can_be_submitted_when_the_program_has_ended() -> None:
    out, err = program("""
        import atexit
        from millpond import Pool
        from millpond.executor import PoolExecutor

        @atexit.register
        def late():
            try:
                executor.submit(print, "late")
            except RuntimeError as error:
                print(error)

        executor = PoolExecutor(Pool(1))
    """)
    assert out == "cannot schedule new futures after interpreter shutdown\n"
    assert err == ""


def test_a_forked_copy_of_the_program_ends_without_waiting() -> None:
    out, _ = program("""
        import os, threading
        from millpond import Pool
        from millpond.executor import PoolExecutor
        with Pool(1) as pool:
            executor = PoolExecutor(pool)
            go_on = threading.Event()
            executor.submit(abs, -1).add_done_callback(lambda _: go_on.wait())
            if os.fork() == 0:
                raise SystemExit(7)  # the pool is not the copy's, which leaves it alone
            print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
            go_on.set()
    """)
    assert out == "7\n"


def test_a_forked_copy_is_told(pool: Pool) -> None:
    executor = PoolExecutor(pool)
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(tasks.square, 3)
        except PoolForkedError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


# --- who keeps what ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_executor_keeps_its_pool_until_its_work_is_done(tmp_path: Path) -> None:
    gate, journal = tmp_path / "gate", tmp_path / "journal"
    pool = Pool(1)
    alive = weakref.ref(pool)
    future = PoolExecutor(pool).submit(tasks.pass_gate, str(gate))
    PoolExecutor(pool).submit(tasks.note, str(journal))
    del pool
    gc.collect()
    assert alive() is not None
    gate.touch()
    assert future.result(SOON) is None
    tasks.wait_until(lambda: tasks.executions(journal) == 1, "the other ran too")
    assert future.result() is None
    del future


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_future_does_not_keep_the_pool_when_it_is_done() -> None:
    pool = Pool(1)
    alive = weakref.ref(pool)
    future = PoolExecutor(pool).submit(abs, -3)
    assert future.result(SOON) == 3
    del pool
    tasks.wait_until(lambda: gc.collect() >= 0 and alive() is None, "the pool is collected")


def test_results_are_not_kept(pool: Pool) -> None:
    executor = PoolExecutor(pool)
    for got in executor.map(Reference, range(10)):
        alive = weakref.ref(got)
        del got
        assert alive() is None
    future = executor.submit(Reference, 3)
    alive = weakref.ref(future.result(SOON))
    del future
    assert alive() is None


class Reference:
    """Something that can be referred to weakly."""

    def __init__(self, _: int) -> None:
        pass


def test_a_map_shares_one_job_and_leaves_none_behind(pool: Pool) -> None:
    executor = PoolExecutor(pool)
    gauges = pool._engine._driver.scheduler._backlog.gauges
    pool.apply(tasks.square, (3,))
    before = len(gauges)
    for buffersize in (None, 3):
        results = executor.map(lambda x: x, range(50), buffersize=buffersize)
        assert next(results) == 0
        assert len(gauges) <= before + 1
        del results
        executor.map(lambda x: x, range(50), buffersize=buffersize)
        tasks.wait_until(lambda: len(gauges) == before, "nothing is left")


# --- races, made to happen -----------------------------------------------------------------------


class Engine:
    """As much as a future asks for."""

    def __init__(self) -> None:
        self.life = self.seat = self
        self.called: list[Any] = []
        self.call_back = self.called.append

    def nudge(self) -> None:
        pass


def a_future() -> tuple[PoolFuture[Any], list[Any]]:
    left: list[Any] = []
    return PoolFuture(Engine(), left.append), left  # type: ignore[arg-type]


def test_what_is_sent_cannot_be_cancelled_and_the_other_way_round() -> None:
    future, left = a_future()
    assert future.claim()
    assert future.claim()
    assert not future.cancel()
    assert future.running()
    future.settle(Value(3))
    assert (future.result(), future.cancel(), left) == (3, False, [future])
    future, left = a_future()
    assert future.cancel()
    assert not future.claim()
    assert future.cancel()
    future.settle(Value(3))
    future.withdraw()
    assert (future.cancelled(), left) == (True, [future])


def test_a_future_may_end_before_it_was_sent() -> None:
    future, left = a_future()
    future.settle(Value(3))
    assert not future.cancel()
    assert left == [future]
    future, left = a_future()
    future.withdraw()
    assert future.cancel()
    assert left == [future]


def test_who_cancels_second_sees_the_same() -> None:
    future, left = a_future()
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(future.cancel())) for _ in range(8)]
    with future._condition:  # the first cannot finish
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 8
    assert left == [future]


def test_who_takes_it_back_runs_the_callbacks() -> None:
    future, left = a_future()
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    future.claim()
    future.stream = object()  # type: ignore[assignment]
    engine: Any = future._engine

    def spare(_stream: object, mine: Any, asking: Any) -> None:
        assert not asking.ready()
        mine.dropped()
        mine.settle(Error(ValueError()))  # as the driver does next
        mine.begun()
        assert asking.ready()
        assert (seen, left) == ([], [])

    engine.spare = spare
    assert future.cancel()
    assert (seen, left, engine.called) == ([future], [future], [])


def test_a_future_that_is_taken_back_after_its_canceller_was_interrupted_calls_back() -> None:
    future, _ = a_future()
    future.add_done_callback(print)
    future.claim()
    future.stream = object()  # type: ignore[assignment]
    engine: Any = future._engine

    def spare(*_: object) -> None:
        raise KeyboardInterrupt

    engine.spare = spare
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    assert not future.done()
    future.dropped()
    assert future.cancelled()
    assert engine.called == [future]


def test_callbacks_run_once_and_before_it_leaves() -> None:
    future, left = a_future()
    seen: list[Any] = []
    future.add_done_callback(lambda mine: seen.append((mine, list(left))))
    future.claim()
    future.settle(Value(3))
    assert (seen, left) == ([], [])
    (callee,) = future._engine.called  # type: ignore[attr-defined]
    callee.run_callbacks()
    assert (seen, left) == ([(future, [])], [future])


def test_a_shutdown_sees_what_is_being_submitted(pool: Pool, tmp_path: Path) -> None:
    """The pickling of an argument is the widest gap there is in ``submit``."""
    executor = PoolExecutor(pool)
    pickling, go_on = threading.Event(), threading.Event()

    class Slow:
        def __reduce__(self) -> Any:
            pickling.set()
            assert go_on.wait(SOON)
            return str, ()

    futures: list[Future[Any]] = []
    thread = threading.Thread(
        target=lambda: futures.append(executor.submit(tasks.pass_gate, str(tmp_path), Slow()))
    )
    thread.start()
    assert pickling.wait(SOON)
    ender = threading.Thread(target=executor.shutdown)
    ender.start()
    tasks.wait_until(lambda: executor.closed, "it shuts down")
    go_on.set()
    ender.join()
    thread.join()
    assert wait(futures, 0).done
    assert futures[0].result() == ""


def test_an_argument_that_does_not_pickle_is_the_future_s_exception(pool: Pool) -> None:
    executor = PoolExecutor(pool)
    future = executor.submit(tasks.identity, threading.Lock())
    assert isinstance(future.exception(0), TypeError)
    results = executor.map(tasks.identity, [1, threading.Lock(), 3])
    assert next(results) == 1
    with pytest.raises(TypeError):
        next(results)
    lock = threading.Lock()
    results = executor.map(lambda x: (x, lock), [1, 2], chunksize=2)
    with pytest.raises((TypeError, AttributeError)):  # as plain pickle puts it
        next(results)
    executor.shutdown()


def test_threads_cannot_be_killed() -> None:
    with Pool(1, backend="threads") as pool:
        for how in ("terminate_workers", "kill_workers"):
            executor = PoolExecutor(pool)
            with pytest.raises(CannotKill):
                getattr(executor, how)()
            with pytest.raises(RuntimeError):
                executor.submit(tasks.square, 3)


def test_it_says_what_it_is(pool: Pool) -> None:
    executor = PoolExecutor(pool)
    assert repr(executor).startswith("<PoolExecutor open, 0 outstanding, on <Pool RUN 1 workers")
    executor.shutdown()
    assert repr(executor).startswith("<PoolExecutor shut down, 0 outstanding")


def test_the_pool_s_options_hold(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with Pool(1, retries=2) as pool:
        future = pool.executor.submit(tasks.note_and_fail_on, str(journal), 3, 3)
        assert type(future.exception(SOON)).__name__ == "Oops"
        assert tasks.executions(journal) == 3


def test_coroutine_functions_work() -> None:
    with Pool(1) as pool:
        assert pool.executor.submit(give, 3).result(SOON) == 3  # type: ignore[comparison-overlap]
        assert list(pool.executor.map(give, range(5), chunksize=2)) == [*range(5)]


async def give(x: int) -> int:
    return x
