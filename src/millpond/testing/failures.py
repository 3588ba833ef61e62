"""Tasks that raise: the error keeps its type and its place, and costs one task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.testing import rows, tasks
from millpond.testing.calls import MAPS, STARMAPS, all_values, one_value
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

EACH = ["apply", "apply_async", *MAPS, *STARMAPS]


def numbers_then_error(good: int) -> Iterator[int]:
    yield from range(good)
    raise tasks.Oops(good, "the input")


def outcomes(results: Any) -> list[Any]:
    """What an imap iterator gives, an error standing at its place as (type name, first arg)."""
    seen: list[Any] = []
    while len(seen) < 10_000:
        try:
            seen.append(next(results))
        except StopIteration:
            return seen
        except Exception as error:
            seen.append((type(error).__name__, error.args[0] if error.args else None))
    raise AssertionError(f"the iterator does not end: ... {seen[-3:]}")


class ErrorTests(Suite):
    """Errors raised by tasks."""

    @pytest.mark.parametrize("method", EACH)
    def test_an_error_keeps_type_args_and_attributes(self, pool: Pool, method: str) -> None:
        with pytest.raises(tasks.Oops) as info:
            one_value(pool, method, tasks.fail, 7)
        assert info.value.args == (7, "oops")
        assert info.value.number == 7

    @pytest.mark.parametrize("method", ["map", "map_async", "starmap", "starmap_async"])
    def test_a_map_raises_the_error(self, pool: Pool, method: str) -> None:
        values: list[Any] = [(x, 13) for x in range(20)] if "star" in method else list(range(20))
        func: Any = tasks.fail_on if "star" in method else tasks.fail_on_odd
        with pytest.raises(tasks.Oops) as info:
            all_values(pool, method, func, values, 1)
        assert info.value.number == 13 or "star" not in method

    def test_a_map_runs_every_task_before_it_raises(self, pool: Pool, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        rows = [(str(journal), x, 3) for x in range(40)]
        with pytest.raises(tasks.Oops):
            pool.starmap(tasks.note_and_fail_on, rows, 1)
        assert tasks.executions(journal) == 40

    @pytest.mark.parametrize("chunksize", [1, 4])
    def test_imap_raises_in_place_and_goes_on(self, pool: Pool, chunksize: int) -> None:
        got = outcomes(pool.imap(tasks.fail_on_odd, range(8), chunksize))
        assert got == [x if x % 2 == 0 else ("Oops", x) for x in range(8)]

    def test_imap_without_chunksize_raises_in_place(self, pool: Pool) -> None:
        got = outcomes(pool.imap(tasks.fail_on_odd, range(9)))
        assert got == [x if x % 2 == 0 else ("Oops", x) for x in range(9)]

    def test_imap_unordered_gives_each_error_once_and_goes_on(self, pool: Pool) -> None:
        got = outcomes(pool.imap_unordered(tasks.fail_on_odd, range(9)))
        assert sorted(map(str, got)) == sorted(
            str(x if x % 2 == 0 else ("Oops", x)) for x in range(9)
        )

    @pytest.mark.parametrize("method", ["imap", "imap_unordered"])
    def test_a_stop_iteration_of_a_task_does_not_end_the_loop(
        self, pool: Pool, method: str
    ) -> None:
        results = getattr(pool, method)(tasks.stop_on, [0, 1, 2, 3, 4, 5])
        with pytest.raises(RuntimeError) as info:
            list(results)
        assert isinstance(info.value.__cause__, StopIteration)
        assert len(outcomes(getattr(pool, method)(tasks.stop_on, range(6)))) == 6
        kept = list(getattr(pool, method)(tasks.stop_on, range(6), on_error="return"))
        assert len(kept) == 6
        with pytest.raises(StopIteration):
            pool.map(tasks.stop_on, range(6))
        with pytest.raises(RuntimeError):
            list(pool.executor.map(tasks.stop_on, range(6)))

    def test_an_error_costs_nothing_else(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.fail_on, (x, 5)) for x in range(10)]
        for x, result in enumerate(results):
            if x == 5:
                with pytest.raises(tasks.Oops):
                    result.get(SOON)
            else:
                assert result.get(SOON) == x
        assert pool.map(tasks.square, range(5)) == [0, 1, 4, 9, 16]

    def test_an_error_can_be_taken_again_and_again(self, pool: Pool) -> None:
        result = pool.apply_async(tasks.fail, (1,))
        for _ in range(3):
            with pytest.raises(tasks.Oops):
                result.get(SOON)
        assert not result.successful()

    def test_a_chained_error_arrives(self, pool: Pool) -> None:
        with pytest.raises(RuntimeError, match="outer") as info:
            pool.apply(tasks.fail_with_cause, (1,))
        assert info.value.__cause__ is not None
        assert "Oops" in str(info.value.__cause__) or isinstance(info.value.__cause__, tasks.Oops)

    @pytest.mark.parametrize("method", ["map", "map_async", "starmap"])
    def test_an_error_of_the_input_is_raised_by_map(self, pool: Pool, method: str) -> None:
        with pytest.raises(tasks.Oops, match="the input") as info:
            all_values(pool, method, tasks.square, numbers_then_error(5))
        assert info.value.__cause__ is None
        assert pool.map(tasks.square, [2]) == [4]

    @pytest.mark.parametrize("method", ["imap", "imap_unordered"])
    def test_an_error_of_the_input_comes_after_the_results_before_it(
        self, pool: Pool, method: str
    ) -> None:
        results = getattr(pool, method)(tasks.square, numbers_then_error(5))
        got = outcomes(results)
        assert sorted(x for x in got if isinstance(x, int)) == [0, 1, 4, 9, 16]
        assert got.count(("Oops", 5)) == 1
        assert got[-1] == ("Oops", 5) or method == "imap_unordered"

    def test_an_explicit_chunksize_drops_the_unfinished_chunk(self, pool: Pool) -> None:
        got = outcomes(pool.imap(tasks.square, numbers_then_error(5), 2))
        assert got == [0, 1, 4, 9, ("Oops", 5)]

    def test_starmap_of_what_cannot_be_unpacked_fails(self, pool: Pool) -> None:
        with pytest.raises(TypeError):
            pool.starmap(tasks.add, [1, 2, 3])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            pool.starmap(tasks.square, [(1, 2, 3)])
        assert pool.starmap(tasks.square, [(3,)]) == [9]


class AbortTests(Suite):
    """Exits and other BaseExceptions are the task's failure, never the caller's."""

    @pytest.mark.parametrize("code", [0, 3, "text", None], ids=repr)
    def test_sys_exit_in_a_task_is_its_failure(self, pool: Pool, code: Any) -> None:
        with pytest.raises(errors.TaskAborted, match="SystemExit"):
            pool.apply(tasks.exit_with, (code,))
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]

    def test_another_base_exception_is_its_failure(self, pool: Pool) -> None:
        with pytest.raises(errors.TaskAborted, match="Abort") as info:
            pool.apply_async(tasks.abort).get(SOON)
        assert isinstance(info.value, errors.MillpondError)
        assert isinstance(info.value, Exception)
        assert pool.apply(tasks.square, (3,)) == 9

    def test_aborts_in_a_map_cost_one_task_each(self, pool: Pool) -> None:
        got = outcomes(pool.imap(rows.exit_on_odd, range(6)))
        assert [g if isinstance(g, int) else g[0] for g in got] == [
            0, "TaskAborted", 2, "TaskAborted", 4, "TaskAborted",
        ]  # fmt: skip

    def test_a_map_with_an_abort_raises_it(self, pool: Pool) -> None:
        with pytest.raises(errors.TaskAborted):
            pool.map(rows.exit_on_odd, range(6))
        seen: list[BaseException] = []
        result = pool.map_async(rows.exit_on_odd, range(6), error_callback=seen.append)
        result.wait(SOON)
        assert not result.successful()
        assert [type(e) for e in seen] == [errors.TaskAborted]
