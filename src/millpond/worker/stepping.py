"""One coroutine in a worker, and how it is driven: step by step, each noted on the slate and timed.

Rules of this module: a step may do anything, and what it raises is the coroutine's ending; a copy of the process
that a step forked ends with it; a coroutine that was answered before its end is no longer noted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import types
from collections.abc import Callable, Generator
from time import monotonic_ns
from typing import Any, Final

from millpond.worker.codec import CALL, MAP, decode_argument
from millpond.worker.conduct import Conducted, name_of
from millpond.worker.raised import set_trace, trace_of
from millpond.worker.slate import NEXT, ONE, RUNNING, STEP, TIME, WORD

BLOCKED: Final = 100_000_000
"""Nanoseconds in one step after which a coroutine is said to block the loop."""
_SILENCE: Final = 10_000_000_000
"""Nanoseconds between two warnings about one function."""
NOTHING: Final[Any] = object()


class Coroutine:
    """One task of a coroutine function, from its arrival to its answer."""

    __slots__ = (
        "argument", "conduct", "encoded", "function", "index", "inner", "outcome", "over", "row", "seq", "style",
        "task", "timer",
    )  # fmt: skip

    def __init__(
        self, conducted: Conducted, style: int, seq: int, index: int, argument: Any, encoded: bool
    ) -> None:
        self.function, self.conduct = conducted
        self.style = style
        self.seq = seq
        self.index = index
        self.argument = argument
        self.encoded = encoded
        self.over = False  # it was answered, or taken back
        self.outcome = NOTHING  # with which it is answered
        self.row = 0  # on the slate
        self.inner: Any = None  # the user's coroutine
        self.task: asyncio.Task[None] | None = None  # has a slot
        self.timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"task {self.index} of {name_of(self.function)}"


class Steps:
    """Drives coroutines of one loop; ``leave`` is told how each ended, with a StopIteration if well."""

    def __init__(self, page: Any, leave: Callable[[Coroutine, BaseException], None]) -> None:
        self._page = page
        self._pid = os.getpid()
        self._leave = leave
        self._warned: dict[str, int] = {}  # when, about which function

    @types.coroutine
    def live(self, one: Coroutine) -> Generator[Any, Any, None]:
        """Drive it step by step, as ``await`` would."""
        page, pid = self._page, self._pid
        running = one.seq * STEP + ONE + RUNNING
        step: Callable[[Any], Any] = _enter
        given: Any = one
        while True:
            began = monotonic_ns()
            if not one.over:
                page[TIME] = began
                page[WORD] = running
            try:
                awaited = step(given)
            except BaseException as ending:
                self._leave(one, ending)
                return
            finally:
                given = None
                if os.getpid() != pid:
                    os._exit(0)  # a copy that it forked came back here: the original goes on
                page[WORD] = page[NEXT] * STEP
                if monotonic_ns() - began > BLOCKED:
                    self._warn(one, monotonic_ns() - began)
            try:
                given = yield awaited
                step = one.inner.send
            except GeneratorExit:
                one.inner.close()
                raise
            except BaseException as thrown:
                set_trace(thrown, None)
                step, given = one.inner.throw, thrown

    def _warn(self, one: Coroutine, took: int) -> None:
        """Say who blocked the loop; not about one function again and again."""
        now, name = monotonic_ns(), name_of(one.function)
        if now - self._warned.get(name, now - _SILENCE) < _SILENCE:
            return
        self._warned[name] = now
        import logging

        with contextlib.suppress(Exception):  # what the user's logging does is his affair
            logging.getLogger("millpond").warning(
                "%s blocked the event loop of its worker for %.1f s, and the other coroutines there with it; "
                "have blocking calls run in asyncio.to_thread(), or use a plain function",
                one.name,
                took / 1e9,
            )


def _enter(one: Coroutine) -> Any:
    """The first step."""
    try:
        argument, one.argument = one.argument, None
        if one.encoded:
            argument = decode_argument(argument)
        if one.style == MAP:
            inner = one.function(argument)
        elif one.style == CALL:
            inner = one.function(*argument[0], **argument[1])
        else:
            inner = one.function(*argument)
        one.inner = inner if type(inner) is types.CoroutineType else _await(inner)
    except StopIteration as stop:
        raise RuntimeError("the coroutine function raised StopIteration") from stop
    return one.inner.send(None)


async def _await(awaitable: Any) -> Any:
    return await awaitable


def theirs(exception: BaseException) -> Any:
    """The traceback, less our own frames at its begin."""
    trace = trace_of(exception)
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
