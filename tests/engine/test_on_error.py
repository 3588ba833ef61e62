"""``on_error`` and ``fail_fast``: what becomes of tasks that fail, in each kind of call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from millpond import Pool
from millpond.testing import tasks
from millpond.testing.suite import SOON

BACKENDS: dict[str, Callable[[], Pool]] = {
    "fork": lambda: Pool(2, start_method="fork"),
    "threads": lambda: Pool(2, backend="threads"),
    "inline": lambda: Pool(2, backend="inline"),
}


@pytest.fixture(params=BACKENDS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    pool = BACKENDS[request.param]()
    yield pool
    pool.terminate()
    pool.join()


class Closed(Exception):
    """Takes no attribute of ours."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "partial":
            raise AttributeError(name)
        super().__setattr__(name, value)


def fail_closed(x: int) -> int:
    if x == 2:
        raise Closed
    return x


def numbers_of(values: list[Any]) -> list[Any]:
    """The values, and errors as what they are about."""
    return [("Oops", x.number) if isinstance(x, tasks.Oops) else x for x in values]


# map ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_raise_tells_of_what_succeeded(pool: Pool, chunksize: int | None) -> None:
    with pytest.raises(tasks.Oops) as caught:
        pool.map(tasks.fail_on_odd, range(6), chunksize, on_error="raise")
    assert caught.value.number == 1
    assert caught.value.partial == {0: 0, 2: 2, 4: 4}  # type: ignore[attr-defined]


def test_without_it_there_is_no_partial(pool: Pool) -> None:
    with pytest.raises(tasks.Oops) as caught:
        pool.map(tasks.fail_on_odd, range(6))
    assert not hasattr(caught.value, "partial")


def test_an_exception_that_does_not_take_it_is_raised_all_the_same(pool: Pool) -> None:
    with pytest.raises(Closed):
        pool.map(fail_closed, range(6), on_error="raise")


def test_return_puts_errors_in_their_places(pool: Pool) -> None:
    got = pool.map(tasks.fail_on_odd, range(5), on_error="return")
    assert numbers_of(got) == [0, ("Oops", 1), 2, ("Oops", 3), 4]
    starred = pool.starmap(tasks.fail_on, [(x, 1) for x in range(3)], on_error="return")
    assert numbers_of(starred) == [0, ("Oops", 1), 2]


def test_skip_leaves_them_out(pool: Pool) -> None:
    assert pool.map(tasks.fail_on_odd, range(5), on_error="skip") == [0, 2, 4]
    assert pool.map(tasks.fail, range(5), on_error="skip") == []
    assert pool.map(tasks.square, range(3), on_error="skip") == [0, 1, 4]


@pytest.mark.parametrize("on_error", ["return", "skip"])
def test_a_map_with_errors_that_are_values_is_successful(pool: Pool, on_error: Any) -> None:
    values: list[Any] = []
    errors: list[Any] = []
    result = pool.map_async(
        tasks.fail_on_odd, range(3), callback=values.append, error_callback=errors.append,
        on_error=on_error,
    )  # fmt: skip
    result.wait(SOON)
    assert result.successful()
    assert result.exception() is None
    assert (values, errors) == ([result.get()], [])


def test_what_is_no_task_s_error_is_raised_whatever_is_asked(pool: Pool) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("source")

    for on_error in ("return", "skip"):
        with pytest.raises(KeyError):
            pool.map(tasks.square, source(), on_error=on_error)
        results = pool.imap(tasks.square, source(), on_error=on_error)
        assert next(results) == 1
        with pytest.raises(KeyError):
            next(results)


def test_fail_fast_stops_what_runs_and_drops_the_rest(tmp_path: Path) -> None:
    journal, gate, never = (tmp_path / name for name in ("journal", "gate", "never"))
    given = [(str(journal), str(never), x, str(gate)) for x in range(50)]
    with Pool(2, start_method="fork", graceful=True) as pool:
        before = set(pool.map(tasks.pid, range(20), 1))
        result = pool.starmap_async(stay_or_fail, given, 1, on_error="raise", fail_fast=True)
        tasks.wait_until(lambda: tasks.executions(journal) == 2, "both workers are in a task")
        gate.touch()
        with pytest.raises(tasks.Oops) as caught:
            result.get(SOON)
        assert caught.value.partial == {}  # type: ignore[attr-defined]
        assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]
        assert not before <= set(pool.map(tasks.pid, range(20), 1)), "a worker was replaced"
    assert tasks.executions(journal) <= 4, "a worker may have begun another before it was known"


def stay_or_fail(journal: str, never: str, x: int, gate: str) -> None:
    """Task 1 fails as soon as the gate is open; all others stay for ever."""
    tasks.note(journal)
    tasks.pass_gate(gate if x == 1 else never)
    tasks.fail(x)


def test_fail_fast_gives_what_had_succeeded(pool: Pool) -> None:
    for _ in range(20):
        with pytest.raises(tasks.Oops) as caught:
            pool.starmap(
                tasks.fail_on, [(x, 30) for x in range(40)], 1, on_error="raise", fail_fast=True
            )
        partial = caught.value.partial  # type: ignore[attr-defined]
        assert caught.value.number == 30
        assert all(partial[x] == x for x in partial)
        assert pool.apply(tasks.square, (3,)) == 9


# apply --------------------------------------------------------------------------------------------


def test_one_call(pool: Pool) -> None:
    with pytest.raises(tasks.Oops) as caught:
        pool.apply_async(tasks.fail, (1,), on_error="raise").get(SOON)
    assert caught.value.partial == {}  # type: ignore[attr-defined]
    returned: Any = pool.apply_async(tasks.fail, (1,), on_error="return")
    assert numbers_of([returned.get(SOON)]) == [("Oops", 1)]
    assert returned.successful()
    skipped: Any = pool.apply_async(tasks.fail, (1,), on_error="skip")
    assert skipped.get(SOON) is None
    assert pool.apply_async(tasks.square, (3,), on_error="skip").get(SOON) == 9


# imap ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("given", [list, iter])
def test_imap(pool: Pool, method: str, given: Any) -> None:
    imap = getattr(pool, method)
    returned = list(imap(tasks.fail_on_odd, given(range(200)), on_error="return"))
    assert sorted(map(str, numbers_of(returned))) == sorted(
        str(("Oops", x) if x % 2 else x) for x in range(200)
    )
    skipped = list(imap(tasks.fail_on_odd, given(range(200)), on_error="skip"))
    assert sorted(skipped) == list(range(0, 200, 2))


def test_imap_raises_at_its_place_and_goes_on(pool: Pool) -> None:
    results = pool.imap(tasks.fail_on_odd, range(4), on_error="raise")
    assert next(results) == 0
    with pytest.raises(tasks.Oops):
        next(results)
    assert next(results) == 2


def test_fail_fast_ends_the_iteration(tmp_path: Path) -> None:
    journal, never = str(tmp_path / "journal"), str(tmp_path / "never")
    given = [(journal, never, 0)] + [(journal, never, x) for x in range(1, 50)]
    with Pool(2, start_method="fork", graceful=True) as pool:
        results = pool.imap_unordered(fail_or_stay, given, on_error="raise", fail_fast=True)
        with pytest.raises(tasks.Oops):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]
    assert tasks.executions(Path(journal)) < 10


def fail_or_stay(given: tuple[str, str, int]) -> None:
    """Task 0 fails; all others stay for ever."""
    journal, never, x = given
    tasks.note(journal)
    if x:
        tasks.pass_gate(never)
    tasks.fail(x)


@pytest.mark.parametrize("on_error", ["raise", "return", "skip"])
def test_async_for(pool: Pool, on_error: Any) -> None:
    async def main() -> list[Any]:
        async with asyncio.timeout(SOON):
            results = pool.imap(tasks.fail_on_odd, iter(range(5)), on_error=on_error)
            got: list[Any] = []
            while True:
                try:
                    got.append(await anext(results))
                except tasks.Oops as error:
                    got.append(error.number)
                except StopAsyncIteration:
                    return got

    expected = {
        "raise": [0, 1, 2, 3, 4],
        "return": [0, ("Oops", 1), 2, ("Oops", 3), 4],
        "skip": [0, 2, 4],
    }
    assert numbers_of(asyncio.run(main())) == expected[on_error]


def test_several_threads_open_one_result() -> None:
    """They get the same objects, whoever decodes them."""
    with Pool(1, start_method="fork") as pool:
        for _ in range(50):
            result = pool.map_async(tasks.fail_on_odd, range(3), on_error="return")
            result.wait(SOON)
            start, got = threading.Barrier(4), list[Any]()

            def take(start: Any = start, got: Any = got, result: Any = result) -> None:
                start.wait(SOON)
                got.append(result.get(0))

            threads = [threading.Thread(target=take) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SOON)
            assert len(got) == 4
            assert all(value is result.get(0) for value in got)
