"""The options of tasks together: every two values of any two of them, and combinations with traps of their own."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401  (here, so that no task has to)
import pytest

import millpond
from millpond import Pool, errors
from millpond.testing import rows, tasks
from millpond.testing.suite import SOON

TABLE: dict[str, tuple[Any, ...]] = {
    "function": ("plain", "async"),
    "method": ("map", "imap", "imap_unordered", "apply_async"),
    "trouble": ("raises", "dies", "hangs"),
    "times": (1, 9),
    "retries": (0, 2),
    "on_error": ("raise", "return", "skip"),
    "maxtasksperchild": (None, 1, 3),
    "chunksize": (None, 1, 4),
    "seed": (None, 42),
    "progress": (False, True),
    "backoff": (0.0, 0.01),
}
BAD = (2, 3, 8)
KINDS = {"raises": tasks.Oops, "dies": errors.WorkerDied, "hangs": errors.TaskTimeout}
LATE = 0.4
"""Seconds: a task that hangs does so for much longer, the others end at once."""

Case = dict[str, Any]


def pairs_in(case: Case) -> set[tuple[tuple[str, Any], ...]]:
    """The pairs of values that a case has."""
    return set(itertools.combinations(case.items(), 2))


def cases() -> Iterator[Case]:
    """As few cases as a simple search finds that have every pair: each has the most of what is still missing."""
    every = itertools.combinations(TABLE.items(), 2)
    missing = {((a, x), (b, y)) for (a, xs), (b, ys) in every for x in xs for y in ys}
    dice = random.Random(1)
    while missing:
        drawn = [{name: dice.choice(TABLE[name]) for name in TABLE} for _ in range(200)]
        best = max(drawn, key=lambda case: len(pairs_in(case) & missing))
        if pairs_in(best) & missing:
            missing -= pairs_in(best)
            yield best


def work(row: tuple[str, int, str, int]) -> tuple[int, float]:
    """Its number, and the first random number that it drew; in its first runs some trouble."""
    folder, x, trouble, times = row
    drawn = draw()
    path = Path(folder, str(x))
    tasks.note(str(path))
    if x in BAD and tasks.executions(path) <= times:
        rows.trouble(trouble)
    return x, drawn


async def work_async(row: tuple[str, int, str, int]) -> tuple[int, float]:
    """The same; it hangs by waiting."""
    folder, x, trouble, times = row
    await asyncio.sleep(0)
    if trouble != "hangs":
        return work(row)
    value = work((folder, x, "", 0))
    if x in BAD and tasks.executions(Path(folder, str(x))) <= times:
        await asyncio.sleep(tasks.LIMIT)
    return value


def draw(_: object = None) -> float:
    return float(millpond.rng().random())


FUNCTIONS: dict[str, Any] = {"plain": work, "async": work_async}


def outcomes_of(pool: Pool, case: Case, given: list[Any], **options: Any) -> list[Any]:
    """What each task gave, an error at its place as a type; or what was left of them."""
    work = FUNCTIONS[case["function"]]
    if case["method"] == "apply_async":
        results = [pool.apply_async(work, (row,), **options) for row in given]
        return shown([result.exception(SOON) or result.get(0) for result in results])
    options["chunksize"] = case["chunksize"]
    if case["method"] == "map":
        try:
            return shown(pool.map(work, given, **options))
        except Exception as error:
            partial = error.partial  # type: ignore[attr-defined]
            return [partial.get(x, type(error)) for x in range(len(given))]
    got: list[Any] = []
    iterator = getattr(pool, case["method"])(work, iter(given), **options)
    while True:
        try:
            got.append(next(iterator))
        except StopIteration:
            return shown(got)
        except Exception as error:
            got.append(error)


def shown(values: list[Any]) -> list[Any]:
    return [type(value) if isinstance(value, Exception) else value for value in values]


def by_order(case: Case, values: list[Any]) -> list[Any]:
    return sorted(values, key=str) if case["method"] == "imap_unordered" else values


@pytest.mark.parametrize("case", [*cases()], ids=lambda case: "-".join(map(str, case.values())))
def test_every_pair_of_options(case: Case, tmp_path: Path) -> None:
    given = [(str(tmp_path), x, case["trouble"], case["times"]) for x in range(12)]
    seen: list[Any] = []
    options = {name: case[name] for name in ("retries", "on_error", "seed", "backoff")}
    options["progress"] = seen.append if case["progress"] else False
    with Pool(2, start_method="fork", maxtasksperchild=case["maxtasksperchild"]) as pool:
        got = outcomes_of(pool, case, given, timeout=LATE, **options)
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
    good = [x for x in range(12) if x not in BAD or case["times"] <= case["retries"]]
    if case["function"] == "async" and case["trouble"] == "dies":
        check_company(case, got)
        return
    check_outcomes(case, got, good)
    check_runs(case, tmp_path)
    if case["progress"] and case["method"] != "apply_async":
        again = len(BAD) * min(case["times"], case["retries"])
        assert seen[-1][1:5] == (12, 12, 12 - len(good), again)


def check_outcomes(case: Case, got: list[Any], good: list[int]) -> None:
    """Every task has its value, or what stands for its error."""
    calls = case["method"] == "apply_async"
    instead: Any = KINDS[case["trouble"]]
    if case["on_error"] == "skip":
        instead = None
    expected = [x if x in good else instead for x in range(12)]
    if case["on_error"] == "skip" and not calls:
        expected = good
    numbers = [value[0] if isinstance(value, tuple) else value for value in got]
    assert by_order(case, numbers) == by_order(case, expected)
    if case["seed"] is not None:
        drawn = [value for value in got if isinstance(value, tuple)]
        numbers = seeded()
        assert sorted(drawn) == [(x, numbers[0 if calls else x]) for x in good]


def check_company(case: Case, got: list[Any]) -> None:
    """Coroutines die with one of their worker: each has its value, or the death of another."""
    left = [value for value in got if value not in (errors.WorkerDied, None)]
    assert {value[0] for value in left} <= set(range(12)) - (
        set(BAD) if case["times"] > 2 else set()
    )
    if case["on_error"] != "skip":
        assert len(got) == 12


def check_runs(case: Case, folder: Path) -> None:
    """How often each ran: one whose answer died with its worker may have run once more."""
    for x in range(12):
        runs = tasks.executions(folder / str(x))
        expected = 1 + (min(case["times"], case["retries"]) if x in BAD else 0)
        assert runs == expected or (case["trouble"] == "dies" and x not in BAD and runs > 1), x


def seeded() -> list[float]:
    """What tasks draw with the seed of the table, by their index."""
    with Pool(1, start_method="fork") as pool:
        return pool.map(draw, range(12), seed=42)


def test_the_cases_have_every_pair() -> None:
    found = set().union(*(pairs_in(case) for case in cases()))
    assert len(found) == sum(
        len(xs) * len(ys) for xs, ys in itertools.combinations(TABLE.values(), 2)
    )
    assert len(list(cases())) < 40


# Nested pools -------------------------------------------------------------------------------------


def inner(timeout: float | None, how: str, pids: str = "") -> Any:
    """What a task gets of a pool of its own."""
    with Pool(2, start_method="fork", graceful=True) as pool:
        if pids:
            Path(pids).write_text(" ".join(str(worker.pid) for worker in pool._pool))
        got: list[Any] = pool.map(trouble_or_pid, [how, ""], 1, timeout=timeout, on_error="return")
        return [type(value).__name__ for value in got]


def trouble_or_pid(how: str) -> int:
    if how:
        rows.trouble(how)
    return os.getpid()


def test_a_limit_inside_a_limit_is_the_inner_task_s_alone() -> None:
    with Pool(2, start_method="fork") as pool:
        given = [(LATE, "hangs")] * 2
        assert pool.starmap(inner, given, 1, timeout=SOON) == [["TaskTimeout", "int"]] * 2
        assert pool.info()["lost"] == 0


def test_a_late_task_takes_its_own_pool_with_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with Pool(1, start_method="fork") as pool:
        with pytest.raises(errors.TaskTimeout):
            pool.apply(inner, (None, "hangs", str(pids)), timeout=1.0)
        assert pool.apply(inner, (LATE, "hangs")) == ["TaskTimeout", "int"]
    workers = pids.read_text().split()
    assert len(workers) == 2
    tasks.wait_until(
        lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), "they end", SOON
    )


def test_cancelling_a_task_ends_its_own_pool(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with Pool(1, start_method="fork") as pool:
        result = pool.apply_async(inner, (None, "hangs", str(pids)), retries=3)
        tasks.wait_until(lambda: pids.exists() and pids.read_text(), "its workers are there")
        assert result.cancel()
        assert pool.apply(tasks.square, (3,)) == 9
        workers = pids.read_text().split()
        tasks.wait_until(
            lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), "they end", SOON
        )


def test_retries_inside_retries(tmp_path: Path) -> None:
    def executions(name: str) -> int:
        return tasks.executions(tmp_path / name)

    with Pool(2, start_method="fork") as pool:
        row = (str(tmp_path), 1, 5)
        assert pool.apply(retry_inside, (row,), retries=2) == 1
        assert executions("1") == 6, "two runs inside in each of three runs"


def retry_inside(row: tuple[str, int, int]) -> int:
    with Pool(1, start_method="fork") as pool:
        return pool.apply(rows.fail_at_first, (row,), retries=1)


# Pauses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_a_small_buffer_does_not_wait_for_itself(tmp_path: Path, method: str) -> None:
    """What runs again is inside of the bound, which must not keep it from being sent."""
    given = ((str(tmp_path), x, 2) for x in range(30))
    with Pool(2, start_method="fork") as pool:
        options: dict[str, Any] = {"buffersize": 1, "retries": 2, "backoff": 0.001}
        got = getattr(pool, method)(rows.fail_at_first, given, **options)
        assert sorted(got) == list(range(30))


def test_a_pool_that_closes_waits_for_a_pause(tmp_path: Path) -> None:
    with Pool(2, start_method="fork", graceful=True) as pool:
        row = (str(tmp_path), 1, "dies")
        result = pool.apply_async(rows.trouble_at_first, (row,), retries=1, backoff=0.2)
    assert result.get(0) == 1


def test_a_pool_that_is_terminated_does_not(tmp_path: Path) -> None:
    with Pool(2, start_method="fork") as pool:
        row = (str(tmp_path), 1, "raises")
        result = pool.apply_async(rows.trouble_at_first, (row,), retries=1, backoff=300.0)
        tasks.wait_until((tmp_path / "1").exists, "it runs")
    with pytest.raises(CancelledError):
        result.get(SOON)


@pytest.mark.parametrize("how", ["raises", "dies"])
def test_an_iteration_that_is_left_in_a_pause(tmp_path: Path, how: str) -> None:
    given = [(str(tmp_path), x, how if x == 1 else "") for x in range(9)]
    with Pool(2, start_method="fork", graceful=True) as pool:
        results = pool.imap(rows.trouble_at_first, given, retries=1, backoff=300.0)
        assert next(results) == 0
        tasks.wait_until((tmp_path / "1").exists, "it runs")
        results.close()
        assert pool.map(tasks.square, range(9)) == [x * x for x in range(9)]
    assert tasks.executions(tmp_path / "1") <= 1


def test_a_timeout_of_asyncio_ends_a_pause(tmp_path: Path) -> None:
    async def main() -> None:
        async with Pool(1, start_method="fork", graceful=True) as pool:
            row = (str(tmp_path), 1, "raises")
            result = pool.apply_async(rows.trouble_at_first, (row,), retries=1, backoff=300.0)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await result
            assert result.cancelled()
            assert await pool.apply_async(tasks.square, (3,)) == 9

    asyncio.run(main())


def test_workers_killed_from_outside_during_a_pause(tmp_path: Path) -> None:
    given = [(str(tmp_path), x, 1) for x in range(4)]
    with Pool(2, start_method="fork") as pool:
        result = pool.map_async(rows.fail_at_first, given, 1, retries=1, backoff=0.5)
        tasks.wait_until(lambda: len(os.listdir(tmp_path)) == 4, "all have failed once")
        for worker in pool._pool:
            os.kill(worker.pid, signal.SIGKILL)
        assert result.get(SOON) == [0, 1, 2, 3]


# Fail fast ----------------------------------------------------------------------------------------


def test_fail_fast_comes_after_the_last_run(tmp_path: Path) -> None:
    with Pool(2, start_method="fork") as pool:
        good = [(str(tmp_path), x, 2) for x in range(8)]
        assert pool.map(rows.fail_at_first, good, 1, retries=2, fail_fast=True) == list(range(8))
        bad = [(str(tmp_path), x + 100, 3 if x == 5 else 1) for x in range(8)]
        with pytest.raises(tasks.Oops) as caught:
            pool.map(rows.fail_at_first, bad, 1, retries=2, fail_fast=True)
        assert caught.value.number == 105
        assert tasks.executions(tmp_path / "105") == 3


@pytest.mark.parametrize("how", ["dies", "hangs", "raises"])
def test_fail_fast_ends_pauses_and_what_runs(tmp_path: Path, how: str) -> None:
    """Whatever the first error is; with workers that live for one task only."""
    seen: list[Any] = []
    with Pool(2, start_method="fork", maxtasksperchild=1, graceful=True) as pool:
        given = [(str(tmp_path), x, "raises") for x in range(3)]
        paused = pool.map_async(
            rows.trouble_at_first, given, 1, retries=1, backoff=300.0, progress=seen.append
        )
        tasks.wait_until(lambda: seen and seen[-1].retried == 3, "all are in their pause")
        with pytest.raises(KINDS[how]):
            pool.map(rows.trouble, [how] * 6, 1, timeout=LATE, fail_fast=True)
        assert not paused.ready(), "another call's pause"
        assert paused.cancel()
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
