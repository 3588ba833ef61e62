"""What a signal's handler raises while a result is unpickled is no result: that is there to be got again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import millpond
from millpond import Pool, errors

SOON = 20.0
_disturb: list[Callable[[], None]] = []
"""What is done in this process, and not in a worker, by the next unpickling."""


class Alarm(Exception):
    """What a handler raises."""


class Disturbed:
    """Something that is unpickled by code of its own."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return rebuild, (self.value, os.getpid())


class DisturbedError(Exception):
    """The same, raised."""

    def __reduce__(self) -> Any:
        return rebuild_error, (self.args[0], os.getpid())


def rebuild(value: int, pid: int) -> int:
    if pid != os.getpid():
        while _disturb:
            _disturb.pop()()
    return value


def rebuild_error(value: int, pid: int) -> Exception:
    return ZeroDivisionError(rebuild(value, pid))


def make(x: int) -> Any:
    return Disturbed(x)


def fail(x: int) -> Any:
    raise DisturbedError(x)


def ring(_number: int, _frame: object) -> None:
    raise Alarm


class Ringer:
    """A handler that is a method."""

    def ring(self, *_: object) -> None:
        raise Alarm


def strike(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(SOON)  # the handler ends it


@pytest.fixture(params=["SIGINT", "SIGUSR1", "a method", "a lambda"])
def interruption(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """Its exception; the signal comes amid the next unpickling."""
    if request.param == "SIGINT":
        _disturb.append(lambda: strike(signal.SIGINT))
        yield KeyboardInterrupt
    else:
        handlers: dict[str, Any] = {
            "SIGUSR1": ring,
            "a method": Ringer().ring,
            "a lambda": lambda *_: ring(0, None),
        }
        before = signal.signal(signal.SIGUSR1, handlers[request.param])
        _disturb.append(lambda: strike(signal.SIGUSR1))
        try:
            yield Alarm
        finally:
            signal.signal(signal.SIGUSR1, before)
    _disturb.clear()


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool(2, start_method="fork") as pool:
        yield pool
        pool.terminate()
        pool.join()


@pytest.mark.parametrize("options", [{}, {"on_error": "return"}, {"on_error": "raise"}])
def test_get_again(pool: Pool, interruption: type[BaseException], options: dict[str, Any]) -> None:
    call = pool.apply_async(make, (7,), **options)
    call.wait(SOON)
    with pytest.raises(interruption):
        call.get(SOON)
    assert call.successful()
    assert call.get(SOON) == call.result(SOON) == 7


@pytest.mark.parametrize("options", [{}, {"on_error": "return"}, {"on_error": "skip"}])
def test_map_again(pool: Pool, interruption: type[BaseException], options: dict[str, Any]) -> None:
    call = pool.map_async(make, [7, 8, 9], **options)
    call.wait(SOON)
    with pytest.raises(interruption):
        call.get(SOON)
    assert call.get(SOON) == [7, 8, 9]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("options", [{}, {"on_error": "return"}, {"on_error": "skip"}])
def test_next_again(
    pool: Pool, interruption: type[BaseException], method: str, options: dict[str, Any]
) -> None:
    results = getattr(pool, method)(make, [7, 7, 7], **options)
    with pytest.raises(interruption):
        results.next(SOON)
    assert list(results) == [7, 7, 7]


def test_an_exception_that_is_unpickled_again(
    pool: Pool, interruption: type[BaseException]
) -> None:
    call = pool.apply_async(fail, (7,))
    call.wait(SOON)
    with pytest.raises(interruption):
        call.get(SOON)
    with pytest.raises(ZeroDivisionError, match="7"):
        call.get(SOON)


def test_an_executor_s_future_again(pool: Pool, interruption: type[BaseException]) -> None:
    future = pool.executor.submit(make, 7)
    future.wait(SOON)
    with pytest.raises(interruption):
        future.exception(SOON)
    assert future.exception(SOON) is None
    assert future.result(SOON) == 7


def test_a_process_s_result_again(interruption: type[BaseException]) -> None:
    process = millpond.get_context("fork").Process(target=make, args=(7,))
    process.start()
    process.join(SOON)
    with pytest.raises(interruption):
        process.result()
    assert process.result() == 7
    process.close()


def leave() -> None:
    raise SystemExit(3)


def test_what_unpickling_itself_raised_is_the_result(pool: Pool) -> None:
    for act, kind in (leave, errors.TaskAborted), (lambda: ring(0, None), Alarm):
        _disturb.append(act)
        call = pool.apply_async(make, (7,))
        for _ in range(2):
            with pytest.raises(kind):
                call.get(SOON)
        _disturb.extend([act, act])  # a list of values that fails is looked at one by one
        got = pool.map(make, [7, 8], on_error="return")
        assert [type(value) for value in got] == [kind, int]
    assert pool.apply(make, (7,)) == 7


def test_what_a_handler_raised_in_an_inline_task_is_its_error() -> None:
    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with Pool(backend="inline") as pool:
            call = pool.apply_async(strike, (signal.SIGUSR1,))
            for _ in range(2):
                with pytest.raises(Alarm):
                    call.get(SOON)
            assert not call.successful()
    finally:
        signal.signal(signal.SIGUSR1, before)
