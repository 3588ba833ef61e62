"""A program: does one thing with a pool again and again, and raises a signal at each place where one may strike.

CPython runs a signal's handler in the main thread after a call, at a function's begin and at a jump backward.
The n-th round is struck at the n-th such place of the scenario; the program ends when several rounds were over
before their place had come. After each round the pool has to work. A hang ends the program, with the stack of
every thread.

    python -m tests.engine.interrupted <backend> <scenario> <signal> <stride>
"""

from __future__ import annotations

import contextlib
import dis
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import millpond
from millpond import Pool

INTERRUPTIBLE = {"CALL", "CALL_KW", "CALL_FUNCTION_EX", "RESUME", "JUMP_BACKWARD"}
LIMIT = 10.0  # seconds for a round
MISSES = 8  # rounds in a row that were over too soon: how many places there are depends on the time


HERE = os.getpid()


class Struck(BaseException):
    """What the handler raises, where it is not Ctrl-C's."""


class Stroke:
    """A trace function that raises a signal at the n-th place."""

    def __init__(self, number: int, place: int) -> None:
        self.number = number
        self.left = place
        self.where = ""
        self._last: dict[FrameType, int] = {}

    @property
    def fell(self) -> bool:
        return bool(self.where)

    def trace(self, frame: FrameType, _event: str, _arg: object) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "return":
            self._last.pop(frame, None)
        if event != "opcode":
            return self._step
        before = self._last.get(frame)
        self._last[frame] = frame.f_lasti
        if before is not None and dis.opname[frame.f_code.co_code[before]] in INTERRUPTIBLE:
            self.left -= 1
            if self.left == 0 and os.getpid() == HERE:  # a forked copy is traced, too
                self._fall(frame)
        return self._step

    def _fall(self, frame: FrameType) -> None:
        sys.settrace(None)
        self._last.clear()
        self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        signal.raise_signal(self.number)


def square(x: int) -> int:
    return x * x


def apply(pool: Pool) -> None:
    assert pool.apply(square, (3,)) == 9


def apply_async(pool: Pool) -> None:
    assert pool.apply_async(square, (4,)).get() == 16


def callback(pool: Pool) -> None:
    seen: list[int] = []
    assert pool.apply_async(square, (4,), callback=seen.append).get() == 16
    assert seen == [16]


def map_some(pool: Pool) -> None:
    assert pool.map(square, range(20)) == [x * x for x in range(20)]


def imap(pool: Pool) -> None:
    results = pool.imap(square, range(6))
    assert [next(results) for _ in range(3)] == [0, 1, 4]


def timeout(pool: Pool) -> None:
    pool.apply_async(square, (4,)).wait(0.0001)


def end(pool: Pool) -> None:
    results = pool.map_async(square, range(20))
    pool.close()
    pool.join()
    assert results.get() == [x * x for x in range(20)]


def terminate(pool: Pool) -> None:
    pool.map_async(square, range(20))
    pool.terminate()
    pool.join()


def make(pool: Pool) -> None:
    """A constructor that is struck leaves nothing; what it made is ended when the stroke is over."""
    _made.append(make_pool(_backend[0]))


def start(pool: Pool) -> None:
    """The same of a process."""
    process = millpond.get_context(_backend[0]).Process(target=square, args=(3,))
    _started.append(process)
    process.start()


_backend: list[str] = []
_made: list[Pool] = []
_started: list[Any] = []


def clear_up(before: tuple[int, int, int]) -> None:
    """End what was made; then there is nothing more than before."""
    while _made:
        pool = _made.pop()
        pool.terminate()
        pool.join()
        del pool
    while _started:
        process = _started.pop()
        if process.pid is not None:
            process.join()
            process.close()
        del process
    deadline = time.monotonic() + LIMIT / 2
    while any(now > then for now, then in zip(holdings(), before, strict=True)):
        assert time.monotonic() < deadline, f"left behind: {holdings()}, before: {before}"
        gc.collect()
        time.sleep(0.01)


def holdings() -> tuple[int, int, int]:
    """How many descriptors, threads and children there are."""
    children = 0
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):  # that thread has just ended
            children += len(Path(f"/proc/self/task/{task}/children").read_text().split())
    return len(os.listdir("/proc/self/fd")), threading.active_count(), children


SCENARIOS: dict[str, Callable[[Pool], None]] = {
    f.__name__: f
    for f in (apply, apply_async, callback, map_some, imap, timeout, end, terminate, make, start)
}
ENDING = (end, terminate)
MAKING = (make, start)


def make_pool(backend: str) -> Pool:
    if backend in ("fork", "forkserver", "spawn"):
        return Pool(2, start_method=backend)
    return Pool(2, backend=backend)


def caused_by_signal(failure: BaseException | None) -> bool:
    """Whether it is the signal's exception, or came of it: ``Condition.wait`` loses its lock to one."""
    while failure is not None and not isinstance(failure, KeyboardInterrupt | Struck):
        failure = failure.__context__
    return failure is not None


def strike(scenario: Callable[[Pool], None], pool: Pool, number: int, place: int) -> Stroke:
    """One round; a stroke that fell must have been felt."""
    stroke = Stroke(number, place)
    ignored: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, ignored.append
    felt = False
    try:
        sys.settrace(stroke.trace)
        try:
            scenario(pool)
        finally:
            sys.settrace(None)
    except BaseException as failure:
        felt = caused_by_signal(failure)
        if not felt:
            raise
    finally:
        sys.unraisablehook = before
    if stroke.fell and not felt and not ignored:
        raise AssertionError(f"the signal at {stroke.where} was lost")
    return stroke


def check(pool: Pool, place: int) -> None:
    """The pool works, and no old answer comes for a new question."""
    assert pool.apply(square, (place,)) == place * place
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]


def strike_everywhere(
    backend: str, scenario: Callable[[Pool], None], number: int, stride: int
) -> int:
    pool = make_pool(backend)
    check(pool, 1)
    _backend.append(backend)
    scenario(pool)
    clear_up((1 << 30,) * 3)
    before = holdings()
    if scenario in ENDING:
        pool = make_pool(backend)
    place, missed = 1, 0
    while missed < MISSES:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        stroke = strike(scenario, pool, number, place)
        missed = 0 if stroke.fell else missed + 1
        try:
            if scenario in ENDING:
                pool.terminate()
                pool.join()
                pool = make_pool(backend)
            check(pool, place)
            if scenario in MAKING:
                clear_up(before)
        except BaseException as failure:
            failure.add_note(f"after a signal at place {place}, {stroke.where}")
            raise
        place += stride
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    pool.terminate()
    pool.join()
    faulthandler.cancel_dump_traceback_later()
    return place


def raise_struck(_number: int, _frame: object) -> None:
    raise Struck


def main(backend: str, scenario: str, name: str, stride: str) -> None:
    number = signal.Signals[name]
    if number != signal.SIGINT:
        signal.signal(number, raise_struck)
    with contextlib.ExitStack() as stack:
        stack.callback(sys.settrace, None)
        places = strike_everywhere(backend, SCENARIOS[scenario], number, int(stride))
    print(f"{places} places")


if __name__ == "__main__":
    main(*sys.argv[1:])
