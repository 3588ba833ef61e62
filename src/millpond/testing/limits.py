"""What a pool can do that can end its workers: limits in time, other runs after a death, cancelling what runs.

Rules: a task that should be ended hangs for longer than a test may take, so a test that passes has seen it ended;
limits are short where every task is late, and long where some must not be.
"""

from __future__ import annotations

import re
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.testing import rows, tasks
from millpond.testing.deaths import SQUARES
from millpond.testing.failures import outcomes
from millpond.testing.options import EACH, LAZY, values_by
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

LATE = 0.5
"""Seconds: a limit that tasks which hang exceed at once, and those that return never."""
LONG = 20.0
"""Seconds: a limit that nothing exceeds here, on however busy a machine."""


class TimeoutTests(Suite):
    """`timeout`: the late task alone ends, whatever it does."""

    @pytest.mark.parametrize("how", rows.HANGS)
    def test_one_late_task_of_a_chunk_costs_itself_alone(
        self, pool: Pool, tmp_path: Path, how: str
    ) -> None:
        given = [(str(tmp_path), x, how) for x in range(12)]
        got: list[Any] = pool.map(rows.hang_on_5, given, 6, timeout=LATE, on_error="return")
        assert [x for x in got if isinstance(x, int)] == [x for x in range(12) if x != 5]
        assert isinstance(got[5], errors.TaskTimeout)
        assert [tasks.executions(tmp_path / str(x)) for x in range(12)] == [1] * 12
        assert pool.map(tasks.square, range(20)) == SQUARES

    @pytest.mark.parametrize("method", EACH)
    def test_every_method_keeps_the_limit(self, pool: Pool, method: str) -> None:
        with pytest.raises(errors.TaskTimeout, match=re.escape("0.1 ")):
            values_by(pool, method, rows.hang, ["sleeps"], timeout=0.1)
        assert pool.map(tasks.square, range(20)) == SQUARES

    def test_the_error_names_the_task(self, pool: Pool, tmp_path: Path) -> None:
        given = [(str(tmp_path), x, "sleeps") for x in range(7)]
        with pytest.raises(errors.TaskTimeout, match=r"hang_on_5.*5, 'sleeps'"):
            pool.map(rows.hang_on_5, given, timeout=LATE)

    @pytest.mark.parametrize("method", LAZY)
    def test_an_iteration_goes_on(self, pool: Pool, tmp_path: Path, method: str) -> None:
        given = ((str(tmp_path), x, "sleeps") for x in range(40))
        got = outcomes(getattr(pool, method)(rows.hang_on_5, given, timeout=LATE))
        assert sorted(x for x in got if isinstance(x, int)) == [x for x in range(40) if x != 5]
        assert [x[0] for x in got if not isinstance(x, int)] == ["TaskTimeout"]

    def test_the_time_is_a_task_s_own(self) -> None:
        """Not that of its chunk, nor that of its wait for a worker."""
        with self.make_pool(1) as pool:
            pool.map(tasks.square, range(4))
            seconds = [LATE / 4] * 8
            assert pool.map(tasks.sleep_for, seconds, 8, timeout=LATE * 1.5) == seconds

    def test_what_loading_takes_is_not_a_task_s_time(self, pool: Pool) -> None:
        """As a function does whose module imports much."""
        given = [rows.LoadsSlowly(3 * LATE)] * 2
        assert pool.map(tasks.identity, given, 1, timeout=LATE) == [3 * LATE] * 2
        got: Any = pool.map(rows.SlowToImport(3 * LATE), [1, 2], 1, timeout=LATE)
        assert got == [1, 2]

    def test_every_task_may_be_late(self, pool: Pool) -> None:
        got: list[Any] = pool.map(rows.hang, rows.HANGS, 1, timeout=0.05, on_error="return")
        assert [type(x) for x in got] == [errors.TaskTimeout] * 4
        assert pool.map(tasks.square, range(20)) == SQUARES

    def test_a_call_without_a_limit_beside_it_is_left_alone(
        self, pool: Pool, tmp_path: Path
    ) -> None:
        gate, started = tmp_path / "gate", tmp_path / "started"
        slow = pool.apply_async(tasks.pass_gate, (str(gate), 5, str(started)))
        tasks.wait_until(started.exists, "it runs")
        with pytest.raises(errors.TaskTimeout):
            pool.apply(rows.hang, ("spins",), timeout=0.05)
        gate.touch()
        assert slow.get(SOON) == 5
        assert tasks.executions(started) == 1

    def test_a_pool_s_limit_is_for_all(self) -> None:
        with self.make_pool(2, timeout=0.1) as pool:
            with pytest.raises(errors.TaskTimeout):
                pool.apply(rows.hang, ("sleeps",))
            with pytest.raises(errors.TaskTimeout):
                pool.submit(rows.hang, "sleeps").result(SOON)
            assert pool.apply(tasks.sleep_for, (0.2,), timeout=None) == 0.2
            assert pool.map(tasks.square, range(20)) == SQUARES


class TroubleTests(Suite):
    """`retries` after what ends a worker."""

    @pytest.mark.parametrize("how", ["dies", "hangs"])
    @pytest.mark.parametrize("method", EACH)
    def test_a_task_runs_again(self, pool: Pool, tmp_path: Path, method: str, how: str) -> None:
        given = [(str(tmp_path), x, how if x in (0, 3) else "works") for x in range(5)]
        got = values_by(pool, method, rows.trouble_at_first, given, timeout=LATE, retries=1)
        assert sorted(got) == list(range(5))
        assert [tasks.executions(tmp_path / str(x)) for x in range(5)] == [2, 1, 1, 2, 1]

    @pytest.mark.parametrize(
        ("how", "kind"), [("dies", errors.WorkerDied), ("hangs", errors.TaskTimeout)]
    )
    def test_not_if_it_is_excluded_nor_too_often(
        self, pool: Pool, tmp_path: Path, how: str, kind: type[Exception]
    ) -> None:
        not_again: list[dict[str, Any]] = [
            {"retries": 3, "retry_on": tasks.Oops}, {"retries": 0}, {"retry_on": kind},
        ]  # fmt: skip
        limit = 0.1 if how == "hangs" else LONG  # a death may be seen late
        for number, options in enumerate(not_again):
            row = (str(tmp_path), number, how)
            with pytest.raises(kind):
                pool.apply(rows.trouble_at_first, (row,), timeout=limit, **options)
            assert tasks.executions(tmp_path / str(number)) == 1
        with pytest.raises(kind):
            pool.apply(rows.trouble, (how,), timeout=limit, retries=2)
        assert pool.map(tasks.square, range(20)) == SQUARES

    def test_a_death_and_a_limit_are_told_apart(self, pool: Pool, tmp_path: Path) -> None:
        options: dict[str, Any] = {"timeout": 0.1, "retries": 1, "retry_on": errors.WorkerDied}
        assert pool.apply(rows.trouble_at_first, ((str(tmp_path), 1, "dies"),), **options) == 1
        with pytest.raises(errors.TaskTimeout):
            pool.apply(rows.trouble_at_first, ((str(tmp_path), 2, "hangs"),), **options)


class CancelTests(Suite):
    """`cancel()` and `fail_fast` of what runs."""

    def test_a_call_that_runs(self, pool: Pool, tmp_path: Path) -> None:
        for how in rows.HANGS:
            folder = tmp_path / how
            folder.mkdir()
            result = pool.apply_async(rows.hang_on_5, ((str(folder), 5, how),))
            tasks.wait_until((folder / "5").exists, "it runs")
            assert result.cancel()
            assert result.cancelled()
            with pytest.raises(CancelledError):
                result.get(0)
        assert pool.map(tasks.square, range(20)) == SQUARES

    def test_a_map_that_runs_is_ended_as_a_whole(self, pool: Pool, tmp_path: Path) -> None:
        journal, never = tmp_path / "journal", str(tmp_path / "never")
        result = pool.map_async(rows.pass_gate_row, [(never, str(journal))] * 20, 1)
        tasks.wait_until(lambda: tasks.executions(journal) == 2, "two tasks run")
        assert result.cancel()
        with pytest.raises(CancelledError):
            result.get(0)
        assert pool.map(tasks.square, range(20)) == SQUARES
        assert tasks.executions(journal) == 2

    @pytest.mark.parametrize("how", ["raises", "dies", "hangs"])
    def test_a_call_in_the_pause_before_its_next_run(
        self, pool: Pool, tmp_path: Path, how: str
    ) -> None:
        row = (str(tmp_path), 1, how)
        options: dict[str, Any] = {"retries": 5, "backoff": 300.0, "timeout": 0.1}
        told: list[Any] = []
        result = pool.map_async(rows.trouble_at_first, [row], progress=told.append, **options)
        tasks.wait_until(lambda: told and told[-1].retried, "its first run has failed")
        assert result.cancel()
        assert pool.map(tasks.square, range(20)) == SQUARES
        pool.close()
        pool.join()
        assert tasks.executions(tmp_path / "1") == 1

    def test_a_call_in_its_second_run(self, pool: Pool, tmp_path: Path) -> None:
        never = str(tmp_path / "never")
        row = (str(tmp_path / "runs"), never)
        result = pool.apply_async(rows.fail_then_wait, (row,), retries=5)
        tasks.wait_until(lambda: tasks.executions(tmp_path / "runs") == 2, "it runs again")
        assert result.cancel()
        assert pool.map(tasks.square, range(20)) == SQUARES
        assert tasks.executions(tmp_path / "runs") == 2

    def test_what_runs_is_stopped_by_the_first_error_if_that_is_asked(
        self, pool: Pool, tmp_path: Path
    ) -> None:
        journal, gate, never = (str(tmp_path / name) for name in ("journal", "gate", "never"))
        given = [(journal, gate if x == 1 else never, x) for x in range(20)]
        result = pool.map_async(rows.wait_then_fail, given, 1, fail_fast=True)
        tasks.wait_until(lambda: tasks.executions(Path(journal)) == 2, "two tasks run")
        Path(gate).touch()
        with pytest.raises(tasks.Oops):
            result.get(SOON)
        assert pool.map(tasks.square, range(20)) == SQUARES
        assert tasks.executions(Path(journal)) <= 4

    def test_a_late_task_ends_a_call_that_fails_fast(self, pool: Pool, tmp_path: Path) -> None:
        given = [(str(tmp_path), x, "sleeps") for x in (0, 1, 5, 5, 5, 5, 5)]
        with pytest.raises(errors.TaskTimeout) as caught:
            pool.map(rows.hang_on_5, given, 1, timeout=LATE, fail_fast=True)
        assert caught.value.partial == {0: 0, 1: 1}  # type: ignore[attr-defined]
        assert pool.map(tasks.square, range(20)) == SQUARES
