"""Workers beside the caller and beside each other: nothing holds a task hostage."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from millpond.testing import rows, tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool


class ConcurrencyTests(Suite):
    """Two tasks at the same time, whatever came before them."""

    def test_two_calls_run_at_the_same_time(self, pool: Pool, tmp_path: Path) -> None:
        for round_ in range(5):
            folder = tmp_path / str(round_)
            folder.mkdir()
            both = [pool.apply_async(tasks.meet, (str(folder), name, 2)) for name in "ab"]
            assert [r.get(SOON) for r in both] == ["a", "b"]

    def test_they_do_after_thousands_of_quick_tasks(self, pool: Pool, tmp_path: Path) -> None:
        quick = [pool.apply_async(tasks.identity, (x,)) for x in range(5000)]
        both = [pool.apply_async(tasks.meet, (str(tmp_path), name, 2)) for name in "ab"]
        assert [r.get(SOON) for r in both] == ["a", "b"]
        assert [r.get(SOON) for r in quick] == list(range(5000))

    def test_they_do_inside_a_map_of_quick_tasks(self, pool: Pool, tmp_path: Path) -> None:
        # Between thousands of instant tasks, two that need each other: one chunk must not hold
        # both, as nobody gave a chunksize.
        assert pool.map(tasks.identity, range(5000)) == list(range(5000))
        got = pool.map(rows.meet_in_twos, [(str(tmp_path), name) for name in "ab"])
        assert got == ["a", "b"]

    def test_a_gated_task_does_not_hold_the_next_ones(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        slow = pool.apply_async(tasks.pass_gate, (str(gate), "slow"))
        quick = [pool.apply_async(tasks.square, (x,)) for x in range(200)]
        assert [r.get(SOON) for r in quick] == [x * x for x in range(200)]
        assert not slow.ready()
        gate.touch()
        assert slow.get(SOON) == "slow"

    def test_a_slow_task_in_a_map_holds_no_other(self, pool: Pool, tmp_path: Path) -> None:
        gate, journal = tmp_path / "gate", tmp_path / "journal"
        given = [(x, str(gate), str(journal)) for x in range(200)]
        result = pool.map_async(rows.gated_first, given)
        tasks.wait_until(lambda: tasks.executions(journal) == 199, "all but the first ran")
        assert not result.ready()
        gate.touch()
        assert result.get(SOON) == list(range(200))

    def test_all_workers_are_used(self, tmp_path: Path) -> None:
        with self.make_pool(4) as pool:
            names = [str(x) for x in range(4)]
            got = pool.starmap(tasks.meet, [(str(tmp_path), name, 4) for name in names], 1)
            assert got == names

    def test_never_more_tasks_at_once_than_workers(self, tmp_path: Path) -> None:
        gate, started = tmp_path / "gate", tmp_path / "started"
        with self.make_pool(2) as pool:
            given = [(str(gate), x, str(started)) for x in range(10)]
            result = pool.starmap_async(tasks.pass_gate, given, 1)
            tasks.wait_until(lambda: tasks.executions(started) == 2, "two started")
            for _ in range(10):
                pool.info()
            assert tasks.executions(started) == 2
            gate.touch()
            assert result.get(SOON) == list(range(10))

    def test_a_task_does_not_run_in_the_caller_s_thread(self, pool: Pool) -> None:
        here = (tasks.pid(), threading.get_ident())
        assert (pool.apply(tasks.pid), pool.apply(tasks.thread_id)) != here

    def test_each_task_runs_exactly_once(self, pool: Pool, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        got = list(pool.imap_unordered(rows.note_row, [(str(journal), x) for x in range(3000)]))
        assert sorted(got) == list(range(3000))
        assert tasks.executions(journal) == 3000

    def test_a_waiter_in_a_thread_and_one_in_main(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        got: list[object] = []
        waiting = threading.Thread(
            target=lambda: got.append(pool.apply(tasks.pass_gate, (str(gate), "late")))
        )
        waiting.start()
        for x in range(200):
            assert pool.apply(tasks.square, (x,)) == x * x
        assert got == []
        gate.touch()
        waiting.join(SOON)
        assert got == ["late"]
