"""Coroutines in a worker: one event loop for the worker's life, and up to so many of them at once.

    take      a coroutine came; it waits for a slot, in the order of the numbers
    _run      it has one: it is driven (``stepping``) as an asyncio task of its own
    _answer   it ended, was late or was cancelled: its slot is free, and its outcome is sent with the others
              of this turn of the loop

Rules of this module:

1. Each is answered once, or not at all if it was taken back before it began.
2. Nothing that a coroutine does ends the loop, short of ending the process.
3. What is answered and goes on all the same (it will not be cancelled) is nobody's any more: it has no slot and
   no place on the slate.
4. Ordinary tasks run while the loop stands still: they may have loops of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from contextvars import copy_context
from functools import partial
from time import monotonic_ns
from typing import Any, Final

from millpond.errors import TaskTimeout
from millpond.worker import seeding
from millpond.worker.codec import CALL, GONE
from millpond.worker.conduct import Conduct
from millpond.worker.raised import set_trace
from millpond.worker.slate import (
    ENCODING,
    FIRST_ROW,
    NEXT,
    ONE,
    ROWS,
    STEP,
    WORD,
    recalled,
    taken_back,
)
from millpond.worker.stepping import Coroutine, Steps, theirs

ALL_ROWS: Final = range(FIRST_ROW, FIRST_ROW + 2 * ROWS, 2)
_FAREWELL: Final = 0.5
"""Seconds that what still runs in the loop has, once cancelled, when the worker ends."""


class Endings:
    """How the endings of coroutines become outcomes, and where these go."""

    def value(self, value: object) -> Any:
        """An outcome."""
        raise NotImplementedError

    def error(self, exception: BaseException, conduct: Conduct) -> Any:
        """An outcome."""
        raise NotImplementedError

    def send(self, seqs: list[int], outcomes: list[Any]) -> None:
        """These ended; those that are on their way are taken off the list of ended ones."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send what has ended."""
        raise NotImplementedError

    def flush_amid(self) -> None:
        """The same while the loop runs."""
        self.flush()


class Coroutines(Endings):
    """See the module. ``page`` is a slate's words."""

    def __init__(self, page: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.open: dict[int, Coroutine] = {}  # not answered
        self.stopping = False  # no more will come
        self._page = page
        self._steps = Steps(page, self._leave)
        self._context = copy_context()
        self._waiting: deque[Coroutine] = deque()
        self._taken = 0  # slots
        self._rows = [*ALL_ROWS]
        self._ended: list[Coroutine] = []  # answered, not sent yet
        self._purged = (0, 0)  # what was taken back, and let go of
        self._late: set[asyncio.Task[None]] = set()  # answered before they ended

    # What comes in --------------------------------------------------------------------------------

    def take(self, one: Coroutine) -> None:
        """Run this one as soon as there is a slot."""
        self.open[one.seq] = one
        self._waiting.append(one)
        self._start()

    def cancel(self, seq: int) -> None:
        """Nobody wants this one any more; it is answered all the same."""
        one = self.open.get(seq)
        if one is not None:
            self._give_up(one, asyncio.CancelledError("the task was cancelled"))

    def purge(self) -> None:
        """Let go of what was taken back; before anything else of this worker's begins."""
        unwanted = taken_back(self._page)
        if unwanted == self._purged:
            return
        start, stop = unwanted
        for seq in [seq for seq in self.open if start <= seq < stop]:
            self._close(self.open[seq])
        self._purged = unwanted

    def run(self) -> None:
        """Let the loop run until somebody stops it, or all have ended where no more will come."""
        if not self.over:
            self._page[WORD] = self._page[NEXT] * STEP
            with contextlib.suppress(SystemExit, KeyboardInterrupt):  # raised by a task's callback
                self.loop.run_forever()
        self.flush()

    @property
    def over(self) -> bool:
        """Whether all have ended and no more will come."""
        return self.stopping and not self.open

    # A coroutine's life ---------------------------------------------------------------------------

    def _start(self) -> None:
        """Give the slots that are free to those that wait, in order."""
        waiting = self._waiting
        while waiting and self._taken < waiting[0].conduct.slots:
            one = waiting.popleft()
            if one.over:
                continue
            self._taken += 1
            # Not in the context of whoever made room, nor by a factory of tasks that a task gave the loop.
            task = asyncio.Task(self._run(one), loop=self.loop, context=self._context.copy())
            task.add_done_callback(partial(self._gone, one), context=self._context)
            one.task = task

    async def _run(self, one: Coroutine) -> None:
        if one.task is not asyncio.current_task():
            return  # something was raised when this was made, and it has another
        if not one.over and self._begin(one):
            await self._steps.live(one)

    def _begin(self, one: Coroutine) -> bool:
        """Note that it begins; say whether it was not taken back before."""
        page = self._page
        page[NEXT] = one.seq + 1
        if recalled(page, one.seq):
            self._close(one)
            return False
        if one.argument is GONE:
            self._answer(one, self.value(None))
            return False
        row = one.row = self._rows.pop()
        page[row + 1] = monotonic_ns()
        page[row] = one.seq + 1
        conduct = one.conduct
        if conduct.timeout is not None:
            one.timer = self.loop.call_later(
                conduct.timeout, self._give_up, one, None, context=self._context
            )
        if conduct.seed is not None:
            seeding.begin(conduct.seed, 0 if one.style == CALL else one.index)
        return True

    def _leave(self, one: Coroutine, ending: BaseException) -> None:
        """It has ended, with a StopIteration if well."""
        if one.seq not in self.open:
            return
        self._page[WORD] = one.seq * STEP + ONE + ENCODING
        if type(ending) is StopIteration:
            outcome = self.value(ending.value)
        else:
            set_trace(ending, theirs(ending))
            outcome = self.error(ending, one.conduct)
        if one.seq in self.open:
            self._answer(one, outcome)

    def _gone(self, one: Coroutine, task: asyncio.Task[None]) -> None:
        """Its asyncio task has ended; if it was cancelled before it began, that is its answer.

        Raises what was raised in the task by nobody's coroutine.
        """
        self._late.discard(task)
        ending = ending_of(task)
        if one.task is task and one.seq in self.open:
            self._answer(one, self.error(ending or asyncio.CancelledError(), one.conduct))
        if ending is not None:
            raise ending

    def _give_up(self, one: Coroutine, reason: BaseException | None) -> None:
        """Answer it now, with the reason (None: it is late), and let it end whenever it will."""
        if one.seq not in self.open:
            return
        if reason is None:
            limit = f"its limit of {one.conduct.timeout:g} s"
            reason = TaskTimeout(f"{one.name} ran longer than {limit} and was cancelled")
        self._answer(one, self.error(reason, one.conduct))
        if one.task is not None:
            self._late.add(one.task)
            one.task.cancel()

    def _answer(self, one: Coroutine, outcome: Any) -> None:
        one.outcome = outcome
        # In one step: a task's handler may raise at any other, and it is answered if it is not open any more.
        self._ended.extend(map(self.open.pop, (one.seq,)))
        if len(self._ended) == 1:
            self.loop.call_soon(self.flush_amid, context=self._context)
        self._close(one)

    def _close(self, one: Coroutine) -> None:
        """Free its slot and its row."""
        one.over = True
        self.open.pop(one.seq, None)
        if one.timer is not None:
            one.timer.cancel()
        if one.row:
            self._page[one.row] = 0
            self._rows.append(one.row)
        if one.task is not None:
            self._taken -= 1
        self._start()
        if self.over and self.loop.is_running():
            self.loop.stop()

    def flush(self) -> None:
        """Send what has ended."""
        ended = self._ended
        if ended:
            self.send([one.seq for one in ended], [one.outcome for one in ended])


def ending_of(task: asyncio.Task[None]) -> BaseException | None:
    """What was raised in a task that has ended, but for its cancellation."""
    return None if task.cancelled() else task.exception()


def wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what tasks of other tasks are left, and let go of the loop."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    last, end = None, loop.time() + 4 * _FAREWELL
    while last is None or not last.done():  # what is left may stop the loop
        if last is None:
            last = asyncio.Task(_farewell(loop, left), loop=loop)
            last.add_done_callback(lambda _: loop.stop())
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            if loop.time() > end:
                break
            last = None  # a step of it may be lost with that
    abandon(loop)


async def _farewell(loop: asyncio.AbstractEventLoop, left: set[asyncio.Task[Any]]) -> None:
    if left:
        await asyncio.wait(left, timeout=_FAREWELL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(loop.shutdown_asyncgens(), _FAREWELL)


def abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Let go of the loop, whatever still runs in it."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
