"""imap and imap_unordered: bounded both ways, at their own pace, left at any point."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond.testing import rows, tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

IMAPS = ["imap", "imap_unordered"]
AHEAD = 1024
"""Inputs a worker that an imap without buffersize may be ahead of its consumer, at most."""


class Meter:
    """Endless input that knows how far it was pulled ahead of the results taken."""

    def __init__(self, stop: int | None = None) -> None:
        self.pulled = self.taken = self.most_ahead = 0
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        while self.stop is None or self.pulled < self.stop:
            self.pulled += 1
            self.most_ahead = max(self.most_ahead, self.pulled - self.taken)
            yield self.pulled - 1

    def take(self, results: Iterator[Any], count: int) -> list[Any]:
        """Take results; one may be on its way while this counts, hence the bound plus one."""
        got = []
        for _ in range(count):
            got.append(next(results))
            self.taken += 1
        return got


class LazyTests(Suite):
    """What holds wherever tasks run."""

    @pytest.mark.parametrize("method", IMAPS)
    def test_the_iterator_is_an_iterator(self, pool: Pool, method: str) -> None:
        results = getattr(pool, method)(tasks.square, [1, 2, 3])
        assert iter(results) is results
        assert sorted([next(results), results.next(), results.next(timeout=SOON)]) == [1, 4, 9]
        for _ in range(3):
            with pytest.raises(StopIteration):
                next(results)
        with pytest.raises(StopIteration):
            results.next(timeout=0.1)

    @pytest.mark.parametrize("method", IMAPS)
    @pytest.mark.parametrize("buffersize", [1, 2, 5, 64])
    def test_buffersize_bounds_how_far_the_input_is_pulled(
        self, pool: Pool, method: str, buffersize: int
    ) -> None:
        meter = Meter()
        results = getattr(pool, method)(tasks.identity, meter, buffersize=buffersize)
        got = meter.take(results, 300)
        assert len(set(got)) == 300
        assert meter.most_ahead <= buffersize + 1
        results.close()

    @pytest.mark.parametrize("method", IMAPS)
    def test_endless_input_works_and_is_bounded(self, pool: Pool, method: str) -> None:
        meter = Meter()
        results = getattr(pool, method)(tasks.identity, meter)
        got = meter.take(results, 3000)
        if method == "imap":
            assert got == list(range(3000))
        assert len(set(got)) == 3000
        assert meter.most_ahead <= 2 * AHEAD + 1
        del results

    @pytest.mark.parametrize("method", IMAPS)
    def test_a_consumer_that_stops_stops_the_input(self, pool: Pool, method: str) -> None:
        meter = Meter()
        results = getattr(pool, method)(tasks.identity, meter, buffersize=10)
        meter.take(results, 3)
        for _ in range(20):
            assert pool.apply(tasks.square, (3,)) == 9
        assert meter.pulled <= 3 + 10
        results.close()

    @pytest.mark.parametrize("method", IMAPS)
    def test_chunks_keep_to_the_bound(self, pool: Pool, method: str) -> None:
        meter = Meter(stop=200)
        results = getattr(pool, method)(tasks.identity, meter, chunksize=4, buffersize=16)
        assert sorted(meter.take(results, 200)) == list(range(200))
        assert meter.most_ahead <= 16 + 4 + 1
        with pytest.raises(StopIteration):
            next(results)

    @pytest.mark.parametrize("buffersize", [0, -3])
    def test_a_buffersize_below_one_is_refused(self, pool: Pool, buffersize: int) -> None:
        for method in IMAPS:
            with pytest.raises(ValueError, match="buffersize"):
                getattr(pool, method)(tasks.square, [1], buffersize=buffersize)
            with pytest.raises(TypeError, match="buffersize"):
                getattr(pool, method)(tasks.square, [1], buffersize="5")

    @pytest.mark.parametrize("method", IMAPS)
    def test_the_first_result_comes_before_a_slow_input_ends(self, pool: Pool, method: str) -> None:
        first_taken = threading.Event()

        def slow() -> Iterator[int]:
            yield 1
            assert first_taken.wait(SOON), "the first result was held back"
            yield 2

        results = getattr(pool, method)(tasks.square, slow())
        assert next(results) == 1
        first_taken.set()
        assert list(results) == [4]

    @pytest.mark.parametrize("method", IMAPS)
    def test_an_input_may_be_fed_by_its_own_results(self, pool: Pool, method: str) -> None:
        feed: queue.Queue[int | None] = queue.Queue()
        feed.put(2)
        seen = []
        for value in getattr(pool, method)(tasks.square, iter(feed.get, None)):
            seen.append(value)
            feed.put(value if value < 1000 else None)
        assert seen == [4, 16, 256, 65536]

    @pytest.mark.parametrize("method", IMAPS)
    def test_an_input_may_call_the_same_pool(self, pool: Pool, method: str) -> None:
        def rooted() -> Iterator[int]:
            for x in range(10):
                yield pool.apply(tasks.square, (x,))

        got = sorted(getattr(pool, method)(tasks.square, rooted()))
        assert got == [x**4 for x in range(10)]
        assert pool.map(tasks.square, rooted()) == got

    @pytest.mark.parametrize("method", IMAPS)
    def test_close_and_join_finish_what_is_not_yet_taken(self, method: str) -> None:
        with self.make_pool(2) as pool:
            results = getattr(pool, method)(tasks.square, range(5000))
            small = getattr(pool, method)(tasks.square, iter(range(50)), buffersize=2)
            pool.close()
            pool.join()
            assert sorted(results) == [x * x for x in range(5000)]
            assert sorted(small) == [x * x for x in range(50)]

    @pytest.mark.parametrize("method", IMAPS)
    def test_leaving_the_iterator_cancels_what_has_not_started(
        self, method: str, tmp_path: Path
    ) -> None:
        for leave in ("close", "del"):
            journal = tmp_path / leave
            with self.make_pool(2) as pool:
                given = ((str(journal), x) for x in range(100_000))
                results = getattr(pool, method)(rows.note_row, given)
                next(results)
                if leave == "close":
                    results.close()
                del results
                gc.collect()
                assert pool.apply(tasks.square, (3,)) == 9
                pool.close()
                pool.join()
            assert 1 <= tasks.executions(journal) < 50_000

    def test_a_closed_iterator_has_nothing_more(self, pool: Pool) -> None:
        results = pool.imap(tasks.square, itertools.count())
        assert next(results) == 0
        results.close()
        results.close()
        with pytest.raises(StopIteration):
            next(results)

    def test_two_iterators_do_not_mix(self, pool: Pool) -> None:
        one = pool.imap(tasks.identity, range(100))
        two = pool.imap(tasks.identity, range(100, 200), buffersize=3)
        assert list(zip(one, two, strict=True)) == [(x, x + 100) for x in range(100)]

    def test_an_iterator_may_be_read_in_another_thread(self, pool: Pool) -> None:
        results = pool.imap(tasks.identity, iter(range(200)), buffersize=4)
        got = [next(results)]
        reader = threading.Thread(target=lambda: got.extend(results))
        reader.start()
        reader.join(SOON)
        assert got == list(range(200))

    def test_unread_iterators_do_not_block_others(self, pool: Pool) -> None:
        unread = [pool.imap(tasks.identity, itertools.count()) for _ in range(5)]
        assert pool.map(tasks.square, range(100)) == [x * x for x in range(100)]
        assert [next(results) for results in unread] == [0] * 5


class LazyInBackgroundTests(Suite):
    """What holds where workers run beside the caller."""

    @pytest.mark.parametrize("method", IMAPS)
    def test_next_times_out_and_the_value_comes_later(
        self, pool: Pool, tmp_path: Path, method: str
    ) -> None:
        gate = tmp_path / "gate"
        results = getattr(pool, method)(tasks.pass_gate, [str(gate)])
        for timeout in (0, 0.02, 0.02):
            with pytest.raises(multiprocessing.TimeoutError):
                results.next(timeout)
        gate.touch()
        assert results.next(timeout=SOON) is None
        with pytest.raises(StopIteration):
            results.next(timeout=SOON)

    @pytest.mark.parametrize("method", IMAPS)
    def test_work_starts_at_the_call(self, pool: Pool, tmp_path: Path, method: str) -> None:
        journal = tmp_path / "journal"
        given = ((str(journal), x) for x in range(4))
        results = getattr(pool, method)(rows.note_row, given)
        tasks.wait_until(lambda: tasks.executions(journal) == 4, "all ran, none was asked for")
        assert sorted(results) == [0, 1, 2, 3]

    def test_unordered_results_come_as_they_are_done(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        results = pool.imap_unordered(rows.quick_or_gated_row, [(x, str(gate)) for x in range(30)])
        got = [next(results) for _ in range(29)]
        assert sorted(got) == list(range(1, 30))
        gate.touch()
        assert list(results) == [0]

    @pytest.mark.parametrize("method", [*IMAPS, "apply_async"])
    @pytest.mark.parametrize("count", [30, 500])
    def test_what_is_done_is_not_held_back_by_a_longer_task_behind_it(
        self, tmp_path: Path, method: str, count: int
    ) -> None:
        gate = tmp_path / "gate"
        given = [(x, str(gate)) for x in range(count, -1, -1)]  # 0 waits, and is the last
        with self.make_pool(1) as pool:
            if method == "apply_async":
                calls = [pool.apply_async(rows.quick_or_gated_row, (row,)) for row in given]
                results = (call.get(SOON) for call in calls)
            else:
                results = getattr(pool, method)(rows.quick_or_gated_row, given)
            assert [next(results) for _ in range(count)] == [x for x, _ in given[:-1]]
            gate.touch()
            assert list(results) == [0]

    def test_ordered_results_wait_for_the_first(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        results = pool.imap(rows.quick_or_gated_row, [(x, str(gate)) for x in range(30)])
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.05)
        gate.touch()
        assert list(results) == list(range(30))
