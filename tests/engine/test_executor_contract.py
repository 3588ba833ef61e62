"""The errors of an executor's futures, beside what ``ProcessPoolExecutor`` gives."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

import pytest

import millpond
from millpond import errors
from millpond.testing import tasks
from millpond.testing.suite import SOON


class Refusing:
    """Pickle is told that it is not to be pickled."""

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not this")


class Locked(Exception):
    """An exception that holds a lock."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


def a_refusing_result() -> Any:
    return Refusing()


def a_lock() -> Any:
    return threading.Lock()


def a_lambda() -> Any:
    return lambda: 1


def raise_locked() -> None:
    raise Locked


def fail() -> None:
    raise tasks.Oops(3)


def fail_to_begin() -> None:
    raise tasks.Oops(4)


def leave() -> None:
    sys.exit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def ours() -> Iterator[Executor]:
    with millpond.Pool(1) as pool:
        yield pool.executor


CALLS: dict[str, tuple[Any, ...]] = {
    "argument": (tasks.identity, Refusing()),
    "locked argument": (tasks.identity, threading.Lock()),
    "result": (a_refusing_result,),
    "lock": (a_lock,),
    "lambda": (a_lambda,),
    "exception": (raise_locked,),
    "raised": (fail,),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_errors_are_of_the_classes_that_they_have_there(
    ours: Executor, call: tuple[Any, ...]
) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as standard:
        theirs: Any = type(standard.submit(*call).exception(SOON))
    future = ours.submit(*call)
    error = future.exception(SOON)
    assert isinstance(error, theirs)
    with pytest.raises(theirs) as info:
        future.result()
    assert info.value is error
    with pytest.raises(theirs):
        list(ours.map(call[0], call[1:]) if len(call) == 2 else ours.map(run, call))


def run(function: Callable[[], Any]) -> Any:
    return function()


@pytest.mark.parametrize("function", [leave, interrupt])
def test_what_would_end_the_caller_is_an_abort(
    ours: Executor, function: Callable[[], None]
) -> None:
    future = ours.submit(function)
    assert type(future.exception(SOON)) is errors.TaskAborted
    with pytest.raises(errors.TaskAborted):
        future.result()
    with pytest.raises(errors.TaskAborted):
        list(ours.map(run, [function]))
    assert ours.submit(tasks.square, 3).result(SOON) == 9


WIDENED: dict[str, tuple[Any, ...]] = {
    "died": (tasks.die_on, 3, 3, "SIGKILL"),
    "lock": (a_lock,),
    "exception": (raise_locked,),
}


@pytest.mark.parametrize("call", WIDENED.values(), ids=WIDENED)
def test_such_an_error_is_otherwise_what_it_was(call: tuple[Any, ...]) -> None:
    with millpond.Pool(1) as pool:
        plain: Any = pool.submit(*call).exception(SOON)
        error: Any = pool.executor.submit(*call).exception(SOON)
    kind = type(error)
    assert isinstance(error, type(plain))
    assert (kind.__name__, kind.__qualname__, kind.__module__) == (
        type(plain).__name__, type(plain).__qualname__, type(plain).__module__,
    )  # fmt: skip
    assert vars(error).keys() == vars(plain).keys()
    assert type(error.__cause__) is type(plain.__cause__)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is kind
        assert (other.args, vars(other), str(other), repr(other)) == (
            error.args, vars(error), str(error), repr(error),
        )  # fmt: skip


def test_only_an_executor_s_own_death_breaks_it() -> None:
    with millpond.Pool(1) as pool:
        call: tuple[Any, ...] = (tasks.die_on, 3, 3, "SIGKILL")
        assert not isinstance(pool.submit(*call).exception(SOON), BrokenExecutor)
        assert isinstance(pool.executor.submit(*call).exception(SOON), BrokenProcessPool)
        with pytest.raises(BrokenProcessPool):
            list(pool.executor.map(tasks.die_on, [3], [3], ["SIGKILL"]))
        nested = pool.executor.submit(a_death_elsewhere).exception(SOON)
        assert isinstance(nested, errors.WorkerDied)
        assert not isinstance(nested, BrokenExecutor)
        assert pool.executor.submit(tasks.square, 3).result(SOON) == 9


def a_death_elsewhere() -> Any:
    with millpond.Pool(1) as pool:
        return pool.apply(tasks.die_on, (3, 3, "SIGKILL"))


@pytest.mark.parametrize(
    ("backend", "broken"), [("processes", BrokenProcessPool), ("threads", BrokenThreadPool)]
)
def test_an_initializer_that_fails_breaks_the_executor(
    backend: str, broken: type[Exception]
) -> None:
    with millpond.Pool(1, initializer=fail_to_begin, backend=backend) as pool:
        for _ in range(2):
            error = pool.executor.submit(tasks.square, 3).exception(SOON)
            assert isinstance(error, errors.InitializerError)
            assert isinstance(error, broken)
            assert "fail_to_begin" in str(error)


def test_nobody_else_loads_what_executors_need() -> None:
    from tests.engine.test_executor import program

    out, err = program("""
        import sys
        from millpond import Pool
        with Pool(2) as pool:
            pool.map(abs, range(10))
            list(pool.imap(abs, range(10)))
            pool.apply_async(abs, (3,)).get()
        print("concurrent.futures.process" in sys.modules, "millpond.contract" in sys.modules)
    """)
    assert (out, err) == ("False False\n", "")
