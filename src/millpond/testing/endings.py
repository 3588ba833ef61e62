"""How a pool of processes ends: in bounded time, whatever its workers, caller or parent do."""

from __future__ import annotations

import gc
import os
import signal
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.testing import initializers, tasks
from millpond.testing.deaths import gone
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool


class StubbornWorkerTests(Suite):
    """terminate() with workers that do not listen."""

    def ends_in_time(self, pool: Pool) -> None:
        pids = [w.pid for w in pool._pool]
        started = time.monotonic()
        pool.terminate()
        pool.join()
        assert time.monotonic() - started < SOON
        tasks.wait_until(lambda: all(gone(pid) for pid in pids), "no worker is left", 5.0)

    def test_a_stopped_worker(self, pool: Pool) -> None:
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        for worker in pool._pool:
            os.kill(worker.pid, signal.SIGSTOP)
        self.ends_in_time(pool)

    def test_a_stopped_busy_worker(self, pool: Pool, tmp_path: Path) -> None:
        started = tmp_path / "started"
        for _ in range(4):
            pool.apply_async(tasks.pass_gate, (str(tmp_path / "never"), 1, str(started)))
        tasks.wait_until(lambda: tasks.executions(started) == 2, "both are busy")
        os.kill(pool._pool[0].pid, signal.SIGSTOP)
        self.ends_in_time(pool)

    def test_a_worker_that_ignores_sigterm(self, pool: Pool, tmp_path: Path) -> None:
        started = tmp_path / "started"
        args = (str(tmp_path / "never"), str(started))
        for _ in range(2):
            pool.apply_async(tasks.ignore_sigterm_and_wait, args)
        tasks.wait_until(lambda: tasks.executions(started) == 2, "both are busy")
        self.ends_in_time(pool)

    def test_native_code_that_holds_the_gil(self, pool: Pool, tmp_path: Path) -> None:
        started = tmp_path / "started"
        pool.apply_async(tasks.hold_the_gil, (60, str(started)))
        tasks.wait_until(lambda: tasks.executions(started) == 1, "it is in native code")
        self.ends_in_time(pool)

    def test_a_worker_flooded_with_arguments(self, pool: Pool, tmp_path: Path) -> None:
        big = b"x" * (1 << 20)
        for _ in range(40):
            pool.apply_async(tasks.pass_gate, (str(tmp_path / "never"), big))
        self.ends_in_time(pool)

    def test_a_worker_whose_results_nobody_took(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.make_bytes, (1 << 20,)) for _ in range(40)]
        results[0].wait(SOON)
        self.ends_in_time(pool)


class IdleWorkerTests(Suite):
    """Workers that have nothing to do when the pool is terminated."""

    def test_they_leave_as_at_close(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("millpond.backends.processes.ending.PARTING", SOON)
        monkeypatch.setattr("millpond.pool._GRACE", SOON)
        path = tmp_path / "left"
        with self.make_pool(2) as pool:
            pool.map(tasks.note_at_exit, [str(path)] * 20, chunksize=1)
        assert tasks.executions(path) == 20

    def test_what_was_put_into_a_queue_arrives(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("millpond.backends.processes.ending.PARTING", SOON)
        monkeypatch.setattr("millpond.pool._GRACE", SOON)
        with self.make_pool(1) as pool:
            context = pool._ctx
        queue = context.Queue()
        options: dict[str, Any] = {"initializer": initializers.leave, "initargs": ("queue", queue)}
        with self.make_pool(2, **options) as pool:
            pool.map(initializers.put_on_queue, range(50))
        assert sorted(queue.get(timeout=SOON) for _ in range(50)) == list(range(50))
        queue.close()
        queue.join_thread()

    def test_one_that_cannot_leave_is_ended(self) -> None:
        with self.make_pool(2) as pool:
            pool.map(tasks.leave_a_thread, [60.0] * 4, chunksize=1)
            pids = [worker.pid for worker in pool._pool]
            started = time.monotonic()
        assert time.monotonic() - started < SOON
        tasks.wait_until(lambda: all(gone(pid) for pid in pids), "no worker is left", 5.0)


class AbandonedPoolTests(Suite):
    """Pools that nobody closed, and processes forked beside them."""

    @pytest.mark.parametrize("used", [False, True])
    def test_a_dropped_pool_warns_and_ends(self, used: bool) -> None:
        pool = self.make_pool(2)
        if used:
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        pids = [w.pid for w in pool._pool]
        held = [pool]
        del pool
        with pytest.warns(ResourceWarning, match=r"[Pp]ool"):
            _drop(held)
        tasks.wait_until(lambda: all(gone(p) for p in pids), "no worker is left")

    def test_a_dropped_busy_pool_ends(self, tmp_path: Path) -> None:
        pool = self.make_pool(2)
        started = tmp_path / "started"
        args = (str(tmp_path / "never"), 1, str(started))
        pool.apply_async(tasks.pass_gate, args)
        tasks.wait_until(lambda: tasks.executions(started) == 1, "it is busy")
        pids = [w.pid for w in pool._pool]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del pool
            gc.collect()
        tasks.wait_until(lambda: all(gone(p) for p in pids), "no worker is left")

    def test_an_ended_pool_does_not_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            for end in ("close", "terminate"):
                pool = self.make_pool(2)
                pool.apply(tasks.nothing)
                getattr(pool, end)()
                pool.join()
                del pool
                gc.collect()

    def test_a_forked_child_that_uses_the_pool_is_told_so(self, pool: Pool) -> None:
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        pending = pool.apply_async(tasks.sleep_for, (0.2,))
        calls = [
            lambda: pool.apply(tasks.square, (1,)),
            lambda: pool.map(tasks.square, [1]),
            lambda: pool.apply_async(tasks.square, (1,)),
            lambda: pool.imap(tasks.square, [1]),
            lambda: pending.get(SOON),
        ]
        for call in calls:
            assert _in_forked_child(call) == "PoolForkedError"
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        assert pending.get(SOON) == 0.2

    def test_a_forked_child_s_exit_does_the_pool_no_harm(self, pool: Pool) -> None:
        pids = {w.pid for w in pool._pool}
        for _ in range(2):
            child = os.fork()
            if child == 0:
                try:
                    _run_the_exit_hooks()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        assert {w.pid for w in pool._pool} == pids

    def test_a_forked_child_may_drop_the_pool(self) -> None:
        pool = self.make_pool(2)
        try:
            child = os.fork()
            if child == 0:
                try:
                    del pool
                    gc.collect()
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        finally:
            pool.terminate()
            pool.join()

    def test_the_error_for_a_forked_child_is_a_millpond_error(self) -> None:
        assert issubclass(errors.PoolForkedError, errors.MillpondError)


def _drop(held: list[Pool]) -> None:
    held.clear()
    gc.collect()


def _run_the_exit_hooks() -> None:
    """What a multiprocessing child runs when it ends."""
    import multiprocessing.util

    multiprocessing.util._exit_function()  # type: ignore[attr-defined]
    gc.collect()


def _in_forked_child(call: object) -> str:
    """The name of the exception that the call raises in a forked child, or what went wrong."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            signal.alarm(int(SOON))
            try:
                call()  # type: ignore[operator]
                name = "nothing"
            except BaseException as error:
                name = type(error).__name__
            os.write(writer, name.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answers:
        name = answers.read()
    _, status = os.waitpid(child, 0)
    return name or f"status {status}"
