"""What a task finds around it in a worker process, and what the pool tells about its workers."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import millpond
from millpond import errors
from millpond.testing import initializers, rows, tasks
from millpond.testing.suite import Suite

if TYPE_CHECKING:
    from millpond import Pool


class SurroundingsTests(Suite):
    """Workers are BaseProcesses of the parent; info() shows them."""

    def test_a_worker_knows_who_it_is(self) -> None:
        key = bytes(multiprocessing.current_process().authkey)
        options: dict[str, Any] = {"initializer": initializers.leave, "initargs": ("authkey", key)}
        with self.make_pool(1, **options) as pool:
            name, daemon, same_key, parent = pool.apply(initializers.who_am_i)
        assert "PoolWorker-" in name
        assert daemon
        assert same_key
        assert parent == os.getpid()

    def test_the_pool_lists_its_workers(self, pool: Pool) -> None:
        workers = pool._pool
        assert [type(w).__mro__[-2] for w in workers] == [multiprocessing.process.BaseProcess] * 2
        pids = {w.pid for w in workers}
        assert len(pids) == 2
        assert set(pool.map(tasks.pid, range(20))) <= pids
        assert all(w.is_alive() and w.daemon and w.exitcode is None for w in workers)
        assert pids <= {p.pid for p in multiprocessing.active_children()}
        pool.terminate()
        pool.join()
        assert not pids & {p.pid for p in multiprocessing.active_children()}

    def test_info_names_workers_and_start_method(self, pool: Pool) -> None:
        pool.map(tasks.square, range(20))
        text = str(pool.info())
        for worker in pool._pool:
            assert str(worker.pid) in text
        method = type(pool._pool[0]).__name__.removesuffix("Process").lower()
        assert method in text

    def test_repr_counts_busy_workers_and_lost_ones(self, pool: Pool, tmp_path: Path) -> None:
        assert "2 workers" in repr(pool)
        gate, started = tmp_path / "gate", tmp_path / "started"
        result = pool.apply_async(tasks.pass_gate, (str(gate), 1, str(started)))
        tasks.wait_until(lambda: tasks.executions(started), "a task runs")
        assert "1 busy" in repr(pool)
        gate.touch()
        result.get()
        with pytest.raises(errors.WorkerDied):
            pool.apply(tasks.die, ("SIGKILL",))
        assert "1 lost" in repr(pool)

    def test_a_task_may_have_a_pool_of_its_own(self, pool: Pool) -> None:
        assert pool.map(rows.nested, [3, 4]) == [[0, 1, 4], [0, 1, 4, 9]]

    def test_a_task_may_have_child_processes(self, pool: Pool) -> None:
        assert pool.apply(rows.child_exitcode, (7,)) == 7

    def test_workers_have_the_parent_s_surroundings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MILLPOND_TEST_WORD", "mill")
        mask = os.umask(0o027)
        try:
            with self.make_pool(1) as pool:
                assert pool.apply(initializers.environment) == (str(tmp_path), "mill", 0o027)
        finally:
            os.umask(mask)

    @pytest.mark.parametrize("graceful", [False, True])
    def test_a_worker_s_exit_hooks_run_to_their_end(self, tmp_path: Path, graceful: bool) -> None:
        options: dict[str, Any] = {
            "initializer": initializers.leave_at_exit, "initargs": (str(tmp_path),),
        }  # fmt: skip
        with self.make_pool(2, graceful=graceful, **options) as pool:
            pids = [worker.pid for worker in pool._pool]
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
            if not graceful:
                pool.close()
                pool.join()
        names = [f"{word}-{pid}" for word in ("begun", "ended") for pid in pids]
        assert sorted(os.listdir(tmp_path)) == sorted(names)

    def test_the_default_pool_uses_every_cpu_that_it_may(self) -> None:
        with millpond.Pool() as pool:
            assert 1 <= pool._processes <= len(os.sched_getaffinity(0))

    def test_garbage_collection_in_a_worker_is_harmless(self, pool: Pool) -> None:
        assert len(pool.map(tasks.garbage_collect, range(6), 1)) == 6
        assert pool.apply(tasks.square, (2,)) == 4
