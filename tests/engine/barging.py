"""A program: does one thing with a pool again and again, and at each bytecode the user's code uses the pool.

Garbage collection, signal handlers, weak references and pickling hooks run such code at moments that nobody
chooses. The n-th round is broken into at the n-th bytecode of the engine; the program ends when several rounds
were over before that. What the code asks of the pool is answered or refused with RuntimeError, within a limit;
calls of another thread go on; and after each round the pool works. A hang ends the program, with the stack of
every thread.

    python -m tests.engine.barging <backend> <scenario> <act> <stride>
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from types import FrameType
from typing import Any

import millpond
from millpond import Pool

OURS = str(Path(millpond.__file__).parent)
LIMIT = 15.0  # seconds for a round
PATIENCE = 5.0  # seconds for one answer
MISSES = 8  # rounds in a row that were over too soon: how many places there are depends on the time


class Barge:
    """A trace function that does something at the n-th bytecode of the package, in whatever thread is traced."""

    def __init__(self, act: Callable[[], Any], place: int) -> None:
        self.act = act
        self.left = place
        self.where = ""
        self.got: Any = None

    def trace(self, frame: FrameType, _event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "opcode" and not self.where:
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                sys.settrace(None)
                threading.settrace(None)
                self._barge()
        return self._step

    def _barge(self) -> None:
        try:
            self.got = self.act()
        except RuntimeError as refusal:
            self.got = refusal


def square(x: int) -> int:
    return x * x


class Argument:
    """Pickled by Python, in the driver where it is one of a map's."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        return Argument, (self.x,)


def value(argument: Argument) -> int:
    return argument.x


# What the user's code asks ------------------------------------------------------------------------


def acts(pool: Pool) -> dict[str, Callable[[], Any]]:
    def asynchronous() -> Any:
        return pool.apply_async(square, (5,))

    def called_back() -> Any:
        return pool.apply_async(square, (5,), callback=lambda _: None)

    def futures() -> Any:
        return pool.executor.submit(square, 5)

    def large() -> Any:
        return pool.apply_async(len, (bytes(1 << 20),))

    return {
        "apply": lambda: pool.apply(square, (5,)),
        "map": lambda: pool.map(square, range(3)),
        "imap": lambda: next(pool.imap(square, [5])),
        "apply_async": asynchronous,
        "callback": called_back,
        "future": futures,
        "large": large,
        "info": lambda: (pool.info(), repr(pool)),
        "terminate": pool.terminate,
        "close": pool.close,
    }


EXPECTED = {
    "apply": 25, "map": [0, 1, 4], "imap": 25, "apply_async": 25, "callback": 25, "future": 25, "large": 1 << 20,
}  # fmt: skip
ENDING = ("terminate", "close")


def check_answer(act: str, got: Any) -> None:
    """It is what was asked for, or a refusal; what comes later comes."""
    if isinstance(got, RuntimeError) or act not in EXPECTED:
        return
    if hasattr(got, "get"):
        got = got.get(PATIENCE)
    assert got == EXPECTED[act], got


# What it is broken into ---------------------------------------------------------------------------


def apply(pool: Pool) -> None:
    assert pool.apply(square, (3,)) == 9


def map_some(pool: Pool) -> None:
    assert pool.map(square, range(20)) == [x * x for x in range(20)]


def map_hooks(pool: Pool) -> None:
    assert pool.map(value, [Argument(x) for x in range(4)], 1) == [0, 1, 2, 3]


def imap(pool: Pool) -> None:
    assert list(pool.imap(square, range(6))) == [x * x for x in range(6)]


def callback(pool: Pool) -> None:
    seen: list[int] = []
    assert pool.apply_async(square, (4,), callback=seen.append).get(PATIENCE) == 16
    assert seen == [16]


def many(pool: Pool) -> None:
    """Calls that nobody waits for at once: the caretaker drives."""
    calls = [pool.apply_async(square, (x,)) for x in range(6)]
    assert [call.get(PATIENCE) for call in calls] == [x * x for x in range(6)]


def cancel(pool: Pool) -> None:
    calls = [pool.apply_async(square, (x,)) for x in range(3)]
    calls[2].cancel()
    assert [call.get(PATIENCE) for call in calls[:2]] == [0, 1]


SCENARIOS: dict[str, Callable[[Pool], None]] = {
    f.__name__: f for f in (apply, map_some, map_hooks, imap, callback, many, cancel)
}


def make_pool(backend: str) -> Pool:
    if backend == "fork":
        return Pool(2, start_method="fork")
    return Pool(2, backend=backend)


def play(scenario: Callable[[Pool], None], pool: Pool, act: str, place: int) -> Barge:
    """One round. A scenario may fail only if the pool was ended meanwhile."""
    barge = Barge(acts(pool)[act], place)
    sys.settrace(barge.trace)
    try:
        scenario(pool)
    except (CancelledError, ValueError):
        if act not in ENDING:
            raise
    finally:
        sys.settrace(None)
    return barge


def beside(pool: Pool, stop: threading.Event, failures: list[BaseException]) -> None:
    """Calls of another thread."""
    while not stop.is_set():
        try:
            assert pool.apply_async(square, (7,)).get(PATIENCE) == 49
        except BaseException as failure:
            failures.append(failure)
            return
        stop.wait(0.002)


def check(pool: Pool, place: int) -> None:
    """The pool works, and no old answer comes for a new question."""
    assert pool.apply(square, (place,)) == place * place
    assert pool.map_async(square, range(5)).get(PATIENCE) == [0, 1, 4, 9, 16]


def barge_everywhere(
    backend: str, scenario: Callable[[Pool], None], act: str, stride: int
) -> tuple[int, int]:
    """How many places there were, and at how many of them the code was refused."""
    pool = make_pool(backend)
    check(pool, 1)
    scenario(pool)
    failures: list[BaseException] = []
    stop = threading.Event()
    other = threading.Thread(target=beside, args=(pool, stop, failures), daemon=True)
    if act not in ENDING and backend != "inline":
        other.start()
    place, missed, refused = 1, 0, 0
    while missed < MISSES:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        barge = play(scenario, pool, act, place)
        missed = 0 if barge.where else missed + 1
        refused += isinstance(barge.got, RuntimeError)
        try:
            if barge.where:
                check_answer(act, barge.got)
            if act in ENDING:
                pool.terminate()
                pool.join()
                pool = make_pool(backend)
            check(pool, place)
            assert not failures, failures
        except BaseException as failure:
            failure.add_note(f"after {act} at place {place}, {barge.where}: {barge.got!r}")
            raise
        place += stride
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    stop.set()
    if other.ident is not None:
        other.join()
    pool.terminate()
    pool.join()
    faulthandler.cancel_dump_traceback_later()
    return place, refused


def main(backend: str, scenario: str, act: str, stride: str) -> None:
    places, refused = barge_everywhere(backend, SCENARIOS[scenario], act, int(stride))
    print(f"{places} places, {refused} refusals", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)
