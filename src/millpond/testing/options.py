"""The options of tasks, as far as they hold wherever a task runs: `retries`, `on_error`, `seed`, `progress`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.testing import rows, tasks
from millpond.testing.calls import MAPS, STARMAPS
from millpond.testing.failures import outcomes
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from collections.abc import Callable

    from millpond import Pool

EACH = ["apply", "apply_async", *MAPS, *STARMAPS]
LAZY = ["imap", "imap_unordered"]


def values_by(
    pool: Pool, method: str, func: Callable[[Any], Any], values: list[Any], **options: Any
) -> list[Any]:
    """func of each value, through any of the methods, with options."""
    call: Any = getattr(pool, method)
    if method == "apply":
        return [call(func, (value,), **options) for value in values]
    if method == "apply_async":
        pending = [call(func, (value,), **options) for value in values]
        return [result.get(SOON) for result in pending]
    made = call(func, [(value,) for value in values] if "star" in method else values, **options)
    return list(made.get(SOON) if hasattr(made, "get") else made)


class OptionTests(Suite):
    """What may be given, where, and what is said of what may not."""

    @pytest.mark.parametrize("method", EACH)
    def test_every_method_takes_options_and_names_the_nearest(
        self, pool: Pool, method: str
    ) -> None:
        got = values_by(pool, method, tasks.square, [1, 2, 3], retries=1, on_error="return")
        assert sorted(got) == [1, 4, 9]
        with pytest.raises(TypeError, match=r"no option 'retires'; did you mean 'retries'\?"):
            values_by(pool, method, tasks.square, [1], retires=1)

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            (ValueError, {"timeout": 0}),
            (TypeError, {"timeout": "5"}),
            (ValueError, {"retries": -1}),
            (TypeError, {"retries": 1.5}),
            (TypeError, {"retry_on": "KeyError"}),
            (ValueError, {"backoff": -1}),
            (ValueError, {"on_error": "ignore"}),
            (TypeError, {"fail_fast": 1}),
            (TypeError, {"progress": 3}),
            (TypeError, {"seed": "x"}),
            (ValueError, {"concurrency": 0}),
            (ValueError, {"fail_fast": True, "on_error": "skip"}),
        ],
        ids=str,
    )
    def test_a_bad_value_is_named_before_any_work(
        self, pool: Pool, tmp_path: Path, kind: type[Exception], options: dict[str, Any]
    ) -> None:
        journal = tmp_path / "journal"
        for given in (pool.map, pool.imap, pool.apply):
            call: Any = given
            with pytest.raises(kind, match=next(iter(options))):
                call(tasks.note, [str(journal)], **options)
        with pytest.raises(kind, match=next(iter(options))):
            self.make_pool(1, **options)
        assert tasks.executions(journal) == 0

    @pytest.mark.parametrize("method", EACH)
    def test_a_limit_that_cannot_be_kept_is_refused_at_the_call(
        self, pool: Pool, tmp_path: Path, method: str
    ) -> None:
        journal = tmp_path / "journal"
        with contextlib.ExitStack() as stack:
            if not pool._backend.kills:
                said = r"timeout=20 .*backend='processes'"
                stack.enter_context(pytest.raises(errors.CannotKill, match=said))
            values_by(pool, method, tasks.note, [str(journal)], timeout=SOON)
        assert tasks.executions(journal) == pool._backend.kills
        assert sorted(values_by(pool, method, tasks.square, [2, 3], timeout=None)) == [4, 9]

    def test_a_pool_s_options_are_the_default_of_each_call(self) -> None:
        with self.make_pool(2, on_error="skip") as pool:
            assert pool.map(tasks.fail_on_odd, range(5)) == [0, 2, 4]
            assert list(pool.imap(tasks.fail_on_odd, range(5))) == [0, 2, 4]
            skipped: Any = pool.apply_async(tasks.fail, (1,))
            assert skipped.get(SOON) is None
            skipped = pool.submit(tasks.fail, 1)
            assert skipped.result(SOON) is None

    def test_a_call_s_option_overrides_the_pool_s_and_leaves_the_others(
        self, tmp_path: Path
    ) -> None:
        given = [(str(tmp_path), x, 1) for x in range(4)]
        with self.make_pool(2, on_error="skip", retries=1) as pool:
            assert pool.map(rows.fail_at_first, given, on_error="raise") == [0, 1, 2, 3]
            with pytest.raises(tasks.Oops):
                pool.map(tasks.fail_on_odd, range(5), on_error=None)
            assert pool.map(tasks.fail_on_odd, range(5)) == [0, 2, 4]

    def test_submit_hands_on_all_that_it_is_given(self, pool: Pool) -> None:
        result = pool.submit(tasks.everything, 1, 2, timeout=3, func=4, retries=5)
        assert result.result(SOON) == ((1, 2), {"timeout": 3, "func": 4, "retries": 5})
        with pytest.raises(tasks.Oops):
            pool.submit(tasks.fail, 7).result(SOON)


class RetryTests(Suite):
    """`retries`, `retry_on` and `backoff`, for tasks that raise."""

    @pytest.mark.parametrize("method", EACH)
    def test_a_task_that_fails_runs_again_as_often_as_it_may(
        self, pool: Pool, tmp_path: Path, method: str
    ) -> None:
        given = [(str(tmp_path), x, x % 3) for x in range(9)]
        got = values_by(pool, method, rows.fail_at_first, given, retries=2)
        assert sorted(got) == list(range(9))
        assert [tasks.executions(tmp_path / str(x)) for x in range(9)] == [1, 2, 3] * 3

    def test_the_last_run_s_error_is_the_task_s(self, pool: Pool, tmp_path: Path) -> None:
        given = [(str(tmp_path), x, 9 if x == 3 else 0) for x in range(8)]
        with pytest.raises(tasks.Oops) as caught:
            pool.map(rows.fail_at_first, given, retries=2)
        assert caught.value.number == 3
        assert [tasks.executions(tmp_path / str(x)) for x in range(8)] == [1, 1, 1, 3, 1, 1, 1, 1]

    @pytest.mark.parametrize("chunksize", [None, 1, 4])
    def test_the_others_of_its_chunk_run_once(
        self, pool: Pool, tmp_path: Path, chunksize: int | None
    ) -> None:
        given = [(str(tmp_path), x, x in (1, 6)) for x in range(12)]
        assert pool.map(rows.fail_at_first, given, chunksize, retries=1) == list(range(12))
        assert [tasks.executions(tmp_path / str(x)) for x in range(12)] == [
            2 if x in (1, 6) else 1 for x in range(12)
        ]

    @pytest.mark.parametrize("chunksize", [None, 3])
    def test_imap_keeps_the_order(self, pool: Pool, tmp_path: Path, chunksize: int | None) -> None:
        given = ((str(tmp_path), x, x % 2) for x in range(40))
        got = pool.imap(rows.fail_at_first, given, chunksize, retries=1)
        assert list(got) == list(range(40))

    def test_only_errors_that_were_named_are_tried_again(self, pool: Pool, tmp_path: Path) -> None:
        row = (str(tmp_path), 1, 1)
        with pytest.raises(KeyError):
            pool.apply(rows.look_up_at_first, (row,), retries=3, retry_on=tasks.Oops)
        assert tasks.executions(tmp_path / "1") == 1
        row = (str(tmp_path), 2, 2)
        options: dict[str, Any] = {"retries": 3, "retry_on": (OSError, LookupError)}
        assert pool.apply(rows.look_up_at_first, (row,), **options) == 2
        assert tasks.executions(tmp_path / "2") == 3

    def test_without_retries_nothing_runs_twice(self, pool: Pool, tmp_path: Path) -> None:
        row = (str(tmp_path), 1, 1)
        with pytest.raises(tasks.Oops):
            pool.apply(rows.fail_at_first, (row,), retry_on=tasks.Oops, backoff=0.1)
        assert tasks.executions(tmp_path / "1") == 1

    def test_a_short_pause_ends(self, pool: Pool, tmp_path: Path) -> None:
        given = [(str(tmp_path), x, 2) for x in range(6)]
        got = pool.map(rows.fail_at_first, given, retries=2, backoff=0.002)
        assert got == list(range(6))

    def test_an_abort_is_no_exception_and_not_tried_again(self, pool: Pool) -> None:
        with pytest.raises(errors.TaskAborted):
            pool.apply(tasks.abort, retries=2)
        assert pool.apply(tasks.square, (3,)) == 9


class PauseTests(Suite):
    """`backoff`, where tasks run beside the caller: in the caller itself nothing else can run meanwhile."""

    def test_other_tasks_run_during_the_pause(self, tmp_path: Path) -> None:
        with self.make_pool(1) as pool:
            first = pool.apply_async(
                rows.fail_at_first, ((str(tmp_path), 1, 1),), retries=1, backoff=300.0
            )
            assert pool.map(tasks.square, range(20)) == [x * x for x in range(20)]
            tasks.wait_until((tmp_path / "1").exists, "it has run once")
            assert pool.map(tasks.square, range(20)) == [x * x for x in range(20)]
            assert not first.ready()
        assert tasks.executions(tmp_path / "1") == 1


class OnErrorTests(Suite):
    """`on_error` and `fail_fast`."""

    @pytest.mark.parametrize("chunksize", [None, 1, 3])
    @pytest.mark.parametrize("method", ["map", "map_async"])
    def test_raise_carries_what_succeeded(
        self, pool: Pool, method: str, chunksize: int | None
    ) -> None:
        with pytest.raises(tasks.Oops) as caught:
            values_by(
                pool, method, tasks.fail_on_odd, [0, 1, 2, 3, 4, 5],
                chunksize=chunksize, on_error="raise",
            )  # fmt: skip
        assert caught.value.number == 1
        assert caught.value.partial == {0: 0, 2: 2, 4: 4}  # type: ignore[attr-defined]

    @pytest.mark.parametrize("method", EACH)
    def test_return_puts_the_error_in_the_value_s_place(self, pool: Pool, method: str) -> None:
        got = values_by(pool, method, tasks.fail_on_odd, [0, 1, 2, 3], on_error="return")
        seen = [x.number if isinstance(x, tasks.Oops) else ("value", x) for x in got]
        expected = [("value", 0), 1, ("value", 2), 3]
        assert sorted(map(str, seen)) == sorted(map(str, expected))
        assert method == "imap_unordered" or seen == expected

    @pytest.mark.parametrize("method", [*MAPS, *STARMAPS])
    def test_skip_leaves_it_out(self, pool: Pool, method: str) -> None:
        got = values_by(pool, method, tasks.fail_on_odd, list(range(7)), on_error="skip")
        assert sorted(got) == [0, 2, 4, 6]

    def test_the_first_error_ends_a_call_that_fails_fast(self, pool: Pool, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        given = [(str(journal), x, 0) for x in range(5000)]
        with pytest.raises(tasks.Oops) as caught:
            pool.starmap(tasks.note_and_fail_on, given, 1, fail_fast=True)
        assert caught.value.number == 0
        assert pool.map(tasks.square, range(20)) == [x * x for x in range(20)]
        assert tasks.executions(journal) < 5000
        assert all(x == y for x, y in caught.value.partial.items())  # type: ignore[attr-defined]

    @pytest.mark.parametrize("method", LAZY)
    def test_an_iteration_that_fails_fast_is_over(self, pool: Pool, method: str) -> None:
        got = outcomes(getattr(pool, method)(tasks.fail_on_odd, iter(range(300)), fail_fast=True))
        assert isinstance(got[-1], tuple)
        assert all(isinstance(value, int) for value in got[:-1])
        assert pool.apply(tasks.square, (3,)) == 9

    def test_a_retry_comes_before_the_error(self, pool: Pool, tmp_path: Path) -> None:
        given = [(str(tmp_path), x, x) for x in range(4)]
        options: dict[str, Any] = {"retries": 2, "on_error": "return"}
        got: list[Any] = pool.map(rows.fail_at_first, given, **options)
        assert got[:3] == [0, 1, 2]
        assert isinstance(got[3], tasks.Oops)
        assert tasks.executions(tmp_path / "3") == 3


class SeedTests(Suite):
    """`seed`: numbers that depend on a task's index and on nothing else. Needs NumPy."""

    @pytest.fixture(autouse=True)
    def _numpy(self) -> None:
        pytest.importorskip("numpy")

    def expected(self, count: int, seed: int = 42) -> list[int]:
        import numpy as np

        children = np.random.SeedSequence(seed).spawn(count)
        return [int(np.random.default_rng(child).integers(1 << 60)) for child in children]

    @pytest.mark.parametrize("workers", [1, 3])
    @pytest.mark.parametrize("chunksize", [None, 1, 4])
    def test_any_number_of_workers_and_any_chunks(
        self, workers: int, chunksize: int | None
    ) -> None:
        with self.make_pool(workers) as pool:
            assert pool.map(rows.draw, range(12), chunksize, seed=42) == self.expected(12)
            assert list(pool.imap(rows.draw, iter(range(12)), chunksize, seed=42)) == (
                self.expected(12)
            )

    def test_every_method(self, pool: Pool) -> None:
        expected = self.expected(6)
        for method in [*MAPS, *STARMAPS]:
            got = values_by(pool, method, rows.draw, list(range(6)), seed=42)
            assert sorted(got) == sorted(expected), method
        for method in ["apply", "apply_async"]:
            got = values_by(pool, method, rows.draw, [0, 1], seed=42)
            assert got == [expected[0]] * 2, method

    def test_a_run_that_failed_does_not_count(self, pool: Pool, tmp_path: Path) -> None:
        given = [(str(tmp_path), x, x % 3) for x in range(9)]
        got = pool.map(rows.draw_and_fail_at_first, given, retries=2, seed=42)
        assert got == self.expected(9)

    def test_a_pool_s_seed_makes_each_call_another_and_each_pool_the_same(self) -> None:
        histories: list[list[int]] = []
        for _ in range(2):
            with self.make_pool(2, seed=7) as pool:
                drawn = [*pool.map(rows.draw, range(4)), *pool.map(rows.draw, range(4))]
                histories.append([*drawn, pool.apply(rows.draw), pool.apply(rows.draw)])
        assert histories[0] == histories[1]
        assert len(set(histories[0])) == 10

    def test_without_a_seed_no_two_tasks_draw_the_same(self, pool: Pool) -> None:
        drawn = [*pool.map(rows.draw, range(40), 1), *pool.map(rows.draw, range(40), 1)]
        assert len(set(drawn)) == 80


class ProgressTests(Suite):
    """`progress`, given a callable."""

    @pytest.mark.parametrize("chunksize", [None, 1, 7])
    @pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
    def test_the_last_snapshot_is_exact(
        self, pool: Pool, method: str, chunksize: int | None
    ) -> None:
        seen: list[Any] = []
        options: dict[str, Any] = {"chunksize": chunksize, "on_error": "skip"}
        got = values_by(
            pool, method, tasks.fail_on_odd, list(range(101)), progress=seen.append, **options
        )
        assert len(got) == 51
        last = seen[-1]
        assert (last.done, last.total, last.failed, last.retried) == (101, 101, 50, 0)
        assert last.description == "fail_on_odd"
        counts = [snapshot.done for snapshot in seen]
        assert counts == sorted(counts)

    @pytest.mark.parametrize("method", LAZY)
    def test_the_total_is_known_once_the_input_has_ended(self, pool: Pool, method: str) -> None:
        seen: list[Any] = []
        list(getattr(pool, method)(tasks.square, iter(range(50)), progress=seen.append))
        assert seen[-1][1:3] == (50, 50)

    def test_runs_that_failed_are_counted_apart(self, pool: Pool, tmp_path: Path) -> None:
        seen: list[Any] = []
        given = [(str(tmp_path), x, x % 3) for x in range(9)]
        pool.map(rows.fail_at_first, given, retries=2, progress=seen.append)
        last = seen[-1]
        assert (last.done, last.total, last.failed, last.retried) == (9, 9, 0, 9)

    def test_the_callable_s_error_is_reported_once_and_is_not_the_call_s(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []
        monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(str(args.exc_value)))

        def broken(_: Any) -> None:
            raise RuntimeError("the display is broken")

        assert pool.map(tasks.square, range(20), progress=broken) == [x * x for x in range(20)]
        assert told == ["the display is broken"]
