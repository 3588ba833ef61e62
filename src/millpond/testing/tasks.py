"""The functions that the conformance suite sends to workers.

Rules: every function here can be imported by a worker under any start method; none sleeps to wait
for the test, each waits for a condition with a limit (`meet`, `pass_gate`); what a task did is
seen through files, which every local backend can share.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import util
from pathlib import Path
from typing import Any, NoReturn

LIMIT = 30.0
"""Seconds after which a wait inside a task, or a test's wait for a condition, has failed."""


class Oops(Exception):
    """An error of a task, with arguments and an attribute of its own."""

    def __init__(self, number: int, text: str = "oops") -> None:
        super().__init__(number, text)
        self.number = number


class Abort(BaseException):
    """A BaseException that is no Exception, as some frameworks use to unwind."""


def square(x: int) -> int:
    return x * x


def identity(x: Any) -> Any:
    return x


def add(a: int, b: int = 10, *, c: int = 100) -> tuple[int, int, int]:
    return a, b, c


def everything(*args: Any, **kwds: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwds


def nothing() -> None:
    return None


def fail(x: int) -> NoReturn:
    raise Oops(x)


def fail_on_odd(x: int) -> int:
    if x % 2:
        raise Oops(x)
    return x


def fail_on(x: int, bad: int) -> int:
    if x == bad:
        raise Oops(x)
    return x


def stop_on(x: int) -> int:
    """Lets a StopIteration out for 3, as ``next`` of nothing does."""
    return next(iter([x] if x != 3 else []))


def fail_with_cause(x: int) -> NoReturn:
    try:
        fail(x)
    except Oops as error:
        raise RuntimeError("outer") from error


def note(path: str, x: Any = None) -> Any:
    """Append a byte to the file: its size is the count of executions (O_APPEND is atomic)."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, b".")
    finally:
        os.close(fd)
    return x


def note_and_fail_on(path: str, x: int, bad: int) -> int:
    note(path)
    return fail_on(x, bad)


def executions(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def wait_until(condition: Callable[[], object], what: str, limit: float = LIMIT) -> None:
    """Poll until the condition holds; a TimeoutError that says what never came."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"after {limit} s still not: {what}")
        time.sleep(0.001)


def pass_gate(path: str | Path, x: Any = None, started: str | None = None) -> Any:
    """Return x once the file exists; says that it started by appending to `started`."""
    if started is not None:
        note(started)
    wait_until(lambda: os.path.exists(path), f"the gate {path} opens")
    return x


def make_calls_of_pass_gate_short(pool: Any, submit: Any, gate: Path) -> None:
    """See to it that the pool takes them to be short, so that it sends many ahead; plain arguments would also let
    many begin together. The gate is open."""
    gauges = pool._engine._driver.scheduler._backlog.gauges

    def short() -> bool:
        for future in [submit(pass_gate, gate) for _ in range(200)]:
            future.result(LIMIT)
        return any(gauge.cost and gauge.cost < 2e-5 for gauge in list(gauges.values()))

    wait_until(short, "the calls are known to be short")


def meet(folder: str, name: str, company: int) -> str:
    """Return once `company` tasks are in here at the same time."""
    Path(folder, name).touch()
    wait_until(lambda: len(os.listdir(folder)) >= company, f"{company} tasks met in {folder}")
    return name


def quick_or_gated(x: int, gate: str) -> int:
    """Task 0 waits for the gate; the others are instant."""
    return int(pass_gate(gate, x)) if x == 0 else x


def sleep_a_little(x: int) -> int:
    """Take longer the smaller x is, so that order by time is not order by call."""
    time.sleep(0.002 * (9 - x % 10))
    return x


def sleep_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def exit_with(code: Any) -> NoReturn:
    sys.exit(code)


def interrupt(_: Any = None) -> NoReturn:
    raise KeyboardInterrupt("from the task")


def abort(_: Any = None) -> NoReturn:
    raise Abort("from the task")


def pid(_: Any = None) -> int:
    return os.getpid()


def thread_id(_: Any = None) -> int:
    return threading.get_ident()


def die(how: str) -> NoReturn:
    """End this worker process without a word to anybody."""
    if how == "exit0":
        os._exit(0)
    if how == "exit7":
        os._exit(7)
    if how == "segv":
        if "faulthandler" in sys.modules:
            sys.modules["faulthandler"].disable()
        ctypes.string_at(0)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(LIMIT)
    raise TimeoutError(f"{how} did not end the worker")


def die_on(x: int, bad: int, how: str) -> int:
    if x == bad:
        die(how)
    return x


def die_once(path: str, x: int) -> int:
    """Kill the worker the first time that anyone runs this."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return x
    die("SIGKILL")


def deep_list(depth: int) -> list[Any]:
    """Nested far beyond the recursion limit: no pickler takes it."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def make_lambda(_: Any = None) -> Any:
    lock = threading.Lock()
    return lambda: lock


def make_bytes(size: int) -> bytes:
    return b"\xa5" * size


def length(data: bytes) -> int:
    return len(data)


def ignore_sigterm_and_wait(gate: str, started: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pass_gate(gate, started=started)


def hold_the_gil(seconds: int, started: str) -> None:
    note(started)
    ctypes.PyDLL(None).sleep(seconds)


def garbage_collect(_: Any = None) -> int:
    return gc.collect()


def close_all_fds(_: Any = None) -> int:
    os.closerange(3, 4096)
    return 1


def write_on_stdout(text: str) -> int:
    """Bytes on fd 1 must never be taken for the pool's own traffic."""
    return os.write(1, text.encode())


def note_at_exit(path: str) -> None:
    """Have the process note in the file that it ends by itself."""
    util.Finalize(None, note, (path,), exitpriority=10)


def leave_a_thread(seconds: float) -> None:
    """Start a thread for which the process waits before it ends."""
    threading.Thread(target=time.sleep, args=(seconds,)).start()
