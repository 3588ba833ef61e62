"""Coroutines in a pool, beyond what the conformance suite asks of a backend."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from millpond import Pool, errors
from millpond.testing import tasks
from millpond.testing import waits as functions

waits: Any = functions  # what a pool makes of their types is for the tests of types
SOON = 20.0


async def leave_things_behind(x: int) -> int:
    """A task that never ends, a generator that is not at its end, and a call that exits."""

    async def endless() -> Any:
        while True:
            yield 1
            await asyncio.sleep(0)

    async def forever() -> None:
        async for _ in endless():
            pass

    _kept.append(asyncio.create_task(forever()))
    asyncio.get_running_loop().call_soon(sys.exit)
    await asyncio.sleep(0)
    return x


_kept: list[Any] = []


def die(_: Any) -> None:
    os._exit(3)


@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_what_a_coroutine_leaves_behind_ends_with_its_worker(
    backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with Pool(1, backend=backend) as pool:
        result: Any = pool.map_async(leave_things_behind, range(4))
        pool.close()
        pool.join()
        assert result.get(SOON) == [0, 1, 2, 3]
    _kept.clear()
    assert capfd.readouterr().err == ""


def test_the_caller_hears_of_one_that_blocks_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "millpond"), Pool(1, backend="threads") as pool:
        pool.apply(waits.block, (0.15,))
    (record,) = caplog.records
    assert record.getMessage().startswith("task 0 of block blocked the event loop of its worker")


def test_inline_says_why_it_cannot_be_within_a_loop() -> None:
    async def main() -> None:
        with Pool(1, backend="inline") as pool:
            pool.apply(waits.square, (3,))

    with pytest.raises(RuntimeError, match="cannot be run inline by a thread whose event loop"):
        asyncio.run(main())


def test_those_that_had_begun_are_not_blamed_for_a_plain_task(tmp_path: Path) -> None:
    started = tmp_path / "started"
    with Pool(1, start_method="fork") as pool:
        beside = pool.apply_async(waits.pass_gate, (str(tmp_path / "gate"), 1, str(started)))
        tasks.wait_until(started.exists, "it runs")
        with pytest.raises(errors.WorkerDied) as dead:
            pool.apply(die, (1,))
        with pytest.raises(errors.WorkerDied) as lost:
            beside.get(SOON)
    assert dead.value.blamed
    assert not lost.value.blamed


def test_awaiting_and_cancelling_one_from_asyncio(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"

    async def main() -> Any:
        async with Pool(1, start_method="fork") as pool:
            result = pool.apply_async(waits.stay_and_note, (str(begun), str(ended)))
            try:
                async with asyncio.timeout(0.3):
                    await result
            except TimeoutError:
                pass
            assert result.cancelled()
            return await pool.apply_async(waits.square, (3,))

    assert asyncio.run(main()) == 9
    assert begun.exists() == ended.exists()


def test_failing_fast_stops_those_that_run() -> None:
    with Pool(2, start_method="fork") as pool:
        with pytest.raises((errors.TaskTimeout, CancelledError)):
            pool.map(waits.stay, range(8), timeout=0.1, fail_fast=True)
        assert pool.map(waits.square, range(3), 1) == [0, 1, 4]
