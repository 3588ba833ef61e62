"""What ``cost=`` has to do on every backend: the longest first, and all else as without it."""

from __future__ import annotations

from pathlib import Path

import pytest

import millpond
from millpond import Pool
from millpond.testing import rows, tasks
from millpond.testing.suite import Suite


def draw(_: int) -> float:
    """A random number of the task's own."""
    return float(millpond.rng().random())


class CostTests(Suite):
    """``cost``."""

    @pytest.mark.parametrize("chunksize", [None, 1, 4])
    def test_results_are_in_the_order_of_the_input(self, pool: Pool, chunksize: int | None) -> None:
        given = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5] * 5
        got = pool.map(tasks.square, given, chunksize, cost=abs)
        assert got == [x * x for x in given]
        pairs = [(x, 2) for x in given]
        assert pool.starmap(pow, pairs, chunksize, cost=lambda x, _: -x) == got

    def test_the_costliest_are_begun_first(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        given = [(str(journal), x) for x in (2, 7, 1, 8, 2, 8, 1, 8)]
        with self.make_pool(1) as pool:
            pool.starmap(rows.write_line, given, 1, cost=lambda _, x: x)
        begun = [int(line) for line in journal.read_text().split()]
        assert begun == sorted(begun, reverse=True)

    def test_errors_tell_the_place_in_the_input(self, pool: Pool) -> None:
        with pytest.raises(tasks.Oops) as caught:
            pool.map(tasks.fail_on_odd, [2, 0, 3, 4], cost=abs, on_error="raise")
        assert caught.value.partial == {0: 2, 1: 0, 3: 4}  # type: ignore[attr-defined]
        got = pool.map(tasks.fail_on_odd, [2, 1, 4], cost=abs, on_error="return")
        assert [type(x) for x in got] == [int, tasks.Oops, int]
        assert pool.map(tasks.fail_on_odd, [5, 2, 1, 4], cost=abs, on_error="skip") == [2, 4]

    @pytest.mark.parametrize("wrong", [3, "size"])
    def test_what_is_no_function_is_refused(self, pool: Pool, wrong: object) -> None:
        with pytest.raises(TypeError, match="cost must be a function"):
            pool.map(tasks.square, [1], cost=wrong)  # type: ignore[arg-type]

    def test_an_error_of_it_is_the_callers_before_any_task(self, pool: Pool) -> None:
        with pytest.raises(TypeError, match="bad operand"):
            pool.map(tasks.identity, [1, "two"], cost=abs)

    def test_where_there_is_nothing_to_order_it_is_refused(self, pool: Pool) -> None:
        for call in (
            lambda: pool.imap(tasks.square, [1], cost=abs),
            lambda: pool.apply(tasks.square, (1,), cost=abs),
        ):
            with pytest.raises(TypeError, match="nothing to order"):
                call()

    def test_with_a_seed_the_numbers_are_the_same(self, pool: Pool) -> None:
        given = [3, 1, 4, 1, 5, 9]
        assert pool.map(draw, given, seed=7, cost=abs) == pool.map(draw, given, seed=7)
