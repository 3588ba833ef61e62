"""What type checkers must conclude about a Pool. Checked by test_types.py, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing.pool
from collections.abc import Iterator
from typing import assert_type

import millpond
from millpond import Pool, Snapshot, TaskOptions
from millpond.pool import AsyncResult, IMapIterator, ThreadPool


def count(text: str) -> int:
    return len(text)


def scale(value: float, by: int = 2) -> float:
    return value * by


class Account:
    def __init__(self, number: int) -> None:
        self.number = number

    def balance(self) -> float:
        return 1.0


def words() -> Iterator[str]:
    yield "a"


def maps(pool: Pool) -> None:
    assert_type(pool.map(count, ["a", "b"]), list[int])
    assert_type(pool.map(count, words(), 3), list[int])
    assert_type(pool.map(func=Account, iterable=range(3), chunksize=1), list[Account])
    assert_type(pool.map(Account.balance, [Account(1)]), list[float])
    assert_type(pool.map(lambda text: text + "!", ["a"]), list[str])
    assert_type(pool.starmap(scale, [(1.5, 2)]), list[float])


def lazy_maps(pool: Pool) -> None:
    results = pool.imap(count, words(), chunksize=2, buffersize=5)
    assert_type(results, IMapIterator[int])
    assert_type(next(results), int)
    assert_type(results.next(timeout=1.5), int)
    assert_type(list(pool.imap_unordered(count, words())), list[int])
    for number in pool.imap_unordered(count, {"a"}):
        assert_type(number, int)
    results.close()


def calls(pool: Pool) -> None:
    assert_type(pool.apply(count, ("a",)), int)
    assert_type(pool.apply(scale, (1.0,), {"by": 3}), float)
    assert_type(pool.apply(func=Account, args=[1]), Account)
    assert_type(pool.apply_async(count, ("a",)), AsyncResult[int])
    assert_type(pool.map_async(count, ["a"]), AsyncResult[list[int]])
    assert_type(pool.starmap_async(scale, [(1.5, 2)]), AsyncResult[list[float]])


def results(pool: Pool) -> None:
    result = pool.apply_async(count, ("a",))
    assert_type(result.get(), int)
    assert_type(result.get(timeout=2), int)
    assert_type(result.result(1.0), int)
    assert_type(result.exception(), BaseException | None)
    assert_type(result.ready(), bool)
    assert_type(result.successful(), bool)
    future: concurrent.futures.Future[int] = result
    for done in concurrent.futures.as_completed([future]):
        assert_type(done.result(), int)
    assert_type(pool.map_async(count, ["a"]).get(), list[int])


async def awaited(pool: Pool) -> None:
    assert_type(await pool.apply_async(count, ("a",)), int)
    await asyncio.sleep(0)


def callbacks(pool: Pool) -> None:
    def got(value: int) -> None: ...
    def got_list(value: list[int]) -> None: ...
    def failed(error: BaseException) -> None: ...

    pool.apply_async(count, ("a",), callback=got, error_callback=failed)
    pool.map_async(count, ["a"], callback=got_list, error_callback=failed)
    pool.map_async(count, ["a"], None, got_list, failed)
    seen: list[int] = []
    pool.apply_async(count, ("a",), callback=seen.append)


def life() -> None:
    with Pool(2, print, ("hello",), maxtasksperchild=3) as pool:
        assert_type(pool, Pool)
        pool.close()
        pool.join()
    Pool(start_method="spawn", graceful=True).terminate()
    Pool(backend="inline").close()
    Pool(context=millpond.get_context("spawn")).close()
    assert_type(millpond.get_context("fork").Pool(2), Pool)
    with ThreadPool(2) as threads:
        assert_type(threads.map(count, ["a"]), list[int])


def pool_is_a_class(kept: Pool | None, made: type[Pool]) -> bool:
    return isinstance(kept, Pool) and isinstance(kept, made)


def options(pool: Pool) -> None:
    def told(snapshot: Snapshot) -> None:
        assert_type(snapshot.total, int | None)
        assert_type(snapshot.rate, float)

    limits: TaskOptions = {"timeout": 1.5, "retries": 2, "backoff": 0.5, "seed": 7}
    assert_type(pool.map(count, ["a"], **limits), list[int])
    assert_type(pool.map(count, ["a"], 3, timeout=None, retry_on=OSError), list[int])
    assert_type(pool.starmap(scale, [(1.5, 2)], retry_on=(OSError, ValueError)), list[float])
    assert_type(pool.apply(count, ("a",), timeout=1), int)
    assert_type(pool.apply_async(count, ("a",), retries=1), AsyncResult[int])
    assert_type(pool.map_async(count, ["a"], fail_fast=True), AsyncResult[list[int]])
    assert_type(pool.imap(count, words(), buffersize=5, progress=told), IMapIterator[int])
    assert_type(list(pool.imap_unordered(count, words(), progress="words")), list[int])
    assert_type(pool.submit(count, "a"), AsyncResult[int])
    assert_type(Pool(2, **limits), Pool)
    assert_type(Pool(2, None, (), 3, on_error="skip", concurrency=10, progress=True), Pool)


def executors(pool: Pool) -> None:
    executor: concurrent.futures.Executor = pool.executor
    assert_type(executor.submit(count, "a").result(), int)
    for number in pool.executor.map(count, words(), timeout=1.5):
        assert_type(number, int)


def wrong_options(pool: Pool) -> None:
    """Each line is an error, as in ``mistakes``."""
    pool.map(count, ["a"], retires=1)  # type: ignore[call-arg]
    pool.map(count, ["a"], timeout="1")  # type: ignore[arg-type]
    pool.apply(count, ("a",), on_error="ignore")  # type: ignore[arg-type]
    pool.imap(count, ["a"], retry_on="OSError")  # type: ignore[arg-type]
    Pool(fail_fast=1)  # type: ignore[arg-type]


def mistakes(pool: Pool) -> None:
    """Each line is an error; a checker that lets one pass reports its unused ignore."""
    pool.map(count, [1, 2])  # type: ignore[arg-type]
    pool.map(count, 5)  # type: ignore[arg-type]
    pool.map("count", ["a"])  # type: ignore[arg-type]
    pool.imap(count, ["a"], buffersize="5")  # type: ignore[arg-type]
    numbers: list[str] = pool.map(count, ["a"])  # type: ignore[arg-type]
    text: str = pool.apply_async(count, ("a",)).get()  # type: ignore[assignment]
    Pool(processes="2")  # type: ignore[arg-type]
    Pool(no_such_option=1)  # type: ignore[call-arg]
    del numbers, text


def is_no_standard_pool(pool: Pool) -> multiprocessing.pool.Pool:
    return pool  # type: ignore[return-value]
