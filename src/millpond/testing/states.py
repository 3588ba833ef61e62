"""What a callable keeps from one call to the next: no worker's tasks depend on how many workers there are."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from millpond.testing import tasks
from millpond.testing.stateful import Walk, gather, write
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

_LARGE = 1 << 14
"""Items of eight bytes of an array that travels beside its pickle."""


def steps_of(count: int, chunk: int) -> list[Any]:
    """What a walker gives that is new for each chunk."""
    walks = [Walk() for _ in range(0, count, chunk)]
    return [walks[x // chunk].step(x) for x in range(count)]


class StateTests(Suite):
    """For backends whose tasks run in other processes."""

    @pytest.mark.parametrize("processes", [1, 3])
    @pytest.mark.parametrize("chunksize", [1, 4])
    def test_each_chunk_has_the_callable_as_the_caller_has_it(
        self, processes: int, chunksize: int
    ) -> None:
        expected = steps_of(30, chunksize)
        numbers = [x % chunksize + 1 for x in range(30)]
        with self.make_pool(processes) as pool:
            walk = Walk()
            for function in (walk.step, walk):
                assert pool.map(function, range(30), chunksize) == expected
                assert list(pool.imap(function, range(30), chunksize)) == expected
                assert list(pool.imap(function, iter(range(30)), chunksize)) == expected
                unordered = list(pool.imap_unordered(function, range(30), chunksize))
                assert sorted(unordered) == sorted(expected)
                assert pool.starmap(function, [(x,) for x in range(30)], chunksize) == expected
            assert pool.map(functools.partial(gather, []), range(30), chunksize) == numbers
            assert walk.steps == 0

    @pytest.mark.parametrize("processes", [1, 2])
    def test_without_chunksize_the_chunks_are_those_of_multiprocessing(
        self, processes: int
    ) -> None:
        with self.make_pool(processes) as pool:
            assert pool.map(Walk().step, range(50)) == steps_of(50, -(-50 // (4 * processes)))
            assert list(pool.imap(Walk().step, range(50))) == steps_of(50, 1)

    def test_each_call_has_it_anew(self, pool: Pool) -> None:
        walk = Walk()
        pending = [pool.apply_async(walk.step) for _ in range(10)]
        assert {result.get(SOON)[0] for result in pending} == {1}
        assert [steps for steps, _ in pool.executor.map(walk.step, range(10))] == [1] * 10

    def test_a_closure_keeps_nothing_from_chunk_to_chunk(self, pool: Pool) -> None:
        kept: list[int] = []
        count = 0

        def add(x: int) -> int:
            kept.append(x)
            return len(kept)

        def rebind(_: int) -> int:
            nonlocal count
            count += 1
            return count

        for function in (add, rebind, lambda x, kept=kept: gather(kept, x)):
            assert pool.map(function, range(20), 5) == [1, 2, 3, 4, 5] * 4

    def test_what_is_written_to_a_large_array_stays_in_its_chunk(self, pool: Pool) -> None:
        numpy = pytest.importorskip("numpy")
        function = functools.partial(write, numpy.zeros(_LARGE))
        assert pool.map(function, range(12), 1) == [1.0] * 12
        assert list(pool.imap(function, range(12), 3)) == [1.0, 2.0, 3.0] * 4

    def test_a_chunk_is_not_parted_though_others_are_idle(self) -> None:
        with self.make_pool(3) as pool:
            assert pool.map(Walk().step_slowly, range(12), 12) == steps_of(12, 12)

    def test_another_try_has_it_anew(self, pool: Pool) -> None:
        for method in (pool.map, pool.imap):
            with pytest.raises(tasks.Oops):
                list(method(Walk().fail_once, range(3), 1, retries=2))
        with pytest.raises(tasks.Oops):
            pool.apply(Walk().fail_once, (1,), retries=2)

    def test_options_change_nothing_about_it(self, pool: Pool) -> None:
        expected = steps_of(20, 4)
        assert pool.map(Walk().step, range(20), 4, seed=3) == expected
        assert pool.map(Walk().step, range(20), 4, timeout=60) == expected
        assert list(pool.imap(Walk().step, range(20), 4, retries=1)) == expected

    def test_coroutines_share_it(self) -> None:
        with self.make_pool(1) as pool:
            walk: Any = Walk().walk
            assert sorted(pool.map(walk, range(6), 1)) == [1, 2, 3, 4, 5, 6]
