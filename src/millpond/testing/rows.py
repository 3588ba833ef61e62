"""More functions for workers: those that take one row, or are made for one test of the suite.

As in `tasks`, importing this costs a worker nothing of pytest.
"""

from __future__ import annotations

import os
from typing import Any

import millpond
from millpond.testing import tasks


def note_row(row: tuple[str, int]) -> int:
    tasks.note(row[0])
    return row[1]


def quick_or_gated_row(row: tuple[int, str]) -> int:
    return tasks.quick_or_gated(*row)


def pass_gate_row(row: tuple[str, str]) -> None:
    tasks.pass_gate(row[0], None, row[1])


def meet_in_twos(row: tuple[str, str]) -> str:
    return tasks.meet(*row, 2)


def gated_first(row: tuple[int, str, str]) -> int:
    x, gate, journal = row
    tasks.quick_or_gated(x, gate)
    tasks.note(journal)
    return x


def exit_on_odd(x: int) -> int:
    if x % 2:
        tasks.exit_with(x)
    return x


def die_on_17(x: int) -> int:
    return tasks.die_on(x, 17, "SIGKILL")


def exit_on_17(x: int) -> int:
    return tasks.die_on(x, 17, "exit0")


def die_on_tenth(x: int) -> int:
    return x if x % 10 else tasks.die("SIGKILL")


def fork_and_return() -> int:
    """Both copies return into the worker's loop; only one may answer."""
    return min(os.fork(), 1)


def fork_then_die(gate: str) -> None:
    if os.fork() == 0:
        try:
            tasks.pass_gate(gate)
        finally:
            os._exit(0)
    tasks.die("SIGKILL")


def nested(n: int) -> list[int]:
    with millpond.Pool(2) as pool:
        return pool.map(tasks.square, range(n))


def child_exitcode(code: int) -> int | None:
    child = millpond.Process(target=os._exit, args=(code,))
    child.start()
    child.join()
    return child.exitcode


def inside(func: Any, *args: Any) -> Any:
    """Call the function in a pool of one worker that this task makes."""
    with millpond.Pool(1, backend="processes") as pool:
        return pool.apply(func, args)


def workers_inside(depth: int) -> int:
    """How many workers a pool has by default, so many pools of two further inside."""
    if not depth:
        with millpond.Pool() as pool:
            return pool._processes
    with millpond.Pool(2) as pool:
        return pool.apply(workers_inside, (depth - 1,))


def dive() -> Any:
    """Make a pool of which a task makes a pool of which a task ..."""
    return inside(dive)
