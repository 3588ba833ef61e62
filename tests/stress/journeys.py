"""Exits, exceptions, and values that do not travel: each costs its own task."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import Any

from millpond import errors
from millpond.testing import initializers, poison, tasks
from tests.stress import work
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, Stage, error_of, settled

UNSENT = (errors.MaybeEncodingError, errors.TaskError)


def alone(
    stage: Stage, function: Any, args: tuple[Any, ...], kind: Any, *words: str, lives: bool = True
) -> Any:
    """The one call fails as it should; ten others beside it do not, and no worker ends."""
    with stage.pool() as pool:
        pids = {worker.pid for worker in pool._pool}
        before = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(5)]
        told: list[BaseException] = []
        bad = pool.apply_async(function, args, error_callback=told.append)
        after = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(5, 10)]
        error = error_of(bad, kind, *words)
        assert settled(before + after) == list(range(10))
        stage.check_runs(10)
        assert [type(x) for x in told] == [type(error)]
        if lives:
            assert {worker.pid for worker in pool._pool} == pids, "a worker was replaced"
        return error


@fault(19, "ValueError", "the same type and arguments, the remote traceback as its cause")
def an_exception(stage: Stage) -> None:
    error = alone(stage, int, ("no number",), ValueError, "no number")
    assert "Traceback" in str(error.__cause__)
    error = alone(stage.anew(), tasks.fail, (3,), tasks.Oops)
    assert error.args == (3, "oops")
    assert "in fail" in str(error.__cause__)


@fault(20, "`sys.exit(3)` in a task", "`TaskAborted`; the worker lives")
def system_exit(stage: Stage) -> None:
    alone(stage, tasks.exit_with, (3,), errors.TaskAborted, "SystemExit", "3")


@fault(21, "KeyboardInterrupt raised in a task", "`TaskAborted`; the worker lives")
def keyboard_interrupt(stage: Stage) -> None:
    alone(stage, tasks.interrupt, (), errors.TaskAborted, "KeyboardInterrupt")


@fault(22, "another BaseException", "`TaskAborted`; the worker lives")
def base_exception(stage: Stage) -> None:
    alone(stage, tasks.abort, (), errors.TaskAborted, "Abort")


@fault(23, "an exception that cannot be pickled", "an error with its type's name and its text")
def unpicklable_exception(stage: Stage) -> None:
    alone(stage, poison.raise_unpicklable, (), UNSENT, "UnpicklableError", "with a lock inside")


@fault(
    24,
    "an exception whose unpickling fails in the parent",
    "`TaskError` with its type's name and its text",
)
def unloadable_exception(stage: Stage) -> None:
    error = alone(
        stage, poison.raise_two_arguments, (1,), errors.TaskError, "TwoArguments", "1 and 2"
    )
    assert error.type_name.endswith("TwoArguments")
    assert "raise_two_arguments" in error.traceback


@fault(25, "the result is a lambda", "`MaybeEncodingError`, which shows it")
def lambda_result(stage: Stage) -> None:
    alone(stage, tasks.make_lambda, (), errors.MaybeEncodingError, "lambda")


@fault(26, "the result's unpickling raises in the parent", "that task fails with the error")
def unloadable_result(stage: Stage) -> None:
    alone(stage, poison.return_no_unpickle, (), tasks.Oops, "does not unpickle")


@fault(27, "a result that is nested 200,000 deep", "an error that names RecursionError")
def deep_result(stage: Stage) -> None:
    alone(stage, tasks.deep_list, (200_000,), (RecursionError, *UNSENT), "recursion")


@fault(28, "the argument is a lock", "TypeError from the call")
def lock_argument(stage: Stage) -> None:
    alone(stage, tasks.identity, (threading.Lock(),), TypeError, "lock")
    alone(stage.anew(), tasks.identity, (poison.HoldsLock(),), TypeError, "lock")


@fault(29, "the argument's unpickling raises in the worker", "that task fails with the error")
def unloadable_argument(stage: Stage) -> None:
    alone(stage, tasks.identity, (poison.NoUnpickle(),), tasks.Oops, "does not unpickle")


@fault(30, "a function that the worker cannot import", "sent by value: the right values")
def late_module(stage: Stage) -> None:
    with stage.pool() as pool:
        pool.map(tasks.square, range(4))
        Path(stage.path("came_late.py")).write_text("def triple(x):\n    return 3 * x\n")
        sys.path.append(str(stage.folder))
        try:
            module = importlib.import_module("came_late")
            assert pool.map_async(module.triple, range(5)).get(SOON) == [0, 3, 6, 9, 12]
            assert pool.apply_async(module.triple, (5,)).get(SOON) == 15
        finally:
            sys.path.remove(str(stage.folder))
            sys.modules.pop("came_late", None)


@fault(31, "RLIMIT_AS hit in the task", "MemoryError for that task")
def no_memory_in_the_task(stage: Stage) -> None:
    alone(stage, work.allocate_beyond, (64 << 20, 1 << 30), MemoryError)


@fault(32, "RLIMIT_AS hit while the result is pickled", "MemoryError for that task")
def no_memory_for_the_result(stage: Stage) -> None:
    alone(stage, work.return_beyond, (64 << 20, 1 << 28), (MemoryError, *UNSENT), "")


@fault(33, "a result of 1 GiB", "it arrives")
def huge_result(stage: Stage) -> None:
    size = 1 << 30
    with stage.pool() as pool:
        before = peak()
        value = pool.apply_async(tasks.make_bytes, (size,)).get(SOON)
        grown = (peak() - before) / size
        stage.measured["growth of the program's peak memory, in sizes of the result"] = grown, 3
        assert len(value) == size
        assert value[-1] == 0xA5
        assert grown < 3
        del value


def peak() -> int:
    """Bytes of memory that this process occupied at most."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


@fault(34, "the initializer raises", "`InitializerError` with its cause; it is not tried for ever")
def initializer_raises(stage: Stage) -> None:
    options: dict[str, Any] = {
        "initializer": initializers.refuse,
        "initargs": (stage.path("starts"), 5),
    }
    with stage.pool(usable=False, **options) as pool, stage.within(10, "giving up"):
        result = pool.apply_async(tasks.square, (3,))
        error = error_of(result, errors.InitializerError, "refuse", "the initializer refuses")
        assert isinstance(error.__cause__, tasks.Oops)
        assert isinstance(
            error_of(pool.apply_async(tasks.nothing), errors.InitializerError), Exception
        )
    assert tasks.executions(Path(stage.path("starts"))) <= 2


@fault(
    35,
    "the initializer kills its worker",
    "`InitializerError` with the signal; it is not tried for ever",
)
def initializer_kills(stage: Stage) -> None:
    options: dict[str, Any] = {
        "initializer": initializers.die_at_start,
        "initargs": (stage.path("starts"), "SIGKILL"),
    }
    with stage.pool(usable=False, **options) as pool, stage.within(10, "giving up"):
        error_of(
            pool.apply_async(tasks.square, (3,)), errors.InitializerError, "SIGKILL", "die_at_start"
        )
    assert tasks.executions(Path(stage.path("starts"))) <= 10
