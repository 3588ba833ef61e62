"""What tasks raise, return and keep: nothing of it kills a worker, ends a loop early or depends on the workers."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

from millpond import errors
from millpond.testing import defiant, poison, tasks
from millpond.testing.defiance import caught, check, each_call
from millpond.testing.failures import outcomes
from millpond.testing.stateful import Walk, gather
from millpond.testing.states import steps_of
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, Stage

TO_THE_END = """
import threading

import millpond

if __name__ == "__main__":
    process = millpond.Process(target=int)
    process.start()
    kept = threading.main_thread().kept = [process]
    pool = millpond.Pool(2)
    kept += pool, pool.map(bytes, [1 << 21] * 2), pool.imap(abs, iter(range(1000)))
    next(kept[-1])
"""


@fault(
    101,
    "an exception whose class does not let it be marked, shown or looked at (a frozen dataclass, a `__setattr__`, "
    "`__str__`, `__getattribute__` or `__class__` that raises), of a task, of `imap`'s input, of the initializer",
    "the error itself, or a stand-in that names it; no worker ends",
)
def untouchable_exception(stage: Stage) -> None:
    with stage.pool() as pool:
        pids = {worker.pid for worker in pool._pool}
        for kind in defiant.KINDS:
            for act in each_call(pool, kind).values():
                check(caught(act), kind)
            assert (
                type(caught(partial(list, pool.imap(abs, defiant.inputs(kind)))))
                is defiant.KINDS[kind]
            )
        assert {worker.pid for worker in pool._pool} == pids, "a worker was replaced"
    with stage.pool(usable=False, initializer=defiant.begin, initargs=("Frozen",)) as pool:
        error = caught(lambda: pool.apply_async(abs, (1,)).get(SOON))
        assert type(error) is errors.InitializerError
        assert "Frozen" in str(error)


@fault(
    102,
    "a task lets a StopIteration out",
    "RuntimeError at its place in `imap`; the others' values",
)
def stop_iteration(stage: Stage) -> None:
    with stage.pool() as pool:
        for method in (pool.imap, pool.imap_unordered):
            got = outcomes(method(tasks.stop_on, range(6)))
            assert sorted(map(str, got)) == sorted(
                str(x) if x != 3 else str(("RuntimeError", got_text(got))) for x in range(6)
            )


def got_text(got: list[Any]) -> Any:
    """What the one error of the outcomes says."""
    (text,) = [x[1] for x in got if isinstance(x, tuple)]
    return text


@fault(
    103,
    "a bound method or a partial that changes what it holds, on one worker and on three",
    "the values that `multiprocessing` gives for these chunks",
)
def callable_with_state(stage: Stage) -> None:
    for processes in (1, 3):
        with stage.pool(processes) as pool:
            for chunk in (1, 4):
                assert pool.map(Walk().step, range(30), chunk) == steps_of(30, chunk)
                assert list(pool.imap(Walk().step, range(30), chunk)) == steps_of(30, chunk)
                kept = pool.map(partial(gather, []), range(30), chunk)
                assert kept == [x % chunk + 1 for x in range(30)]
            assert pool.apply(Walk().step) == steps_of(1, 1)[0]


@fault(
    104,
    "a function, an argument or a result that does not unpickle",
    "the error says which of them it was, and of which task",
)
def told_what_does_not_unpickle(stage: Stage) -> None:
    with stage.pool() as pool:
        error = caught(lambda: pool.map(poison.raise_or_return, [1, 5]))
        assert "result of task 1 of raise_or_return" in "".join(error.__notes__)
        error = caught(lambda: pool.apply(tasks.identity, (poison.NoUnpickle(),)))
        assert "an argument" in "".join(error.__notes__)
        error = caught(lambda: pool.map(partial(tasks.everything, poison.NoUnpickle()), [1]))
        assert "This was raised while the worker unpickled it" in str(error)


@fault(
    105,
    "a process, a pool and results that live to the interpreter's very end",
    "nothing is printed",
)
def quiet_end(stage: Stage) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TO_THE_END],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
