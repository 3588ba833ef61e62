"""What asynchronous calls return: AsyncResults that are concurrent.futures.Futures as well."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.testing import tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run work(0) ... work(count - 1), each in a thread, and give back what they return."""
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return [f.result(SOON) for f in [threads.submit(work, i) for i in range(count)]]


class ResultTests(Suite):
    """A result that has settled."""

    def test_ready_and_successful(self, pool: Pool) -> None:
        good, bad = pool.apply_async(tasks.square, (2,)), pool.apply_async(tasks.fail, (2,))
        good.wait(SOON)
        bad.wait()
        assert good.ready()
        assert good.successful()
        assert bad.ready()
        assert not bad.successful()

    def test_a_map_result_is_one_too(self, pool: Pool) -> None:
        good = pool.map_async(tasks.square, range(5))
        bad = pool.starmap_async(tasks.fail_on, [(x, 1) for x in range(5)])
        good.wait(timeout=SOON)
        bad.wait(timeout=SOON)
        assert (good.ready(), good.successful()) == (True, True)
        assert (bad.ready(), bad.successful()) == (True, False)
        assert good.get(0) == [0, 1, 4, 9, 16]

    def test_get_gives_the_same_again(self, pool: Pool) -> None:
        result = pool.apply_async(tasks.identity, ([1, 2],))
        assert result.get(SOON) == [1, 2]
        assert result.get() == result.get(0) == result.result() == [1, 2]

    @pytest.mark.parametrize("method", ["apply_async", "map_async", "starmap_async"])
    def test_results_are_futures(self, pool: Pool, method: str) -> None:
        args: dict[str, Any] = {"apply_async": (3,), "map_async": [3], "starmap_async": [(3,)]}
        result = getattr(pool, method)(tasks.square, args[method])
        assert isinstance(result, concurrent.futures.Future)
        assert result.result(timeout=SOON) == (9 if method == "apply_async" else [9])
        assert result.exception() is None
        assert result.done()
        assert not result.running()
        assert not result.cancelled()
        assert not result.cancel()

    def test_a_failed_future_holds_its_exception(self, pool: Pool) -> None:
        result = pool.apply_async(tasks.fail, (3,))
        assert isinstance(result.exception(SOON), tasks.Oops)
        with pytest.raises(tasks.Oops):
            result.result(SOON)
        assert result.done()

    def test_done_callbacks_get_the_future(self, pool: Pool) -> None:
        seen: list[Any] = []
        told = threading.Event()
        result = pool.apply_async(tasks.square, (3,))

        def look(future: concurrent.futures.Future[int]) -> None:
            seen.append((future is result, future.result(0)))
            told.set()

        result.add_done_callback(look)
        assert told.wait(SOON)
        result.add_done_callback(look)
        assert seen == [(True, 9), (True, 9)]

    def test_as_completed_and_wait_take_results(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
        done, pending = concurrent.futures.wait(results, timeout=SOON)
        assert (len(done), len(pending)) == (20, 0)
        results = [pool.apply_async(tasks.sleep_a_little, (x,)) for x in range(20)]
        values = [f.result() for f in concurrent.futures.as_completed(results, timeout=SOON)]
        assert sorted(values) == list(range(20))

    def test_wait_sees_the_first_exception(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.fail_on, (x, 0)) for x in range(3)]
        done, _ = concurrent.futures.wait(
            results, timeout=SOON, return_when=concurrent.futures.FIRST_EXCEPTION
        )
        assert any(isinstance(f.exception(0), tasks.Oops) for f in done)

    def test_many_threads_may_wait_for_one_result(self, pool: Pool) -> None:
        result = pool.map_async(tasks.sleep_a_little, range(20), 1)
        assert in_threads(6, lambda _: result.get(SOON)) == [list(range(20))] * 6

    def test_many_threads_may_use_one_pool(self, pool: Pool) -> None:
        def work(i: int) -> list[Any]:
            got: list[Any] = [pool.apply(tasks.add, (i, k)) for k in range(40)]
            got.append(pool.map(tasks.square, range(i, i + 50)))
            got.append(list(pool.imap(tasks.identity, range(i, i + 50))))
            got.append(pool.apply_async(tasks.square, (i,)).get(SOON))
            return got

        expected = [
            [(i, k, 100) for k in range(40)]
            + [[x * x for x in range(i, i + 50)], list(range(i, i + 50)), i * i]
            for i in range(4)
        ]
        assert in_threads(4, work) == expected

    def test_results_outlive_the_pool(self) -> None:
        with self.make_pool(2, graceful=True) as pool:
            results = [pool.apply_async(tasks.square, (x,)) for x in range(10)]
            failed = pool.apply_async(tasks.fail, (1,))
        assert [r.get(0) for r in results] == [x * x for x in range(10)]
        with pytest.raises(tasks.Oops):
            failed.get(0)


class PendingResultTests(Suite):
    """A result whose task still runs: it takes a backend that works beside the caller."""

    def test_successful_before_ready_is_a_value_error(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        for method, values in [("apply_async", (str(gate), 5)), ("map_async", [str(gate)])]:
            result = getattr(pool, method)(tasks.pass_gate, values)
            assert not result.ready()
            with pytest.raises(ValueError, match="not ready"):
                result.successful()
            gate.touch()
            result.wait(SOON)
            assert result.successful()
            gate.unlink()

    @pytest.mark.parametrize("timeout", [0, 0.02, -1])
    def test_get_times_out_and_the_value_comes_later(
        self, pool: Pool, tmp_path: Path, timeout: float
    ) -> None:
        gate = tmp_path / "gate"
        result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        for _ in range(3):
            with pytest.raises(multiprocessing.TimeoutError):
                result.get(timeout)
        mapped = pool.map_async(tasks.pass_gate, [str(gate)] * 2)
        with pytest.raises(multiprocessing.TimeoutError):
            mapped.get(timeout=timeout)
        gate.touch()
        assert result.get(SOON) == 5
        assert mapped.get(SOON) == [None, None]

    def test_wait_with_a_timeout_returns(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        result.wait(0.02)
        result.wait(timeout=0)
        assert not result.ready()
        gate.touch()
        result.wait()
        assert result.ready()

    def test_a_future_s_own_timeout(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        with pytest.raises(concurrent.futures.TimeoutError):
            result.result(timeout=0.02)
        with pytest.raises(concurrent.futures.TimeoutError):
            result.exception(timeout=0.02)
        assert not result.done()
        gate.touch()
        assert result.result(SOON) == 5

    def test_as_completed_gives_what_is_done_first(self, pool: Pool, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        slow = pool.apply_async(tasks.pass_gate, (str(gate), "slow"))
        quick = pool.apply_async(tasks.identity, ("quick",))
        order = concurrent.futures.as_completed([slow, quick], timeout=SOON)
        assert next(order).result() == "quick"
        gate.touch()
        assert next(order).result() == "slow"

    def test_a_call_settles_after_its_callback(self, pool: Pool, tmp_path: Path) -> None:
        gate, seen, held = tmp_path / "gate", list[bool](), threading.Event()

        def look(_: Any) -> None:
            held.wait(SOON)
            seen.append(result.ready())

        result = pool.apply_async(tasks.pass_gate, (str(gate), 5), callback=look)
        gate.touch()
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(0.3)
        held.set()
        assert result.get(SOON) == 5
        assert seen == [False]

    def test_results_settle_with_nobody_waiting(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.square, (x,)) for x in range(50)]
        mapped = pool.map_async(tasks.square, range(50))
        tasks.wait_until(lambda: mapped.ready() and all(r.ready() for r in results), "all ready")
        assert mapped.get(0) == [r.get(0) for r in results]

    def test_an_interrupted_task_is_its_failure(self, pool: Pool) -> None:
        with pytest.raises(errors.TaskAborted, match="KeyboardInterrupt"):
            pool.apply(tasks.interrupt)
        with pytest.raises(errors.TaskAborted):
            pool.map(tasks.interrupt, range(3))
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
