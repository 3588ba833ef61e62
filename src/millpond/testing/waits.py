"""The coroutine functions that the conformance suite sends to workers.

As in `tasks`: each can be imported under any start method, none sleeps to wait for the test, and importing this
costs a worker nothing of pytest.
"""

# They meet the test through files, and some block on purpose.
# ruff: noqa: ASYNC110, ASYNC222, ASYNC240, ASYNC251

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import millpond
from millpond.testing import tasks

_present: Counter[str] = Counter()
_most: Counter[str] = Counter()
_name: ContextVar[Any] = ContextVar("_name", default=None)


async def square(x: int) -> int:
    await asyncio.sleep(0)
    return x * x


async def at_once(x: int) -> int:
    """Never waits."""
    return x


async def add(a: int, b: int = 10, *, c: int = 100) -> tuple[int, int, int]:
    await asyncio.sleep(0)
    return a, b, c


async def fail_on_odd(x: int) -> int:
    await asyncio.sleep(0)
    if x % 2:
        raise tasks.Oops(x)
    return x


async def fail_at_first(row: tuple[str, int, int]) -> int:
    """Raise in the first ``times`` runs of this x."""
    folder, x, times = row
    path = Path(folder, str(x))
    tasks.note(str(path))
    await asyncio.sleep(0)
    if tasks.executions(path) <= times:
        raise tasks.Oops(x)
    return x


async def abort(how: str) -> None:
    await asyncio.sleep(0)
    if how == "exit":
        sys.exit(3)
    if how == "cancel":
        raise asyncio.CancelledError
    if how == "interrupt":
        raise KeyboardInterrupt
    raise tasks.Abort


async def stay(_: Any = None) -> None:
    """Longer than any test."""
    await asyncio.sleep(tasks.LIMIT)
    raise TimeoutError("nobody ended a coroutine")


async def block(seconds: float) -> None:
    """Let nobody else run."""
    time.sleep(seconds)


async def stay_on(row: tuple[int, int]) -> int:
    """One x never returns."""
    x, bad = row
    await (stay() if x == bad else asyncio.sleep(0))
    return x


async def stay_and_note(begun: str, ended: str) -> None:
    """Say when it has begun, and when it was cancelled."""
    Path(begun).touch()
    try:
        await stay()
    finally:
        Path(ended).touch()


async def refuse_to_go(_: Any = None) -> None:
    """Takes no notice of being cancelled, for a while."""
    for _ in range(3):
        try:
            await asyncio.sleep(tasks.LIMIT)
        except asyncio.CancelledError:
            pass


async def pass_gate(gate: str, value: Any, started: str = "") -> Any:
    """Return the value once the gate is there."""
    if started:
        Path(started).touch()
    await _until(Path(gate).exists)
    return value


async def crowd(row: tuple[str, int]) -> int:
    """Wait until so many have been here at once; how many that were, in the end."""
    key, count = row
    _present[key] += 1
    for _ in range(20):  # turns of the loop in which too many could begin
        _most[key] = max(_most[key], _present[key])
        await asyncio.sleep(0)
    await _until(lambda: _most[key] >= count)
    _present[key] -= 1
    return _most[key]


async def _until(condition: Any) -> None:
    async with asyncio.timeout(tasks.LIMIT):
        while not condition():
            await asyncio.sleep(0.001)


async def with_all_of_asyncio(x: int) -> tuple[bool, int, bool, Any]:
    """A current task, a group, a timeout of its own, a context of its own."""
    before, _ = _name.get(), _name.set(x)
    late = False
    task = asyncio.current_task()
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(square(x + n)) for n in range(3)]
    try:
        async with asyncio.timeout(0.001):
            await stay()
    except TimeoutError:
        late = True
    own = _name.get() == x and before is None
    return task is not None, sum(part.result() for part in parts), late, own


async def cancel_all_others(_: Any) -> None:
    """Those that have not begun, too."""
    me = asyncio.current_task()
    for task in asyncio.all_tasks():
        if task is not me:
            task.cancel()


async def draw(_: Any = None) -> int:
    """Other tasks draw between two numbers."""
    first = millpond.rng().integers(1 << 30)
    await asyncio.sleep(0)
    return int(first) + int(millpond.rng().integers(1 << 30))


async def pid(_: Any = None) -> int:
    await asyncio.sleep(0)
    return os.getpid()


def run_a_loop(x: int) -> int:
    """A plain task with a loop of its own."""
    return asyncio.run(square(x))


class Squarer:
    """Its calls are coroutines."""

    async def __call__(self, x: int) -> int:
        return await square(x)

    async def method(self, x: int) -> int:
        return await square(x)


async def die_on(row: tuple[int, int, int, str]) -> int:
    """One x ends its process, once ``count`` are here."""
    x, bad, count, folder = row
    begun = Path(folder)
    (begun / str(x)).touch()
    await _until(lambda: len(list(begun.iterdir())) >= count)
    if x == bad:
        os._exit(3)
    await stay()
    return x


async def die_at_first(row: tuple[int, int, str]) -> int:
    """One x ends its process, in its first run."""
    x, bad, folder = row
    path = Path(folder, str(x))
    tasks.note(str(path))
    await asyncio.sleep(0)
    if x == bad and tasks.executions(path) == 1:
        os._exit(3)
    return x


async def fork_a_copy(x: int) -> int:
    """A copy of the worker comes back from the task, as it does from a careless fork."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return x
