"""Coroutine functions in a pool: each worker holds many at once; what ends one ends no other, and no worker."""

from __future__ import annotations

from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.testing import tasks
from millpond.testing import waits as functions
from millpond.testing.failures import outcomes
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

waits: Any = functions  # what a pool makes of their types is for the tests of types

LATE = 0.1
"""Seconds: a limit for coroutines that stay; the others only ever give way."""


class CoroutineTests(Suite):
    """What every backend does with them."""

    @pytest.mark.parametrize("function", [waits.square, waits.at_once])
    def test_every_method_gives_what_they_return(self, pool: Pool, function: Any) -> None:
        expected = [x * x if function is waits.square else x for x in range(50)]
        assert pool.map(function, range(50)) == expected
        assert list(pool.imap(function, range(50))) == expected
        assert sorted(pool.imap_unordered(function, iter(range(50)), 7)) == expected
        assert pool.starmap(function, [(x,) for x in range(50)], 3) == expected
        assert pool.apply(function, (7,)) == expected[7]
        assert pool.submit(function, 7).result(SOON) == expected[7]

    def test_arguments_by_position_and_name(self, pool: Pool) -> None:
        assert pool.apply(waits.add, (1,), {"c": 3}) == (1, 10, 3)
        assert pool.starmap(waits.add, [(1, 2), (3, 4)]) == [(1, 2, 100), (3, 4, 100)]

    def test_whatever_gives_coroutines(self, pool: Pool) -> None:
        functions: list[Any] = [
            waits.Squarer(), waits.Squarer().method, partial(waits.square), partial(waits.Squarer()),
        ]  # fmt: skip
        assert [pool.map(function, [3, 4]) for function in functions] == [[9, 16]] * 4
        assert [pool.apply(function, (3,)) for function in functions] == [9] * 4

    def test_an_error_is_its_task_s_alone(self, pool: Pool) -> None:
        got = outcomes(pool.imap(waits.fail_on_odd, range(10)))
        assert [x for x in got if isinstance(x, int)] == [0, 2, 4, 6, 8]
        with pytest.raises(tasks.Oops) as caught:
            pool.apply(waits.fail_on_odd, (3,))
        assert caught.value.number == 3

    @pytest.mark.parametrize("how", ["exit", "interrupt", "cancel", "own"])
    def test_what_is_no_exception_ends_the_task_alone(self, pool: Pool, how: str) -> None:
        with pytest.raises(errors.TaskAborted):
            pool.apply(waits.abort, (how,))
        assert pool.map(waits.square, range(5)) == [0, 1, 4, 9, 16]

    def test_a_limit_ends_the_coroutine_alone(self, pool: Pool) -> None:
        with pytest.raises(errors.TaskTimeout, match=r"task 0 of stay .*0\.1 s"):
            pool.apply(waits.stay, (1,), timeout=LATE)
        got: list[Any] = pool.map(
            waits.stay_on, [(x, 3) for x in range(6)], timeout=2 * LATE, on_error="return"
        )
        assert [type(x) for x in got] == [int, int, int, errors.TaskTimeout, int, int]

    def test_one_that_will_not_go_is_given_up(self, pool: Pool) -> None:
        with pytest.raises(errors.TaskTimeout):
            pool.apply(waits.refuse_to_go, (1,), timeout=LATE)
        assert pool.apply(waits.square, (3,)) == 9

    def test_it_is_run_again(self, pool: Pool, tmp_path: Path) -> None:
        given = [(str(tmp_path), x, x % 3) for x in range(6)]
        assert pool.map(waits.fail_at_first, given, retries=2) == list(range(6))
        assert [tasks.executions(tmp_path / str(x)) for x in range(6)] == [1, 2, 3] * 2

    def test_a_limit_and_retries(self, pool: Pool) -> None:
        with pytest.raises(errors.TaskTimeout):
            pool.apply(waits.stay, (1,), timeout=LATE / 2, retries=1)

    def test_numbers_are_a_task_s_own(self, pool: Pool) -> None:
        pytest.importorskip("numpy")
        drawn = pool.map(waits.draw, range(20), seed=5)
        assert len(set(drawn)) == 20
        assert pool.map(waits.draw, range(20), 1, seed=5, concurrency=1) == drawn
        assert pool.apply(waits.draw, seed=5) == drawn[0]

    def test_all_of_asyncio_works(self, pool: Pool) -> None:
        expected = [(True, sum((x + n) ** 2 for n in range(3)), True, True) for x in range(5)]
        assert pool.map(waits.with_all_of_asyncio, range(5), concurrency=2) == expected

    def test_plain_tasks_have_loops_of_their_own(self, pool: Pool) -> None:
        assert pool.map(waits.square, range(3)) == [0, 1, 4]
        assert pool.map(waits.run_a_loop, range(3)) == [0, 1, 4]
        assert pool.map(waits.square, range(3)) == [0, 1, 4]

    def test_it_ends_with_the_pool_s_work(self) -> None:
        pool = self.make_pool(2)
        result = pool.map_async(waits.square, range(300), concurrency=3)
        pool.close()
        pool.join()
        assert result.get(SOON) == [x * x for x in range(300)]


class ConcurrentCoroutineTests(Suite):
    """They run beside each other, and beside the caller."""

    @pytest.mark.parametrize("method", ["map", "imap", "apply_async"])
    def test_so_many_run_at_once_and_no_more(self, tmp_path: Path, method: str) -> None:
        given = [(str(tmp_path), 30)] * 60
        with self.make_pool(1) as pool:
            if method == "apply_async":
                results = [pool.apply_async(waits.crowd, (row,), concurrency=30) for row in given]
                seen = [result.get(SOON) for result in results]
            else:
                seen = list(getattr(pool, method)(waits.crowd, given, concurrency=30))
        assert set(seen) == {30}

    def test_one_after_another_where_that_is_asked_for(self, tmp_path: Path) -> None:
        with self.make_pool(1) as pool:
            assert pool.map(waits.crowd, [(str(tmp_path), 1)] * 10, concurrency=1) == [1] * 10

    def test_cancelling_reaches_the_coroutine(self, pool: Pool, tmp_path: Path) -> None:
        begun, ended = tmp_path / "begun", tmp_path / "ended"
        result = pool.apply_async(waits.stay_and_note, (str(begun), str(ended)))
        tasks.wait_until(begun.exists, "it runs")
        assert result.cancel()
        assert result.cancelled()
        with pytest.raises(CancelledError):
            result.get(SOON)
        tasks.wait_until(ended.exists, "it was cancelled")
        assert pool.apply(waits.square, (3,)) == 9

    def test_cancelling_all_that_run_and_wait(self) -> None:
        with self.make_pool(1) as pool:
            result = pool.map_async(waits.stay, range(50), concurrency=4)
            beside = pool.apply_async(waits.square, (3,))
            assert result.cancel()
            assert beside.get(SOON) == 9
            assert pool.map(waits.square, range(3)) == [0, 1, 4]

    def test_plain_tasks_run_beside_them(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        waiting = [pool.apply_async(waits.pass_gate, (str(gate), x)) for x in range(6)]
        assert pool.map(tasks.square, range(20)) == [x * x for x in range(20)]
        assert pool.apply(waits.run_a_loop, (4,)) == 16
        gate.touch()
        assert [result.get(SOON) for result in waiting] == list(range(6))

    def test_joining_waits_for_those_that_run(self, tmp_path: Path) -> None:
        gate, started = tmp_path / "gate", tmp_path / "started"
        pool = self.make_pool(1)
        result = pool.apply_async(waits.pass_gate, (str(gate), 5, str(started)))
        tasks.wait_until(started.exists, "it runs")
        pool.close()
        gate.touch()
        pool.join()
        assert result.get(SOON) == 5

    def test_one_that_was_cancelled_after_the_close(self, tmp_path: Path) -> None:
        begun, ended = tmp_path / "begun", tmp_path / "ended"
        pool = self.make_pool(1)
        result = pool.apply_async(waits.stay_and_note, (str(begun), str(ended)))
        tasks.wait_until(begun.exists, "it runs")
        pool.close()
        assert result.cancel()
        pool.join()
        assert ended.exists()

    def test_terminating_ends_those_that_run(self, tmp_path: Path) -> None:
        started = tmp_path / "started"
        pool = self.make_pool(2)
        pool.apply_async(waits.pass_gate, (str(tmp_path / "gate"), 5, str(started)))
        tasks.wait_until(started.exists, "it runs")
        pool.terminate()
        pool.join()

    def test_every_task_is_answered_whatever_cancels_it(self, pool: Pool) -> None:
        got = outcomes(pool.imap(waits.cancel_all_others, range(40), concurrency=10))
        assert len(got) == 40
        assert {x if x is None else x[0] for x in got} <= {None, "TaskAborted"}
        assert pool.apply(waits.square, (3,)) == 9


class CoroutineWorkerTests(Suite):
    """Their workers are processes: what a coroutine does to its own, and what it does not."""

    def test_neither_a_limit_nor_a_cancel_costs_the_worker(self, tmp_path: Path) -> None:
        begun, ended = tmp_path / "begun", tmp_path / "ended"
        with self.make_pool(1) as pool:
            worker = pool.apply(waits.pid)
            with pytest.raises(errors.TaskTimeout):
                pool.apply(waits.stay, timeout=LATE)
            result = pool.apply_async(waits.stay_and_note, (str(begun), str(ended)))
            tasks.wait_until(begun.exists, "it runs")
            assert result.cancel()
            tasks.wait_until(ended.exists, "it was cancelled")
            assert pool.apply(waits.pid) == worker

    def test_one_that_blocks_the_loop_is_late_all_the_same(self, pool: Pool) -> None:
        with pytest.raises(errors.TaskTimeout):
            pool.apply(waits.block, (tasks.LIMIT,), timeout=LATE)
        assert pool.apply(waits.square, (3,)) == 9

    def test_a_death_is_blamed_on_the_one_that_ran(self, tmp_path: Path) -> None:
        given = [(x, 2, 5, str(tmp_path)) for x in range(5)]
        with self.make_pool(1) as pool:
            got: list[Any] = pool.map(waits.die_on, given, on_error="return")
            assert [type(x) for x in got] == [errors.WorkerDied] * 5
            assert [x.blamed for x in got] == [False, False, True, False, False]
            assert [x.task for x in got] == list(range(5))
            assert pool.apply(waits.square, (3,)) == 9

    def test_those_that_had_not_begun_go_to_another_worker(self, tmp_path: Path) -> None:
        given = [(x, 1, str(tmp_path)) for x in range(6)]
        with self.make_pool(1) as pool:
            got: list[Any] = pool.map(waits.die_at_first, given, concurrency=1, on_error="return")
        assert [x for x in got if isinstance(x, int)] == [0, 2, 3, 4, 5]
        assert got[1].blamed
        assert [tasks.executions(tmp_path / str(x)) for x in range(6)] == [1] * 6

    def test_those_that_had_begun_are_run_again_if_they_may_be(self, tmp_path: Path) -> None:
        given = [(x, 3, str(tmp_path)) for x in range(6)]
        with self.make_pool(1) as pool:
            assert pool.map(waits.die_at_first, given, retries=1) == list(range(6))

    def test_workers_are_replaced_after_so_many(self) -> None:
        with self.make_pool(1, maxtasksperchild=5) as pool:
            pids = pool.map(waits.pid, range(20), 1, concurrency=3)
            assert len(set(pids)) == 4

    def test_a_copy_of_the_worker_answers_nothing(self) -> None:
        with self.make_pool(1) as pool:
            assert pool.map(waits.fork_a_copy, range(5)) == list(range(5))
            assert pool.apply(waits.square, (3,)) == 9
