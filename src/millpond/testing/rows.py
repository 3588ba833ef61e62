"""More functions for workers: those that take one row, or are made for one test of the suite.

As in `tasks`, importing this costs a worker nothing of pytest.
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path
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


def fail_at_first(row: tuple[str, int, int]) -> int:
    """Raise in the first ``times`` runs of this x."""
    folder, x, times = row
    if _runs(folder, x) <= times:
        raise tasks.Oops(x)
    return x


def look_up_at_first(row: tuple[str, int, int]) -> int:
    """The same with a KeyError."""
    folder, x, times = row
    if _runs(folder, x) <= times:
        raise KeyError(x)
    return x


def _runs(folder: str, x: int) -> int:
    path = Path(folder, str(x))
    tasks.note(str(path))
    return tasks.executions(path)


def draw(_: Any = None) -> int:
    return int(millpond.rng().integers(1 << 60))


def draw_and_fail_at_first(row: tuple[str, int, int]) -> int:
    """Numbers drawn before the failure and after the new start are the same."""
    drawn = draw()
    fail_at_first(row)
    return drawn


HANGS = ["sleeps", "spins", "holds the GIL", "backtracks"]
"""Ways to take for ever; most of them hear of nothing meanwhile."""


def hang(how: str) -> None:
    """Longer than any test, in Python or in native code, with the GIL or without it."""
    if how == "sleeps":
        time.sleep(tasks.LIMIT)
    elif how == "spins":
        end = time.monotonic() + tasks.LIMIT
        while time.monotonic() < end:
            pass
    elif how == "holds the GIL":
        ctypes.PyDLL(None).sleep(int(tasks.LIMIT))
    else:
        re.match("(a+)+$", "a" * 60 + "b")
    raise TimeoutError(f"nobody ended a task that {how}")


def hang_on_5(row: tuple[str, int, str]) -> int:
    """Task 5 is late, and says so."""
    folder, x, how = row
    tasks.note(str(Path(folder, str(x))))
    if x == 5:
        hang(how)
    return x


def trouble_at_first(row: tuple[str, int, str]) -> int:
    """The first run of this x hangs, dies or raises, as ``how`` says; the next is good."""
    folder, x, how = row
    if _runs(folder, x) == 1:
        if how == "dies":
            tasks.die("SIGKILL")
        elif how == "hangs":
            hang("sleeps")
        elif how == "raises":
            raise tasks.Oops(x)
    return x


def trouble(how: str) -> None:
    """Dies, hangs or raises, each time."""
    if how == "dies":
        tasks.die("SIGKILL")
    elif how == "hangs":
        hang("sleeps")
    raise tasks.Oops(1)


def fail_then_wait(row: tuple[str, str]) -> None:
    """The first run fails, the second one waits for the gate."""
    journal, gate = row
    tasks.note(journal)
    if tasks.executions(Path(journal)) == 1:
        raise tasks.Oops(1)
    tasks.pass_gate(gate)


def wait_then_fail(row: tuple[str, str, int]) -> None:
    journal, gate, x = row
    tasks.note(journal)
    tasks.pass_gate(gate)
    raise tasks.Oops(x)


class LoadsSlowly:
    """Unpickled, it is the number of seconds that this took."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __reduce__(self) -> Any:
        return tasks.sleep_for, (self.seconds,)


class SlowToImport(LoadsSlowly):
    """A function that takes as long to load."""

    def __reduce__(self) -> Any:
        return _load_slowly, (self.seconds,)

    def __call__(self, x: Any) -> Any:
        return x


def _load_slowly(seconds: float) -> SlowToImport:
    return SlowToImport(tasks.sleep_for(seconds))


def write_line(path: str, x: object) -> None:
    """Append a line to the file."""
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{x}\n")


def write_line_and_die_on(path: str, x: int, bad: int) -> None:
    """Append a line to the file; end the worker at one of them."""
    write_line(path, x)
    if x == bad:
        os._exit(1)
