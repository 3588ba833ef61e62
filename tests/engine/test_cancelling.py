"""``cancel()``: of what waits, of what runs, while others wait for it, and by way of asyncio."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from millpond import Pool, PoolForkedError
from millpond.testing import tasks
from millpond.testing.suite import SOON

BACKENDS: dict[str, Callable[..., Pool]] = {
    "fork": lambda n=2, **options: Pool(n, start_method="fork", **options),
    "threads": lambda n=2, **options: Pool(n, backend="threads", **options),
}


@pytest.fixture(params=BACKENDS)
def make_pool(request: pytest.FixtureRequest) -> Callable[..., Pool]:
    return BACKENDS[request.param]


@pytest.fixture
def forked() -> Iterator[Pool]:
    """One worker, so that what is called first runs and the rest waits."""
    pool = Pool(1, start_method="fork")
    yield pool
    pool.terminate()
    pool.join()


def stay(pid_file: str, never: str = "") -> None:
    """Run until the worker is ended, and say where."""
    temporary = pid_file + ".new"
    Path(temporary).write_text(str(os.getpid()))
    os.rename(temporary, pid_file)
    tasks.wait_until(lambda: never and os.path.exists(never), "somebody ends this")


class Stay:
    """A call that runs for ever."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self._file = folder / f"stay-{next(_numbers)}"
        self.result = pool.apply_async(stay, (str(self._file),))

    @property
    def pid(self) -> int:
        """Its worker; waits until it runs."""
        tasks.wait_until(self._file.exists, "the task runs")
        return int(self._file.read_text())

    def gone(self) -> None:
        """Wait until its worker has ended."""
        pid = self.pid
        tasks.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the worker has ended", SOON)


_numbers = itertools.count()


# What has not been sent ---------------------------------------------------------------------------


def test_a_pending_call_is_cancelled_and_never_run(make_pool: Any, tmp_path: Path) -> None:
    gate, journal, told = tmp_path / "gate", tmp_path / "journal", list[Any]()
    with make_pool(1, graceful=True) as pool:
        first = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        tasks.wait_until(first.running, "the first is sent")
        second = pool.apply_async(
            tasks.note, (str(journal),), callback=told.append, error_callback=told.append
        )
        third = pool.map_async(tasks.note, [str(journal)] * 10)
        done: list[Any] = []
        second.add_done_callback(done.append)
        assert not second.running()
        assert "pending" in repr(second)
        for result in (second, third):
            assert result.cancel()
            assert result.cancel()
            assert (result.cancelled(), result.done(), result.ready()) == (True, True, True)
            assert not result.successful()
            assert "cancelled" in repr(result)
            with pytest.raises(CancelledError):
                result.get()
            with pytest.raises(CancelledError):
                result.exception()
        gate.touch()
        assert first.get(SOON) == 5
        assert not first.cancel()
        assert pool.apply(tasks.square, (3,)) == 9
    assert (tasks.executions(journal), told, done) == (0, [], [second])


@pytest.mark.parametrize("how", ["get", "result", "wait", "as_completed"])
def test_who_waits_for_a_pending_call_is_told(make_pool: Any, tmp_path: Path, how: str) -> None:
    gate = tmp_path / "gate"
    with make_pool(1, graceful=True) as pool:
        first = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        second = pool.apply_async(tasks.square, (2,))
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            waiting = [threads.submit(wait_how, second, how) for _ in range(2)]
            concurrent.futures.wait(waiting, 0.02)
            assert second.cancel()
            assert [wait.result(SOON) for wait in waiting] == ["cancelled"] * 2
        gate.touch()
        assert first.get(SOON) == 5


def wait_how(result: Any, how: str) -> str:
    """Wait in this way; say how it ended."""
    try:
        if how == "wait":
            done, _ = concurrent.futures.wait([result], SOON)
            assert done == {result}
        elif how == "as_completed":
            assert list(concurrent.futures.as_completed([result], SOON)) == [result]
        else:
            getattr(result, how)(SOON)
        result.get(0)
    except CancelledError:
        return "cancelled"
    return "done"


def test_the_last_state_is_reached_with_the_condition_locked(tmp_path: Path) -> None:
    """Who looks at the state with it locked, as wait() does, is told of what he has not seen."""
    gate = tmp_path / "gate"
    with Pool(1, backend="threads", graceful=True) as pool:
        first = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        second = pool.apply_async(tasks.square, (2,))
        canceller = threading.Thread(target=second.cancel)
        with second._condition:
            canceller.start()
            canceller.join(0.05)
            assert not second.done()
        canceller.join(SOON)
        assert second.cancelled()
        gate.touch()
        assert first.get(SOON) == 5


# What runs ----------------------------------------------------------------------------------------


def test_a_running_call_is_ended_with_its_worker(forked: Pool, tmp_path: Path) -> None:
    call = Stay(forked, tmp_path)
    behind = [forked.apply_async(tasks.square, (x,)) for x in range(20)]
    pid = call.pid
    assert call.result.running()
    assert "running" in repr(call.result)
    assert call.result.cancel()
    assert (call.result.cancelled(), call.result.running()) == (True, False)
    with pytest.raises(CancelledError):
        call.result.get(0)
    assert [result.get(SOON) for result in behind] == [x * x for x in range(20)]
    call.gone()
    assert forked.apply(tasks.pid) != pid
    assert call.result.cancel()


def test_nobody_is_called_back_but_done_callbacks(forked: Pool, tmp_path: Path) -> None:
    told: list[Any] = []
    done = threading.Event()
    file = tmp_path / "stay"
    result = forked.apply_async(
        stay, (str(file),), callback=told.append, error_callback=told.append
    )
    result.add_done_callback(lambda _: done.set())
    tasks.wait_until(file.exists, "the task runs")
    assert result.cancel()
    assert done.wait(SOON)
    assert forked.apply(tasks.square, (3,)) == 9
    assert told == []


def test_a_running_map_is_cancelled_as_a_whole(tmp_path: Path) -> None:
    journal, never = tmp_path / "journal", str(tmp_path / "never")
    with Pool(2, start_method="fork", graceful=True) as pool:
        before = set(pool.map(tasks.pid, range(20), 1))
        result = pool.map_async(note_and_stay, [(str(journal), never)] * 50, 1)
        tasks.wait_until(lambda: tasks.executions(journal) == 2, "both workers are in a task")
        assert result.running()
        assert result.cancel()
        with pytest.raises(CancelledError):
            result.get(0)
        assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]
        assert before.isdisjoint(pool.map(tasks.pid, range(20), 1))
    assert tasks.executions(journal) == 2


def note_and_stay(given: tuple[str, str]) -> None:
    journal, never = given
    tasks.note(journal)
    tasks.pass_gate(never)


def test_a_map_that_is_half_done_is_cancelled(tmp_path: Path) -> None:
    never = tmp_path / "never"
    with Pool(2, start_method="fork", graceful=True) as pool:
        given = [(x, str(never)) for x in range(1, 400)] + [(0, str(never))]
        result = pool.starmap_async(tasks.quick_or_gated, given)
        tasks.wait_until(lambda: pool.info()["done"] > 300, "most are done")
        assert result.cancel()
        assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]


@pytest.mark.parametrize("how", ["get", "result", "wait", "as_completed"])
def test_who_waits_for_a_running_call_is_told(forked: Pool, tmp_path: Path, how: str) -> None:
    call = Stay(forked, tmp_path)
    assert call.pid
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(wait_how, call.result, how) for _ in range(3)]
        concurrent.futures.wait(waiting, 0.02)
        assert call.result.cancel()
        assert [wait.result(SOON) for wait in waiting] == ["cancelled"] * 3
    call.gone()


def test_one_of_several_is_cancelled_in_as_completed(tmp_path: Path) -> None:
    with Pool(2, start_method="fork", graceful=True) as pool:
        call = Stay(pool, tmp_path)
        others = [pool.apply_async(tasks.square, (x,)) for x in range(10)]
        left: Any = concurrent.futures.as_completed([call.result, *others], SOON)
        first = [next(left) for _ in range(10)]
        assert set(first) == set(others)
        assert call.result.cancel()
        assert list(left) == [call.result]


def test_many_cancel_at_once(forked: Pool, tmp_path: Path) -> None:
    for _ in range(5):
        call = Stay(forked, tmp_path)
        assert call.pid
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(call.result.cancel) for _ in range(8)]
            assert any(answer.result(SOON) for answer in answers)
        assert call.result.cancelled()
    assert forked.apply(tasks.square, (3,)) == 9


def test_cancelling_races_with_the_end(make_pool: Any) -> None:
    """Whoever is first: a result is cancelled or has its value, and the pool goes on."""
    with make_pool(2, graceful=True) as pool:
        pool.map(tasks.square, range(10))
        for n in range(200):
            result = pool.apply_async(tasks.square, (n,))
            if n % 3:
                result.wait(0.0001 * (n % 10))
            if result.cancel():
                assert result.cancelled()
                with pytest.raises(CancelledError):
                    result.get(SOON)
            else:
                assert result.get(SOON) == n * n
        assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]


def test_a_cancelled_call_does_not_keep_a_pool_from_closing(forked: Pool, tmp_path: Path) -> None:
    call = Stay(forked, tmp_path)
    assert call.pid
    forked.close()
    assert call.result.cancel()
    forked.join()
    call.gone()


def test_a_call_is_cancelled_in_a_callback(tmp_path: Path) -> None:
    with Pool(2, start_method="fork", graceful=True) as pool:
        call = Stay(pool, tmp_path)
        assert call.pid
        answers: list[bool] = []
        other = pool.apply_async(
            tasks.square, (3,), callback=lambda _: answers.append(call.result.cancel())
        )
        assert other.get(SOON) == 9
        assert answers == [True]
        call.gone()


def test_what_was_sent_and_has_not_begun_is_taken_back(make_pool: Any, tmp_path: Path) -> None:
    gate, journal = tmp_path / "gate", tmp_path / "journal"
    with make_pool(1, graceful=True) as pool:
        tasks.make_calls_of_pass_gate_short(pool, pool.submit, tmp_path)
        workers = list(pool._pool)
        results = [pool.submit(tasks.pass_gate, gate, 5, str(journal)) for _ in range(20)]
        tasks.wait_until(journal.exists, "the first runs")
        assert sum(result._sent for result in results) > 2
        assert all(result.cancel() for result in results[1:])
        (worker,) = pool._engine._driver.scheduler.workers.values()
        tasks.wait_until(
            lambda: sum(held.count for held in [*worker.flight]) == 1, "the others were taken back"
        )
        gate.touch()
        assert results[0].get(SOON) == 5
        assert pool.apply(tasks.square, (3,)) == 9
        assert pool._pool == workers
    assert tasks.executions(journal) == 1


def test_what_a_thread_has_begun_is_not_cancelled(tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    with Pool(1, backend="threads", graceful=True) as pool:
        result = pool.apply_async(tasks.pass_gate, (str(gate), 5, str(started)))
        tasks.wait_until(started.exists, "the task runs")
        assert not result.cancel()
        assert not result.cancelled()
        gate.touch()
        assert result.get(SOON) == 5


def test_a_forked_copy_of_the_program_is_refused(forked: Pool, tmp_path: Path) -> None:
    call = Stay(forked, tmp_path)
    assert call.pid
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            call.result.cancel()
        except PoolForkedError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert call.result.running()


# By way of asyncio --------------------------------------------------------------------------------


def run(main: Any) -> None:
    """Run it in a loop, with a limit."""

    async def limited() -> None:
        async with asyncio.timeout(SOON):
            await main

    asyncio.run(limited())


def test_a_timeout_around_an_await_ends_the_task(forked: Pool, tmp_path: Path) -> None:
    call = Stay(forked, tmp_path)

    async def main() -> None:
        assert call.pid
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await call.result
        assert call.result.cancelled()
        assert await forked.apply_async(tasks.square, (3,)) == 9

    run(main())
    call.gone()


def test_a_cancelled_gather_ends_its_tasks(tmp_path: Path) -> None:
    async def main(pool: Pool) -> None:
        calls = [Stay(pool, tmp_path) for _ in range(2)]
        assert all(call.pid for call in calls)
        together = asyncio.gather(*(call.result for call in calls))
        await asyncio.sleep(0)
        together.cancel()
        with pytest.raises(asyncio.CancelledError):
            await together
        assert all(call.result.cancelled() for call in calls)
        for call in calls:
            call.gone()
        assert await pool.map_async(tasks.square, range(4)) == [0, 1, 4, 9]

    with Pool(2, start_method="fork", graceful=True) as pool:
        run(main(pool))


def test_a_failed_task_group_ends_the_others(tmp_path: Path) -> None:
    async def wait(result: Any) -> None:
        await result

    async def main(pool: Pool) -> None:
        call = Stay(pool, tmp_path)
        assert call.pid
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(wait(call.result))
                group.create_task(wait(pool.apply_async(tasks.fail, (1,))))
        assert [type(error) for error in caught.value.exceptions] == [tasks.Oops]
        assert call.result.cancelled()
        call.gone()

    with Pool(2, start_method="fork", graceful=True) as pool:
        run(main(pool))


def test_a_cancelled_future_of_asyncio_ends_the_task(forked: Pool, tmp_path: Path) -> None:
    call = Stay(forked, tmp_path)

    async def main() -> None:
        future = asyncio.wrap_future(call.result)
        assert call.pid
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        await asyncio.sleep(0)  # asyncio passes it on in the loop's next round
        assert call.result.cancelled()

    run(main())
    call.gone()


def test_others_that_await_a_cancelled_result_are_told(forked: Pool, tmp_path: Path) -> None:
    call = Stay(forked, tmp_path)

    async def wait() -> None:
        await call.result

    async def main() -> None:
        assert call.pid
        one, other = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        one.cancel()
        done, _ = await asyncio.wait([one, other])
        assert [task.cancelled() for task in done] == [True, True]

    run(main())
