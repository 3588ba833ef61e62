"""Coroutines in the caller's process: in a worker thread's event loop, or in the caller's own thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from millpond.backends import local
from millpond.worker.conduct import Conduct
from millpond.worker.coroutines import Coroutines, wind_up
from millpond.worker.outcome import Error, Value, asks_again
from millpond.worker.raised import is_ordinary
from millpond.worker.slate import SIZE
from millpond.worker.stepping import Coroutine

Sink = Callable[[list[int], list[Any]], None]
"""What is told which have ended, and how."""


class LocalCoroutines(Coroutines):
    """Nothing is encoded, and the slate is nobody's but its own."""

    def __init__(self, send: Sink) -> None:
        super().__init__(memoryview(bytearray(SIZE)).cast("Q"))
        self._send = send

    def hold(self, task: local.Task, seq: int) -> None:
        """Take a task."""
        conducted, style, argument, index = task
        self.take(Coroutine(conducted, style, seq, index, argument, False))  # type: ignore[arg-type]

    def value(self, value: object) -> Value:
        return Value(value)

    def error(self, exception: BaseException, conduct: Conduct) -> Error:
        again = asks_again(exception, conduct.retry_on)
        if is_ordinary(exception):
            return Error(exception, again)
        return Error(local.aborted(exception), again)

    def send(self, seqs: list[int], outcomes: list[Any]) -> None:
        del self._ended[: len(seqs)]
        self._send(seqs, outcomes)

    def close(self) -> None:
        """All have ended."""
        wind_up(self.loop)

    def wake(self) -> None:
        """End a ``run``, or the next one. Any thread."""
        with contextlib.suppress(RuntimeError):  # it has just been closed
            self.loop.call_soon_threadsafe(self.loop.stop)


def run_one(task: local.Task) -> Any:
    """Run one to its end in this thread; its outcome."""
    if asyncio._get_running_loop() is not None:
        return Error(
            RuntimeError(
                "a coroutine function cannot be run inline by a thread whose event loop is running; await it, or "
                "use backend='threads'"
            )
        )
    ended: list[Any] = []
    coroutines = LocalCoroutines(lambda _, outcomes: ended.extend(outcomes))
    try:
        coroutines.hold(task, 0)
        coroutines.stopping = True
        coroutines.loop.run_forever()
        coroutines.flush()
    except (SystemExit, KeyboardInterrupt) as interrupt:
        ended.append(Error(local.aborted(interrupt)))
    finally:
        coroutines.close()
    return ended[0]
