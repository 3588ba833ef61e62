"""A pool as a ``concurrent.futures.Executor``: the contract, and what it means for the pool."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.executor import PoolExecutor
from millpond.testing import tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"


class ExecutorSuite(Suite):
    """An executor on the pool under test."""

    @pytest.fixture
    def executor(self, pool: Pool) -> PoolExecutor:
        """It is not shut down after the test: that is nobody's duty."""
        return PoolExecutor(pool)

    @contextlib.contextmanager
    def _kept_busy(self, executor: PoolExecutor, folder: Path) -> Iterator[Path]:
        """Every worker is in a task that waits for the gate, which the end of the context opens."""
        gate, started = folder / "gate", folder / "started"
        count = executor._max_workers
        held = [executor.submit(tasks.pass_gate, str(gate), n, str(started)) for n in range(count)]
        tasks.wait_until(lambda: tasks.executions(started) == count, "every worker is busy")
        try:
            yield gate
        finally:
            gate.touch()
            assert [future.result(SOON) for future in held] == list(range(count))


class ExecutorTests(ExecutorSuite):
    """For any backend."""

    def test_submit_gives_a_future(self, executor: PoolExecutor) -> None:
        future = executor.submit(pow, 2, 8)
        assert isinstance(executor, concurrent.futures.Executor)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(SOON) == 256
        assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
        assert future.exception() is None
        assert not future.cancel()

    def test_any_name_may_be_a_keyword(self, executor: PoolExecutor) -> None:
        future = executor.submit(tasks.everything, 1, self=2, fn=3, args=4)
        assert future.result(SOON) == ((1,), {"self": 2, "fn": 3, "args": 4})
        with pytest.raises(TypeError):
            executor.submit(fn=tasks.everything)  # type: ignore[call-arg]

    def test_an_exception_is_the_future_s(self, executor: PoolExecutor) -> None:
        future = executor.submit(tasks.fail, 7)
        assert isinstance(future.exception(SOON), tasks.Oops)
        with pytest.raises(tasks.Oops, match="7"):
            future.result(SOON)

    def test_map_is_in_order(self, executor: PoolExecutor) -> None:
        assert list(executor.map(tasks.sleep_a_little, range(20))) == list(range(20))
        assert list(executor.map(pow, range(9), [2, 3] * 3)) == list(map(pow, range(9), [2, 3] * 3))
        assert list(executor.map(tasks.nothing)) == []
        assert list(executor.map(tasks.square, [])) == []

    @pytest.mark.parametrize("chunksize", [2, 3, 7, 100])
    @pytest.mark.parametrize("buffersize", [None, 1, 3])
    def test_chunks_change_nothing(
        self, executor: PoolExecutor, chunksize: int, buffersize: int | None
    ) -> None:
        results = executor.map(
            pow, range(20), itertools.repeat(2), chunksize=chunksize, buffersize=buffersize
        )
        assert list(results) == [x * x for x in range(20)]

    def test_map_takes_functions_without_a_name(self, executor: PoolExecutor) -> None:
        for chunksize, buffersize in itertools.product((1, 4), (None, 2)):
            results = executor.map(
                lambda x: x + 1, range(10), chunksize=chunksize, buffersize=buffersize
            )
            assert list(results) == list(range(1, 11))

    def test_map_pulls_its_input_at_once(self, executor: PoolExecutor) -> None:
        numbers = iter(range(2000))
        results = executor.map(tasks.identity, numbers)
        assert next(numbers, None) is None
        assert next(results) == 0

    def test_map_with_a_buffer_pulls_no_more_than_that(self, executor: PoolExecutor) -> None:
        numbers = itertools.count()
        results = executor.map(tasks.identity, numbers, buffersize=4)
        assert next(numbers) == 4  # which the map will not see
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 5]
        assert next(numbers) == 10

    @pytest.mark.parametrize("chunksize", [1, 2])
    def test_an_error_ends_the_map(self, executor: PoolExecutor, chunksize: int) -> None:
        results = executor.map(tasks.fail_on, range(8), [4] * 8, chunksize=chunksize)
        assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(tasks.Oops):
            next(results)
        assert list(results) == []

    def test_an_error_of_the_input_comes_through(self, executor: PoolExecutor) -> None:
        def numbers() -> Iterator[int]:
            yield from range(3)
            raise tasks.Oops(1)

        with pytest.raises(tasks.Oops):
            executor.map(tasks.square, numbers())
        results = executor.map(tasks.square, numbers(), buffersize=1)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(tasks.Oops):
            next(results)
        assert list(results) == []

    def test_arguments_of_map_are_checked(self, executor: PoolExecutor) -> None:
        with pytest.raises(ValueError, match="chunksize must be >= 1"):
            executor.map(tasks.square, [1], chunksize=0)
        for wrong in (0, -1):
            with pytest.raises(ValueError, match="buffersize must be None or > 0"):
                executor.map(tasks.square, [1], buffersize=wrong)
        for bad in ("2", 2.0):
            with pytest.raises(TypeError, match="buffersize must be an integer or None"):
                executor.map(tasks.square, [1], buffersize=bad)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            executor.map(tasks.square, 1)  # type: ignore[arg-type]

    def test_after_a_shutdown_it_takes_no_more(self, executor: PoolExecutor) -> None:
        future = executor.submit(tasks.square, 3)
        executor.shutdown()
        executor.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
            executor.submit(tasks.square, 3)
        with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
            executor.map(tasks.square, [3])
        assert future.result(0) == 9

    def test_the_pool_goes_on_after_a_shutdown(self, pool: Pool) -> None:
        for _ in range(2):
            with PoolExecutor(pool) as executor:
                future = executor.submit(tasks.square, 3)
            assert future.result(0) == 9
        assert pool.apply(tasks.square, (4,)) == 16

    def test_a_closed_pool_takes_no_more(self, pool: Pool, executor: PoolExecutor) -> None:
        future = executor.submit(tasks.square, 3)
        pool.close()
        with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
            executor.submit(tasks.square, 3)
        executor.shutdown()
        assert future.result(0) == 9

    def test_wait_and_as_completed_take_its_futures(self, executor: PoolExecutor) -> None:
        futures = [executor.submit(tasks.sleep_a_little, x) for x in range(10)]
        assert not concurrent.futures.wait(futures, SOON).not_done
        futures = [executor.submit(tasks.sleep_a_little, x) for x in range(10)]
        values = [future.result() for future in concurrent.futures.as_completed(futures, SOON)]
        assert sorted(values) == list(range(10))

    def test_callbacks_get_the_future(self, executor: PoolExecutor) -> None:
        seen: list[Any] = []
        future = executor.submit(tasks.square, 3)
        future.add_done_callback(lambda mine: seen.append((mine, mine.result(0))))
        future.add_done_callback(seen.append)
        executor.shutdown()  # when it returns, they have run
        assert seen == [(future, 9), future]
        future.add_done_callback(seen.append)
        assert seen[2] is future

    def test_what_a_callback_raises_is_logged(
        self, executor: PoolExecutor, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: object) -> None:
            raise tasks.Oops(3)

        seen: list[Any] = []
        with caplog.at_level(logging.ERROR, "concurrent.futures"):
            future = executor.submit(tasks.square, 3)
            future.add_done_callback(fail)
            future.add_done_callback(seen.append)
            executor.shutdown()
        # Either of the two: whether it was done before the callback was added.
        assert [record.msg for record in caplog.records] == ["exception calling callback for %r"]
        assert seen == [future]

    def test_asyncio_takes_it(self, executor: PoolExecutor) -> None:
        async def main() -> list[int]:
            loop = asyncio.get_running_loop()
            calls = [loop.run_in_executor(executor, tasks.square, x) for x in range(10)]
            with pytest.raises(tasks.Oops):
                await loop.run_in_executor(executor, tasks.fail, 3)
            return await asyncio.gather(*calls)

        assert asyncio.run(main()) == [x * x for x in range(10)]


class PendingExecutorTests(ExecutorSuite):
    """For backends whose tasks run beside the caller: what waits, runs or is done."""

    def test_only_what_is_pending_can_be_cancelled(
        self, executor: PoolExecutor, tmp_path: Path
    ) -> None:
        seen: list[Any] = []
        gate, journal = str(tmp_path / "other"), tmp_path / "journal"
        running = [
            executor.submit(tasks.pass_gate, gate, n, str(journal))
            for n in range(executor._max_workers)
        ]
        tasks.wait_until(lambda: tasks.executions(journal) == len(running), "all run")
        pending = executor.submit(tasks.note, str(tmp_path / "never"))
        pending.add_done_callback(seen.append)
        assert [future.running() for future in [*running, pending]] == [True] * len(running) + [
            False
        ]
        assert not any(future.cancel() for future in running)
        assert pending.cancel()
        assert seen == [pending]  # called before cancel returned
        assert pending.cancel()
        assert pending.cancelled()
        assert pending.done()
        with pytest.raises(concurrent.futures.CancelledError):
            pending.result()
        with pytest.raises(concurrent.futures.CancelledError):
            pending.exception()
        Path(gate).touch()
        executor.shutdown()
        assert [future.result() for future in running] == list(range(len(running)))
        assert tasks.executions(tmp_path / "never") == 0

    @pytest.mark.parametrize("how", ["cancel", "shutdown"])
    def test_what_was_sent_and_has_not_begun_is_taken_back(
        self, executor: PoolExecutor, tmp_path: Path, how: str
    ) -> None:
        gate, journal, count = tmp_path / "gate", tmp_path / "journal", executor._max_workers
        tasks.make_calls_of_pass_gate_short(executor._pool, executor.submit, tmp_path)
        call: Any = tasks.pass_gate, gate, 7, str(journal)
        futures = [executor.submit(*call) for _ in range(20 * count)]
        tasks.wait_until(lambda: tasks.executions(journal) == count, "every worker is busy")
        assert sum(future._sent for future in futures) > count
        running = [future for future in futures if future.running()]
        assert len(running) == count
        if how == "cancel":
            assert [f for f in futures if not f.cancel()] == running
        else:
            executor.shutdown(wait=False, cancel_futures=True)
        assert [future for future in futures if not future.cancelled()] == running
        gate.touch()
        executor.shutdown()
        assert [future.result() for future in running] == [7] * count
        assert tasks.executions(journal) == count

    def test_what_was_cancelled_is_done_for_wait(
        self, executor: PoolExecutor, tmp_path: Path
    ) -> None:
        with self._kept_busy(executor, tmp_path):
            before, after = executor.submit(tasks.square, 3), executor.submit(tasks.square, 4)
            before.cancel()
            assert concurrent.futures.wait([before], SOON).done == {before}
            threading.Timer(0, after.cancel).start()
            assert concurrent.futures.wait([after], SOON).done == {after}
            assert set(concurrent.futures.as_completed([before, after], SOON)) == {before, after}

    def test_cancelling_wakes_the_thread_that_waits(
        self, pool: Pool, executor: PoolExecutor, tmp_path: Path
    ) -> None:
        with self._kept_busy(executor, tmp_path):
            future = executor.submit(tasks.square, 3)

            def cancel() -> None:
                # Asleep it is the driver, and nothing will come that would wake it.
                tasks.wait_until(lambda: pool._engine.life.seat.asleep, "the waiter drives")
                future.cancel()

            thread = threading.Thread(target=cancel)
            thread.start()
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(SOON)
            thread.join()

    def test_wait_sees_the_first_exception(self, executor: PoolExecutor, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        slow = executor.submit(tasks.pass_gate, str(gate))
        bad = executor.submit(tasks.fail, 3)
        first = concurrent.futures.FIRST_EXCEPTION
        assert concurrent.futures.wait([slow, bad], SOON, first) == ({bad}, {slow})
        gate.touch()
        assert slow.result(SOON) is None

    def test_a_result_may_not_come_in_time(self, executor: PoolExecutor, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        future = executor.submit(tasks.pass_gate, str(gate))
        for ask in (future.result, future.exception):
            with pytest.raises(TimeoutError):
                ask(0.01)
        gate.touch()
        assert future.result(SOON) is None

    def test_shutdown_waits_for_what_nobody_holds(
        self, executor: PoolExecutor, tmp_path: Path
    ) -> None:
        gate, journal = tmp_path / "gate", tmp_path / "journal"
        for _ in range(3):
            executor.submit(tasks.pass_gate, str(gate), None, str(journal))
        executor.map(tasks.note, [str(journal)] * 100)
        threading.Timer(0.01, gate.touch).start()
        executor.shutdown()
        assert tasks.executions(journal) == 103

    def test_shutdown_need_not_wait(self, executor: PoolExecutor, tmp_path: Path) -> None:
        with self._kept_busy(executor, tmp_path):
            future = executor.submit(tasks.square, 3)
            executor.shutdown(wait=False)
            assert not future.done()
        assert future.result(SOON) == 9

    def test_shutdown_cancels_what_is_pending(self, executor: PoolExecutor, tmp_path: Path) -> None:
        journal = str(tmp_path / "journal")
        with self._kept_busy(executor, tmp_path):
            futures = [executor.submit(tasks.note, journal) for _ in range(50)]
            executor.map(tasks.note, [journal] * 50)
            executor.shutdown(wait=False, cancel_futures=True)
            assert all(future.cancelled() for future in futures)
        executor.shutdown()
        assert tasks.executions(Path(journal)) == 0

    def test_the_map_s_time_counts_from_the_call(
        self, executor: PoolExecutor, tmp_path: Path
    ) -> None:
        journal = tmp_path / "journal"
        with self._kept_busy(executor, tmp_path):
            results = executor.map(tasks.note, [str(journal)] * 5, timeout=0)
            with pytest.raises(TimeoutError):
                next(results)
            assert list(results) == []
        executor.shutdown()
        assert tasks.executions(journal) == 0  # all were cancelled
        results = PoolExecutor(executor._pool).map(tasks.square, range(3), timeout=SOON)
        assert list(results) == [0, 1, 4]

    @pytest.mark.parametrize("how", ["close", "drop"])
    @pytest.mark.parametrize("buffersize", [None, 199])
    def test_leaving_a_map_cancels_what_is_pending(
        self, executor: PoolExecutor, tmp_path: Path, how: str, buffersize: int | None
    ) -> None:
        gate, journal, count = tmp_path / "gate", tmp_path / "journal", executor._max_workers
        paths = [str(tmp_path), *[str(gate)] * 199]  # the first finds its gate open
        results: Any = executor.map(
            tasks.pass_gate, paths, range(200), [str(journal)] * 200, buffersize=buffersize
        )
        assert next(results) == 0
        tasks.wait_until(lambda: tasks.executions(journal) == 1 + count, "every worker is busy")
        futures = list(results._futures)  # some more may be sent to a worker still
        if how == "close":
            results.close()
            assert list(results) == []
        del results
        tasks.wait_until(lambda: all(f.running() or f.cancelled() for f in futures), "none waits")
        cancelled = sum(future.cancelled() for future in futures)
        gate.touch()
        executor.shutdown()
        assert tasks.executions(journal) == 200 - cancelled < 200

    def test_an_unread_map_runs_all_the_same(self, executor: PoolExecutor, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        executor.map(tasks.note, [str(journal)] * 50)
        executor.shutdown()
        assert tasks.executions(journal) == 50

    def test_a_callback_may_use_the_executor(self, pool: Pool, executor: PoolExecutor) -> None:
        seen: list[int] = []

        def more(future: concurrent.futures.Future[int]) -> None:
            if future.result() < 1000:
                executor.submit(tasks.square, future.result()).add_done_callback(more)
            seen.append(future.result())
            with PoolExecutor(pool) as inner:
                assert inner.submit(tasks.square, 5).result(SOON) == 25

        executor.submit(tasks.square, 2).add_done_callback(more)
        tasks.wait_until(lambda: len(seen) == 4, "each called back")
        assert sorted(seen) == [4, 16, 256, 65536]  # one that is done at once is called in between

    def test_a_callback_may_shut_it_down(self, executor: PoolExecutor, tmp_path: Path) -> None:
        gate, seen = tmp_path / "gate", []
        futures = [executor.submit(tasks.pass_gate, str(gate), n) for n in range(4)]

        def end(_: object) -> None:
            executor.shutdown()
            seen.append([future.done() for future in futures])

        for future in futures:
            future.add_done_callback(end)
        gate.touch()
        executor.shutdown()
        assert seen == [[True] * 4] * 4

    def test_terminating_the_pool_cancels_all(self, executor: PoolExecutor, tmp_path: Path) -> None:
        gate, started = tmp_path / "gate", tmp_path / "started"
        futures = [executor.submit(tasks.pass_gate, str(gate), n, str(started)) for n in range(4)]
        seen: list[Any] = []
        futures[3].add_done_callback(seen.append)
        tasks.wait_until(lambda: tasks.executions(started) > 0, "one runs")
        ender = threading.Thread(target=self._terminate, args=(executor._pool,))
        ender.start()
        for future in futures:
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(SOON)
        gate.touch()
        ender.join()
        executor.shutdown()
        assert seen == [futures[3]]

    @staticmethod
    def _terminate(pool: Pool) -> None:
        with contextlib.suppress(errors.CannotKill):
            pool.terminate()

    def test_cancelling_in_asyncio_cancels_what_is_pending(
        self, executor: PoolExecutor, tmp_path: Path
    ) -> None:
        journal = tmp_path / "journal"

        async def main() -> None:
            loop = asyncio.get_running_loop()
            call = loop.run_in_executor(executor, tasks.note, str(journal))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        with self._kept_busy(executor, tmp_path):
            asyncio.run(main())
        executor.shutdown()
        assert tasks.executions(journal) == 0


class ExecutorDeathTests(ExecutorSuite):
    """For backends whose workers can be killed: the executor goes on."""

    def test_a_death_costs_one_future(self, executor: PoolExecutor) -> None:
        futures = [executor.submit(tasks.die_on, x, 3, "SIGKILL") for x in range(8)]
        error = futures[3].exception(SOON)
        assert isinstance(error, errors.WorkerDied)
        assert isinstance(error, concurrent.futures.BrokenExecutor)
        assert [future.result(SOON) for x, future in enumerate(futures) if x != 3] == [
            0, 1, 2, 4, 5, 6, 7,
        ]  # fmt: skip
        assert executor.submit(tasks.square, 3).result(SOON) == 9

    def test_a_death_ends_the_map(self, executor: PoolExecutor) -> None:
        results = executor.map(tasks.die_on, range(8), [3] * 8, ["SIGKILL"] * 8)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(errors.WorkerDied):
            next(results)
        assert list(executor.map(tasks.square, range(3))) == [0, 1, 4]

    @pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
    def test_workers_can_be_ended(
        self, pool: Pool, executor: PoolExecutor, tmp_path: Path, how: str
    ) -> None:
        started, count = tmp_path / "started", executor._max_workers
        processes = list(pool._pool)
        futures = [
            executor.submit(tasks.pass_gate, str(tmp_path / "never"), None, str(started))
            for _ in range(2 * count)
        ]
        tasks.wait_until(lambda: tasks.executions(started) == count, "every worker is busy")
        getattr(executor, how)()
        ends = [-15 if how == "terminate_workers" else -9] * count
        running, pending = futures[:count], futures[count:]
        assert all(future.cancelled() for future in pending)
        for future in running:
            error = future.exception(SOON)
            assert isinstance(error, errors.WorkerDied)
            assert error.exitcode == ends[0]
        with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
            executor.submit(tasks.square, 3)
        executor.shutdown()
        assert not any(process.is_alive() for process in processes)
        assert pool.apply(tasks.square, (3,)) == 9
