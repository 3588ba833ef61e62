"""maxtasksperchild and initializers: what starts and ends a worker by plan."""

from __future__ import annotations

import collections
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from millpond import errors
from millpond.testing import initializers, tasks
from millpond.testing.suite import SOON, Suite


class RecyclingTests(Suite):
    """A worker ends after its share of chunks, and nothing is lost at the hand-over."""

    @pytest.mark.parametrize("limit", [1, 2, 5])
    @pytest.mark.parametrize("chunksize", [1, 3])
    def test_a_worker_runs_at_most_its_share_of_chunks(self, limit: int, chunksize: int) -> None:
        with self.make_pool(2, maxtasksperchild=limit) as pool:
            pids = pool.map(tasks.pid, range(18), chunksize)
            assert len(pids) == 18
            assert max(collections.Counter(pids).values()) <= limit * chunksize

    def test_nothing_is_lost_at_the_hand_over(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        with self.make_pool(2, maxtasksperchild=1) as pool:
            results = [pool.apply_async(tasks.note, (str(journal), x)) for x in range(20)]
            assert [r.get(SOON) for r in results] == list(range(20))
        assert tasks.executions(journal) == 20

    @pytest.mark.parametrize("method", ["imap", "imap_unordered"])
    def test_lazy_maps_recycle_too(self, method: str) -> None:
        with self.make_pool(2, maxtasksperchild=2) as pool:
            pids = list(getattr(pool, method)(tasks.pid, range(20)))
            assert len(pids) == 20
            assert max(collections.Counter(pids).values()) <= 2

    def test_without_chunksize_the_formula_s_chunks_count(self) -> None:
        with self.make_pool(2, maxtasksperchild=1) as pool:
            pids = pool.map(tasks.pid, range(80))
            assert max(collections.Counter(pids).values()) <= 10

    def test_deaths_and_recycling_together(self) -> None:
        with self.make_pool(2, maxtasksperchild=2) as pool:
            results = [pool.apply_async(tasks.die_on, (x, 7, "SIGKILL")) for x in range(16)]
            for x, result in enumerate(results):
                if x == 7:
                    with pytest.raises(errors.WorkerDied):
                        result.get(SOON)
                else:
                    assert result.get(SOON) == x

    def test_close_and_join_while_workers_are_recycled(self) -> None:
        pool = self.make_pool(3, maxtasksperchild=1)
        results = [pool.apply_async(tasks.square, (x,)) for x in range(12)]
        pool.close()
        pool.join()
        assert [r.get(0) for r in results] == [x * x for x in range(12)]


class InitializerTests(Suite):
    """Each worker's initializer runs once; one that fails is told once."""

    def test_every_worker_runs_it_once(self, tmp_path: Path) -> None:
        journal, folder = tmp_path / "journal", tmp_path / "meeting"
        folder.mkdir()
        options: dict[str, Any] = {
            "initializer": initializers.leave, "initargs": ("k", 1, str(journal)),
        }  # fmt: skip
        with self.make_pool(3, **options) as pool:
            pool.starmap(tasks.meet, [(str(folder), str(x), 3) for x in range(3)], 1)
            assert tasks.executions(journal) == 3

    def test_replacements_run_it_too(self) -> None:
        options: dict[str, Any] = {"initializer": initializers.leave, "initargs": ("k", 42)}
        with self.make_pool(2, maxtasksperchild=1, **options) as pool:
            assert pool.map(initializers.left, ["k"] * 10, 1) == [42] * 10
        with self.make_pool(1, **options) as pool:
            with pytest.raises(errors.WorkerDied):
                pool.apply(tasks.die, ("SIGKILL",))
            assert pool.apply(initializers.left, ("k",)) == 42

    def test_one_that_raises_is_an_error_with_its_own_traceback(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        options: dict[str, Any] = {
            "initializer": initializers.refuse, "initargs": (str(journal), 7),
        }  # fmt: skip
        with self.make_pool(2, **options) as pool:
            with pytest.raises(errors.InitializerError) as info:
                pool.map(tasks.square, range(10))
            text = f"{info.value} {info.value.__cause__}"
            assert "refuse" in text
            assert "Oops" in text
        assert 1 <= tasks.executions(journal) <= 2

    @pytest.mark.parametrize("how", ["SIGKILL", "exit0", "exit7", "segv"])
    def test_one_that_kills_its_worker_is_an_error(self, tmp_path: Path, how: str) -> None:
        journal = tmp_path / "journal"
        options: dict[str, Any] = {
            "initializer": initializers.die_at_start, "initargs": (str(journal), how),
        }  # fmt: skip
        with self.make_pool(2, **options) as pool, pytest.raises(errors.InitializerError):
            pool.apply_async(tasks.square, (1,)).get(SOON)
        assert 1 <= tasks.executions(journal) <= 10

    def test_one_that_exits_is_an_error(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        options: dict[str, Any] = {
            "initializer": initializers.exit_at_start, "initargs": (str(journal),),
        }  # fmt: skip
        with self.make_pool(2, **options) as pool, pytest.raises(errors.InitializerError):
            next(pool.imap(tasks.square, range(5)))
        assert 1 <= tasks.executions(journal) <= 2

    def test_after_it_failed_the_pool_ends_in_time(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        options: dict[str, Any] = {
            "initializer": initializers.refuse, "initargs": (str(journal), 7),
        }  # fmt: skip
        pool = self.make_pool(2, **options)
        results = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
        for result in results:
            with pytest.raises(errors.InitializerError):
                result.get(SOON)
        pool.close()
        pool.join()
        assert tasks.executions(journal) <= 2

    def test_locks_and_values_travel_through_initargs(self) -> None:
        context = multiprocessing.get_context(self.start_method())
        lock, value = context.Lock(), context.Value("i", 0, lock=False)
        options: dict[str, Any] = {
            "initializer": initializers.leave_pair, "initargs": (lock, value),
        }  # fmt: skip
        with self.make_pool(2, **options) as pool:
            pool.map(initializers.add_under_lock, [1] * 50, 1)
        assert value.value == 50

    def test_queues_travel_through_initargs(self) -> None:
        context = multiprocessing.get_context(self.start_method())
        queue = context.SimpleQueue()
        options: dict[str, Any] = {"initializer": initializers.leave, "initargs": ("queue", queue)}
        with self.make_pool(2, **options) as pool:
            pool.map(initializers.put_on_queue, range(10))
            assert sorted(queue.get() for _ in range(10)) == list(range(10))
        queue.close()

    def start_method(self) -> str:
        """The start method of `make_pool`'s workers; its context makes what they share."""
        with self.make_pool(1) as pool:
            return _method_of(pool)


def _method_of(pool: Any) -> str:
    names = {"Fork": "fork", "ForkServer": "forkserver", "Spawn": "spawn"}
    return names[type(pool._pool[0]).__name__.removesuffix("Process")]
