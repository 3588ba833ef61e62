"""Waiting in an event loop, asyncio's or trio's, for what threads bring about.

Rules: whoever drives the engine wakes the loop directly, by its own thread-safe call, so that a wait costs no
thread; a loop that has been closed is nobody's failure; trio is looked for only where the program has it already.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self

from millpond import errors
from millpond.parking import Flag, Parking

if TYPE_CHECKING:
    import asyncio

_NO_LOOP = (
    "an async iterable is pulled by the event loop of the caller, and none of asyncio's is running "
    "in this thread: make the call in a coroutine"
)


Ready = Callable[[], bool]


def _no_limit(_: Ready) -> None:
    """Others do the work."""


async def until(
    ready: Ready, parking: Parking, attend: Callable[[Ready], float | None] = _no_limit
) -> None:
    """Wait until ``ready()``, of which ``parking`` tells. ``attend`` is the seat's."""
    limit = attend(ready)
    while not ready():
        bell = _bell()
        parking.add(bell)
        try:
            if not ready():
                await bell.wait(limit)
        finally:
            parking.drop(bell)
        limit = attend(ready)


def cancelled() -> BaseException:
    """What a wait for something raises that was cancelled, as the loop in this thread has it."""
    if _trio_token() is None:
        import asyncio

        return asyncio.CancelledError()
    from concurrent.futures import CancelledError

    return CancelledError()


class _Bell(Protocol):
    """Wakes the task that waits for it, from any thread."""

    def release(self) -> None: ...
    async def wait(self, limit: float | None) -> None: ...


def _bell() -> _Bell:
    token = _trio_token()
    return _AsyncioBell() if token is None else _TrioBell(token)


class _AsyncioBell:
    """See the protocol."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._future = self._loop.create_future()

    def release(self) -> None:
        call(self._loop, self._ring)

    def _ring(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, limit: float | None) -> None:
        timer = None if limit is None else self._loop.call_later(limit, self._ring)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()


class _TrioBell:
    """See the protocol."""

    def __init__(self, token: Any) -> None:
        self._token = token
        self._event = sys.modules["trio"].Event()

    def release(self) -> None:
        try:
            self._token.run_sync_soon(self._event.set)
        except RuntimeError:
            pass  # the run has ended

    async def wait(self, limit: float | None) -> None:
        with sys.modules["trio"].move_on_after(float("inf") if limit is None else limit):
            await self._event.wait()


def _trio_token() -> Any:
    """What trio's run in this thread is called from other threads by, or None."""
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def running_loop() -> asyncio.AbstractEventLoop:
    """asyncio's loop that runs in this thread. Raises RuntimeError if there is none."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(_NO_LOOP) from None


def call(loop: asyncio.AbstractEventLoop, act: Callable[[], object]) -> None:
    """Have the loop do it, from any thread; one that has been closed does nothing any more."""
    try:
        loop.call_soon_threadsafe(act)
    except RuntimeError:
        pass


# Input --------------------------------------------------------------------------------------------


class Pending(Protocol):
    """A result whose call has yet to be submitted."""

    @property
    def changed(self) -> Parking: ...
    def fail(self, error: Exception) -> None: ...


def gather(
    source: AsyncIterable[Any], then: Callable[[list[Any]], object], result: Pending
) -> None:
    """Have a task of the running loop pull all of the source, and do ``then`` with the list of it.

    What the source or ``then`` raises is the result's error; if that is cancelled, so is the pulling.
    Raises RuntimeError if no loop is running.
    """
    task = running_loop().create_task(_gather(source, then, result))
    leaving = _Leaving(task)
    result.changed.add(leaving)
    task.add_done_callback(lambda _: result.changed.drop(leaving))


class _Leaving:
    """Wakes a task by cancelling it."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def release(self) -> None:
        call(self._task.get_loop(), self._task.cancel)


async def _gather(
    source: AsyncIterable[Any], then: Callable[[list[Any]], object], result: Pending
) -> None:
    try:
        then([item async for item in source])
    except Exception as failure:
        result.fail(failure)
    except BaseException as failure:  # the task was cancelled, by the result or by others
        result.fail(stopped(failure))
        raise


def stopped(failure: BaseException) -> Exception:
    """What stands for an exception that ended the pulling of a call's input and is not for its reader."""
    from concurrent.futures import CancelledError

    error = CancelledError("the task that pulls the call's input was cancelled")
    error.__cause__ = failure
    return error


# Pools --------------------------------------------------------------------------------------------


class AsyncContext:
    """``async with`` for a pool: what ``with`` does, and the loop goes on while the pool ends."""

    async def __aenter__(self) -> Self:
        pool: Any = self
        pool.__enter__()
        return self

    async def __aexit__(self, kind: object, value: object, trace: object) -> None:
        pool: Any = self
        if not pool._choice.attended:  # the caller does all himself, here and now
            pool.__exit__(kind, value, trace)
            return
        try:
            await in_thread(partial(pool.__exit__, kind, value, trace))
        except BaseException:
            with contextlib.suppress(errors.CannotKill):
                pool.terminate()  # the wait for the rest of the work was cancelled
            raise


async def in_thread(act: Callable[[], object]) -> None:
    """Do it in a thread of its own, and wait; raises what it raised.

    A loop's own threads would stay: their number is limited, and pools do not fork where there are some.
    """
    done, failures = Flag(), list[BaseException]()

    def run() -> None:
        try:
            act()
        except BaseException as failure:
            failures.append(failure)
        done.set()

    thread = threading.Thread(target=run, name="millpond-end", daemon=True)
    thread.start()
    await until(done.ready, done.parking)
    thread.join()
    for failure in failures:
        raise failure
