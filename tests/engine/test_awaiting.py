"""A pool in an event loop: what is awaited, iterated and left there, on asyncio; trio where it is the same."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from millpond import Pool, awaiting
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
def pool(make_pool: Callable[..., Pool]) -> Iterator[Pool]:
    pool = make_pool()
    yield pool
    pool.terminate()
    pool.join()


@pytest.fixture
def inline() -> Iterator[Pool]:
    with Pool(2, backend="inline") as pool:
        yield pool


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run it in a loop, with a limit."""

    async def limited() -> Any:
        async with asyncio.timeout(SOON):
            return await main

    return asyncio.run(limited())


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait in the loop for a condition, with a limit."""
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert condition(), what


class Source:
    """Numbers from an async generator, of which is known how far it was pulled and whether it was left."""

    def __init__(self, stop: int | None = None, failure: Exception | None = None) -> None:
        self.pulled = 0
        self.closed = False
        self._stop = stop
        self._failure = failure

    def __aiter__(self) -> AsyncIterator[int]:
        return self._numbers()

    async def _numbers(self) -> AsyncIterator[int]:
        try:
            while self._stop is None or self.pulled < self._stop:
                await asyncio.sleep(0)
                self.pulled += 1
                yield self.pulled - 1
            if self._failure is not None:
                raise self._failure
        finally:
            await asyncio.sleep(0)
            self.closed = True


class Silent:
    """An async iterator whose first item never comes."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.ended_by: BaseException | None = None

    def __aiter__(self) -> Silent:
        return self

    async def __anext__(self) -> int:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except BaseException as end:
            self.ended_by = end
            raise
        raise AssertionError


# Results ------------------------------------------------------------------------------------------


def test_results_can_be_awaited(pool: Pool) -> None:
    async def main() -> None:
        assert await pool.apply_async(tasks.square, (3,)) == 9
        assert await pool.map_async(tasks.square, range(5)) == [0, 1, 4, 9, 16]
        assert await pool.starmap_async(pow, [(2, 3), (3, 2)]) == [8, 9]
        with pytest.raises(tasks.Oops):
            await pool.apply_async(tasks.fail, (1,))
        result = pool.apply_async(tasks.square, (4,))
        result.wait(SOON)
        assert [await result, await result] == [16, 16]

    run(main())


def test_many_are_awaited_together(pool: Pool) -> None:
    async def main() -> None:
        results = [pool.apply_async(tasks.sleep_a_little, (n,)) for n in range(30)]
        assert await asyncio.gather(*results) == list(range(30))
        results = [pool.apply_async(tasks.sleep_a_little, (n,)) for n in range(30)]
        ended = [await each for each in asyncio.as_completed(results)]
        assert sorted(ended) == list(range(30))
        assert await asyncio.wait_for(pool.apply_async(tasks.square, (3,)), SOON) == 9
        async with asyncio.TaskGroup() as group:
            squares = [group.create_task(square(n)) for n in range(20)]
        assert [task.result() for task in squares] == [n * n for n in range(20)]

    async def square(n: int) -> int:
        return await pool.apply_async(tasks.square, (n,))

    run(main())


def test_the_loop_goes_on_meanwhile(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def main() -> None:
        result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        asyncio.get_running_loop().call_later(0.01, gate.touch)
        assert await result == 5

    run(main())


def test_a_result_is_awaited_by_several(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
    waiting = threading.Barrier(3)

    async def wait() -> int:
        value: int = await result
        return value

    async def main() -> list[int]:
        both = [asyncio.create_task(wait()), asyncio.create_task(wait())]
        await asyncio.sleep(0)
        waiting.wait(SOON)
        return [await task for task in both]

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        loops = [threads.submit(run, main()) for _ in range(2)]
        waiting.wait(SOON)
        gate.touch()
        assert [loop.result(SOON) for loop in loops] == [[5, 5], [5, 5]]
    assert run(wait()) == 5


def test_a_callback_has_run_before_it_is_awaited(pool: Pool) -> None:
    seen: list[int] = []

    async def main() -> None:
        assert await pool.apply_async(tasks.square, (4,), callback=seen.append) == 16
        assert seen == [16]

    run(main())


def test_wrap_future_takes_results(pool: Pool) -> None:
    async def main() -> None:
        results = [asyncio.wrap_future(pool.apply_async(tasks.square, (n,))) for n in range(5)]
        done, pending = await asyncio.wait(results)
        assert (sorted(future.result() for future in done), pending) == ([0, 1, 4, 9, 16], set())
        with pytest.raises(tasks.Oops):
            await asyncio.wrap_future(pool.map_async(tasks.fail, [1]))

    run(main())


def test_a_terminated_pool_cancels_what_is_awaited(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def wait(result: Any) -> None:
        with pytest.raises(asyncio.CancelledError):
            await result

    async def main() -> None:
        result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        results = pool.imap(tasks.pass_gate, [str(gate)])
        waits = [asyncio.create_task(wait(result)), asyncio.create_task(wait(anext(results)))]
        await asyncio.sleep(0)
        threading.Timer(0.01, gate.touch).start()  # a thread can't be ended
        with contextlib.suppress(Exception):
            pool.terminate()
        await asyncio.gather(*waits)

    run(main())


def test_a_closed_loop_is_nobody_s_failure(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
    results = pool.imap(tasks.pass_gate, [str(gate)])

    async def wait(what: Any) -> None:
        await what

    loop = asyncio.new_event_loop()
    waits = [loop.create_task(wait(result)), loop.create_task(wait(anext(results)))]
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gate.touch()
    assert result.get(SOON) == 5
    assert results.next(SOON) is None
    assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
    del waits
    gc.collect()


def test_a_cancelled_wait_that_has_begun_no_task_cancels_it(make_pool: Any, tmp_path: Path) -> None:
    gate, journal = tmp_path / "gate", tmp_path / "journal"

    async def main(pool: Pool) -> None:
        first = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        second = pool.apply_async(tasks.note, (str(journal), 6))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await second
        assert second.cancelled()
        gate.touch()
        assert await first == 5

    with make_pool(1, graceful=True) as pool:
        run(main(pool))
    assert tasks.executions(journal) == 0


def test_a_shield_keeps_the_work(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def main() -> None:
        result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.shield(result)
        gate.touch()
        assert await result == 5

    run(main())


# Iterators ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [list, iter])
def test_imap_is_iterated_in_a_loop(pool: Pool, given: Any) -> None:
    async def main() -> None:
        results = pool.imap(tasks.square, given(range(3000)))
        assert aiter(results) is results
        assert [x async for x in results] == [x * x for x in range(3000)]
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(results)
        unordered = pool.imap_unordered(tasks.square, given(range(300)))
        assert sorted([x async for x in unordered]) == [x * x for x in range(300)]

    run(main())


def test_an_error_comes_at_its_place_and_iteration_goes_on(pool: Pool) -> None:
    async def main() -> list[Any]:
        got: list[Any] = []
        results = pool.imap(tasks.fail_on_odd, range(4))
        while len(got) < 4:
            try:
                got.append(await anext(results))
            except tasks.Oops as error:
                got.append(error.number)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        return got

    assert run(main()) == [0, 1, 2, 3]


def test_a_cancelled_wait_leaves_the_iterator_usable(pool: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def main() -> None:
        results = pool.imap(tasks.pass_gate, [str(gate), str(gate)])
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(results)
        gate.touch()
        assert [x async for x in results] == [None, None]

    run(main())


def test_tasks_of_a_loop_share_an_iterator(pool: Pool) -> None:
    async def read(results: Any) -> list[int]:
        return [x async for x in results]

    async def main() -> None:
        results = pool.imap(tasks.identity, range(500), buffersize=4)
        parts = await asyncio.gather(*(read(results) for _ in range(3)))
        assert sorted(x for part in parts for x in part) == list(range(500))

    run(main())


@pytest.mark.parametrize("how", ["break", "aclosing"])
def test_leaving_the_iterator_cancels_what_has_not_started(
    make_pool: Any, tmp_path: Path, how: str
) -> None:
    journal = tmp_path / "journal"

    async def main(pool: Pool) -> None:
        given = ((str(journal), x) for x in range(100_000))
        if how == "break":
            async for _ in pool.imap(tasks.everything, given):
                break
        async with contextlib.aclosing(pool.imap(note_row, given)) as results:
            assert await anext(results) is not None

    with make_pool(graceful=True) as pool:
        run(main(pool))
    assert 1 <= tasks.executions(journal) < 50_000


def note_row(row: tuple[str, int]) -> tuple[str, int]:
    tasks.note(row[0])
    return row


def stop_on(kind: type[Exception], x: int) -> int:
    if x == 2:
        raise kind
    return x


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_what_would_end_a_loop_is_an_error_when_a_task_raises_it(
    pool: Pool, kind: type[Exception]
) -> None:
    async def main() -> list[int]:
        return [x async for x in pool.imap(partial(stop_on, kind), range(5))]

    with pytest.raises(RuntimeError) as info:
        run(main())
    assert isinstance(info.value.__cause__, kind)


# Async input --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 7])
def test_async_input(pool: Pool, method: str, chunksize: int) -> None:
    async def main() -> None:
        source = Source(500)
        results = getattr(pool, method)(tasks.square, source, chunksize)
        assert sorted([x async for x in results]) == [x * x for x in range(500)]
        await until(lambda: source.closed, "the source is closed")

    run(main())


@pytest.mark.parametrize("buffersize", [1, 5, 64])
def test_async_input_is_pulled_within_bounds(pool: Pool, buffersize: int) -> None:
    async def main() -> None:
        source = Source()
        results = pool.imap(tasks.identity, source, buffersize=buffersize)
        for n in range(200):
            assert await anext(results) == n
            assert source.pulled <= n + 1 + buffersize
        await results.aclose()
        await until(lambda: source.closed, "the source is closed")
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    run(main())


def test_what_an_async_input_raises_comes_behind_the_last_result(pool: Pool) -> None:
    async def main() -> None:
        results = pool.imap(tasks.square, Source(3, failure=KeyError("source")))
        got = [await anext(results) for _ in range(3)]
        with pytest.raises(KeyError, match="source") as caught:
            await anext(results)
        assert got == [0, 1, 4]
        assert "_numbers" in str(caught.traceback[-1].name)
        with pytest.raises(StopAsyncIteration):
            await anext(results)

    run(main())


@pytest.mark.parametrize("how", ["close", "drop", "terminate"])
def test_an_async_input_that_gives_nothing_is_left(pool: Pool, how: str) -> None:
    async def main() -> None:
        source = Silent()
        results = pool.imap(tasks.square, source)
        await source.asked.wait()
        if how == "close":
            results.close()
        elif how == "terminate":
            pool.terminate()
        del results
        gc.collect()
        await until(lambda: source.ended_by is not None, "the source is left")
        assert isinstance(source.ended_by, asyncio.CancelledError)

    run(main())


def test_an_input_whose_loop_ends_ends_with_cancelled_error(pool: Pool) -> None:
    async def main() -> Any:
        source = Silent()
        results = pool.imap(tasks.square, source)
        await source.asked.wait()
        return results

    results = run(main())
    with pytest.raises(concurrent.futures.CancelledError, match="input"):
        results.next(SOON)


def test_async_input_needs_a_running_loop(pool: Pool) -> None:
    with pytest.raises(RuntimeError, match="in a coroutine"):
        pool.imap(tasks.square, Source(3))
    assert pool.map(tasks.square, [3]) == [9]


def test_who_would_block_the_loop_that_pulls_is_told(pool: Pool) -> None:
    async def main() -> None:
        results = pool.imap(tasks.square, Source(3))
        with pytest.raises(RuntimeError, match="async for"):
            next(results)
        assert [x async for x in results] == [0, 1, 4]
        elsewhere = await asyncio.to_thread(list, pool.imap(tasks.square, Source(300)))
        assert elsewhere == [x * x for x in range(300)]

    run(main())


def test_an_async_item_that_cannot_be_pickled_fails_at_its_place() -> None:
    async def items() -> AsyncIterator[Any]:
        yield 1
        yield threading.Lock()
        yield 3

    async def main() -> None:
        with Pool(1, start_method="fork") as pool:
            results = pool.imap(tasks.identity, items())
            assert await anext(results) == 1
            with pytest.raises(TypeError, match="lock"):
                await anext(results)
            assert await anext(results) == 3

    run(main())


@pytest.mark.parametrize("method", ["map_async", "starmap_async"])
def test_a_map_s_async_input_is_gathered(pool: Pool, method: str) -> None:
    assert run(gathered(pool, method)) == [x * x for x in range(50)]


async def gathered(pool: Pool, method: str) -> Any:
    async def rows() -> AsyncIterator[Any]:
        async for x in Source(50):
            yield (x,) if method == "starmap_async" else x

    result = getattr(pool, method)(tasks.square, rows())
    assert not result.ready()
    assert not result.running()
    assert await pool.map_async(tasks.square, Source(0)) == []
    return await result


def test_a_map_s_async_input_is_gathered_for_an_inline_pool(inline: Pool) -> None:
    assert run(gathered(inline, "map_async")) == [x * x for x in range(50)]


def test_what_a_map_s_async_input_raises_is_its_error(pool: Pool) -> None:
    async def main() -> None:
        with pytest.raises(KeyError, match="source"):
            await pool.map_async(tasks.square, Source(3, failure=KeyError("source")))

    run(main())


def test_a_map_that_is_cancelled_leaves_its_async_input(pool: Pool) -> None:
    async def main() -> None:
        source = Silent()
        result = pool.map_async(tasks.square, source)
        await source.asked.wait()
        assert result.cancel()
        assert result.cancelled()
        await until(lambda: source.ended_by is not None, "the source is left")

    run(main())


def test_a_thread_that_waits_for_a_map_sees_its_input_fail(pool: Pool) -> None:
    async def main() -> None:
        failure = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            yield 1
            await failure.wait()
            raise KeyError("source")

        result = pool.map_async(tasks.square, source())
        waiter = asyncio.create_task(asyncio.to_thread(result.exception, SOON))
        await asyncio.sleep(0.01)
        failure.set()
        assert isinstance(await waiter, KeyError)

    run(main())


# A pool whose caller does all himself -------------------------------------------------------------


def test_an_inline_pool_works_in_the_loop_s_thread(inline: Pool) -> None:
    async def main() -> None:
        here = threading.get_ident()
        assert await inline.apply_async(tasks.thread_id) == here
        assert await inline.map_async(tasks.square, range(5)) == [0, 1, 4, 9, 16]
        assert [x async for x in inline.imap(tasks.thread_id, range(5))] == [here] * 5
        assert [x async for x in inline.imap(tasks.square, iter(range(50)))] == [
            x * x for x in range(50)
        ]
        assert [x async for x in inline.imap(tasks.square, Source(50))] == [
            x * x for x in range(50)
        ]
        seen: list[int] = []
        assert await inline.apply_async(tasks.square, (4,), callback=seen.append) == 16
        assert seen == [16]

    run(main())


def test_a_loop_inside_an_inline_task_waits_for_the_same_pool(inline: Pool) -> None:
    async def inner() -> list[int]:
        return [x async for x in inline.imap(tasks.square, range(4))]

    assert inline.apply(asyncio.run, (inner(),)) == [0, 1, 4, 9]


def test_a_loop_waits_for_what_another_thread_does_inline(inline: Pool) -> None:
    """That thread leaves when it has its own; the loop goes on with the rest."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        return go_on.wait(SOON)

    async def main() -> None:
        other = asyncio.create_task(asyncio.to_thread(inline.apply, slow))
        await asyncio.to_thread(begun.wait, SOON)
        result = inline.apply_async(tasks.square, (3,))
        asyncio.get_running_loop().call_later(0.01, go_on.set)
        assert await result == 9
        assert await other

    run(main())


# The pool itself ----------------------------------------------------------------------------------


def test_a_pool_is_left_while_the_loop_goes_on(make_pool: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def main() -> None:
        async with make_pool(graceful=True) as pool:
            result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
            asyncio.get_running_loop().call_later(0.01, gate.touch)
        assert result.get(0) == 5
        with pytest.raises(ValueError, match="not running"):
            async with pool:
                pass

    run(main())


def test_leaving_terminates_without_graceful(make_pool: Any) -> None:
    async def main() -> None:
        with pytest.raises(KeyError):
            async with make_pool() as pool:
                assert await pool.map_async(tasks.square, [1, 2]) == [1, 4]
                raise KeyError
        with pytest.raises(ValueError, match="not running"):
            pool.apply(tasks.square, (1,))

    run(main())


def test_leaving_an_inline_pool() -> None:
    async def main() -> list[int]:
        async with Pool(1, backend="inline", graceful=True) as pool:
            return await pool.map_async(tasks.square, range(3))

    assert run(main()) == [0, 1, 4]


def test_a_graceful_end_that_is_cancelled_terminates(tmp_path: Path) -> None:
    gate = tmp_path / "never"

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                async with Pool(1, start_method="fork", graceful=True) as pool:
                    result = pool.apply_async(tasks.pass_gate, (str(gate), 5))
        assert result.cancelled()
        pool.join()

    run(main())


# trio ---------------------------------------------------------------------------------------------


def test_under_trio(make_pool: Any) -> None:
    async def main() -> None:
        with trio.fail_after(SOON):
            async with make_pool() as pool:
                assert await pool.apply_async(tasks.square, (3,)) == 9
                with pytest.raises(tasks.Oops):
                    await pool.map_async(tasks.fail, [1])
                got = [x async for x in pool.imap(tasks.square, iter(range(300)))]
                assert got == [x * x for x in range(300)]
                with pytest.raises(RuntimeError, match="asyncio"):
                    pool.imap(tasks.square, Source(3))

    trio.run(main)


def test_trio_s_scopes_cancel(make_pool: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def main(pool: Pool) -> None:
        with trio.fail_after(SOON):
            first = pool.apply_async(tasks.pass_gate, (str(gate), 5))
            second = pool.apply_async(tasks.square, (3,))
            results = pool.imap(tasks.square, range(3))
            with trio.move_on_after(0.01):
                await second
            with trio.move_on_after(0.01):
                await anext(results)
            assert second.cancelled()
            with pytest.raises(concurrent.futures.CancelledError):
                await second
            gate.touch()
            assert await first == 5
            assert [x async for x in results] == [0, 1, 4]

    with make_pool(1) as pool:
        trio.run(main, pool)


def test_a_trio_run_that_has_ended_is_nobody_s_failure() -> None:
    async def main() -> Any:
        return awaiting._bell()

    trio.run(main).release()


def test_trio_under_an_inline_pool(inline: Pool) -> None:
    async def main() -> list[int]:
        return [x async for x in inline.imap(tasks.square, iter(range(20)))]

    assert trio.run(main) == [x * x for x in range(20)]
