"""What is private in `multiprocessing.pool`, and programs and recipes use all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import millpond.pool as mpp
from millpond.testing import tasks
from millpond.testing.suite import Suite

if TYPE_CHECKING:
    from millpond import Pool

ITERATORS: list[Any] = [mpp.IMapIterator, mpp.IMapUnorderedIterator]


def istarmap(
    pool: Any, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int, kind: Any
) -> Iterator[Any]:
    """The recipe, as many programs have it."""
    pool._check_running()
    batches = mpp.Pool._get_tasks(func, iterable, chunksize)
    result = kind(pool)
    generation = pool._guarded_task_generation(result._job, mpp.starmapstar, batches)
    pool._taskqueue.put((generation, result._set_length))
    return (item for chunk in result for item in chunk)


def pairs_and_an_error() -> Iterator[tuple[int, int]]:
    """Input that fails behind two good ones."""
    yield 2, 3
    yield 3, 2
    raise LookupError("the input")


class PrivateNameTests(Suite):
    """What holds wherever tasks run."""

    @pytest.mark.parametrize("kind", ITERATORS)
    @pytest.mark.parametrize("chunksize", [1, 3, 100])
    def test_the_recipe_for_istarmap(self, pool: Pool, kind: Any, chunksize: int) -> None:
        got = list(istarmap(pool, pow, ((n, 2) for n in range(20)), chunksize, kind))
        assert sorted(got) == [n * n for n in range(20)]
        if kind is mpp.IMapIterator:
            assert got == sorted(got)
        assert list(istarmap(pool, pow, [], chunksize, kind)) == []

    def test_the_recipe_gives_errors_in_their_places(self, pool: Pool) -> None:
        got = istarmap(pool, pow, pairs_and_an_error(), 1, mpp.IMapIterator)
        assert [next(got), next(got)] == [8, 9]
        with pytest.raises(LookupError, match="the input"):
            next(got)
        got = istarmap(pool, divmod, [(4, 2), (1, 0)], 1, mpp.IMapIterator)
        assert next(got) == (2, 0)
        with pytest.raises(ZeroDivisionError):
            next(got)

    def test_other_entries_of_the_task_queue_are_refused_with_what_to_use(self, pool: Pool) -> None:
        task: Any = (0, 0, tasks.square, (2,), {})
        with pytest.raises(NotImplementedError, match="apply_async"):
            pool._taskqueue.put(([task], None))
        with pytest.raises(RuntimeError, match="_taskqueue"):
            mpp.IMapIterator(pool).next()

    def test_what_is_counted_is_there_until_all_has_ended(self, pool: Pool) -> None:
        result: Any = pool.map_async(tasks.square, range(10), chunksize=3)
        assert 0 <= result._number_left <= 4
        result.wait()
        assert result._number_left == 0
        assert len(pool._cache) == 0
        assert pool._taskqueue.empty()


class PrivateCountTests(Suite):
    """Where tasks run beside the caller, and can be held up."""

    def test_calls_and_chunks_that_have_not_ended_are_counted(self, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        with self.make_pool(2) as pool:
            result: Any = pool.map_async(tasks.pass_gate, [str(gate)] * 10, chunksize=3)
            calls = [pool.apply_async(tasks.pass_gate, (str(gate),)) for _ in range(5)]
            assert (result._number_left, result._chunksize, len(pool._cache)) == (4, 3, 6)
            assert pool._taskqueue.qsize() > 0
            gate.touch()
            assert len(result.get()) == 10
            for call in calls:
                call.wait()
            assert (result._number_left, len(pool._cache), pool._taskqueue.qsize()) == (0, 0, 0)
