"""The coroutines of a worker process: they come and go as frames, which their event loop waits for, too."""

from __future__ import annotations

import asyncio
import opcode
import os
import struct
from collections import deque
from typing import Any

from millpond.worker import frames, raised
from millpond.worker.channel import ENDINGS, WorkerChannel
from millpond.worker.codec import GONE, Part
from millpond.worker.conduct import Conduct, Conducted
from millpond.worker.coroutines import ALL_ROWS, Coroutines, abandon, ending_of, wind_up
from millpond.worker.frames import Frame
from millpond.worker.outcome import (
    AGAIN,
    Sealed,
    Wire,
    asks_again,
    may_stand,
)
from millpond.worker.raised import trace_of
from millpond.worker.slate import NEXT, STEP, WORD, recalled
from millpond.worker.stepping import NOTHING, Coroutine


class ChannelCoroutines(Coroutines):
    """See the module."""

    def __init__(self, page: Any, channel: WorkerChannel, wire: Wire) -> None:
        super().__init__(page)
        self._pid = os.getpid()
        self._channel = channel
        self._wire = wire
        self._frames: list[Frame] = []
        self._held = 0  # the number after the last that was taken
        self._failure: BaseException | None = (
            None  # what was raised in the loop, and is not its affair
        )
        self._lost: BaseException | None = None  # amid which the loop may have lost a callback
        self.loop.set_exception_handler(self._reported)
        self.loop.add_reader(channel.fileno(), self._read)

    def hold(self, conducted: Conducted, part: Part, seq: int) -> None:
        """Take a part's tasks; ``seq`` is the first one's number."""
        page = self._page
        encoded = part.plain is None
        arguments = part.blobs if part.plain is None else part.plain
        for n, argument in enumerate(arguments or ()):
            if seq + n < self._held or seq + n in self.open:
                continue  # it was interrupted here, and takes this part again
            if not recalled(page, seq + n):
                given = GONE if encoded and argument is None else argument
                self.take(Coroutine(conducted, part.style, seq + n, part.first + n, given, encoded))
            self._held = seq + n + 1

    def obey(self, frame: Frame) -> None:
        """Do what a frame says that brings no tasks."""
        if frame.kind == frames.CANCEL:
            self.cancel(frame.seq)
        elif frame.kind == frames.STOP:
            self.stopping = True

    def close(self) -> None:
        """All have ended."""
        self._finish_sending()
        if not self.loop.is_closed():  # it was struck amid that
            self.loop.remove_reader(self._channel.fileno())
            wind_up(self.loop)

    def receive(self) -> list[Frame]:
        """Run the loop until frames come; none if all has ended.

        Raises what the channel raised, and what a handler that a task left behind raised amid it: the next call
        goes on from there.
        """
        self._finish_sending()
        if any(self._channel.ahead):  # for what was read already nothing would wake the loop
            self._read()
        if not self._frames:  # it may have been struck after they came
            self.run()
        failure, self._failure = self._failure, None
        if failure is not None:
            if issubclass(type(failure), ENDINGS):
                abandon(self.loop)
            raise failure
        received, self._frames = self._frames, []
        return received

    def run(self) -> None:
        if not self.over:
            self._page[WORD] = self._page[NEXT] * STEP
            try:
                self.loop.run_forever()
            except BaseException as stray:
                self._lost = stray  # until it is known that it was not
                trace = trace_of(stray)
                where = Where(trace and trace.tb_next, stray)
                if not where.lost:
                    self._lost = None
                if not isinstance(stray, (SystemExit, KeyboardInterrupt)) or where.ours:
                    raise
        self.flush()

    def _reported(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something was raised in the loop, and it goes on; not so if one of ours may be forgotten by that."""
        stray = context.get("exception")
        if stray is not None and "handle" in context:
            where = Where(trace_of(stray), stray)
            if where.ours:
                if where.lost:
                    self._lost = stray
                self._failure = stray
                loop.stop()
                return
        loop.default_exception_handler(context)

    def mend(self) -> None:
        """Something was raised between any two steps: go on from what is certain, and answer what is not."""
        lost = self._lost
        for one in list(self.open.values()):
            task = one.task
            if one.over:
                self._close(one)
            elif one.outcome is not NOTHING:
                self._answer(one, one.outcome)
            elif task is None:
                continue
            elif task.done():
                ending = ending_of(task) or asyncio.CancelledError()
                self._answer(one, self.error(ending, one.conduct))
            elif lost is not None and one.row:  # who knows what it waits for
                self._give_up(one, lost)
            elif lost is not None:
                one.task = None  # it has not begun: it gets another
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            elif one.timer is not None and one.timer.when() <= self.loop.time():
                self._give_up(one, None)
        left = self.open.values()
        self._waiting = deque(one for one in left if one.task is None)
        self._taken = len(left) - len(self._waiting)
        self._rows = _free_rows(self._page, {one.row for one in left})
        self._lost = None
        self._start()

    def _finish_sending(self) -> None:
        """Send what was not, since something was raised amid it."""
        self._channel.push()
        self.flush()

    def _read(self) -> None:
        try:
            # Where the loop was struck it may call this twice, and nothing more may come.
            if not self._frames:
                self._frames += self._channel.receive()
        except BaseException as failure:
            self._failure = failure
        self.loop.stop()

    def flush_amid(self) -> None:
        try:
            self.flush()
        except BaseException as failure:
            self._failure = failure
            self.loop.stop()

    def value(self, value: object) -> Any:
        return value if may_stand(value) else self._wire.seal_value(value)

    def error(self, exception: BaseException, conduct: Conduct) -> Sealed:
        sealed = self._wire.seal_error(exception, skip=0)
        raised.set_trace(exception, None)
        if asks_again(exception, conduct.retry_on):
            sealed.tag |= AGAIN
        return sealed

    def send(self, seqs: list[int], outcomes: list[Any]) -> None:
        if os.getpid() != self._pid:
            os._exit(0)
        first = 0
        for batch in self._wire.halves(outcomes):
            self._send(seqs[first : first + len(batch)], batch)
            first += len(batch)

    def _send(self, seqs: list[int], outcomes: list[Any]) -> None:
        sealed = [outcome for outcome in outcomes if type(outcome) is Sealed]
        flags = frames.MIXED if sealed else frames.PLAIN
        if any(outcome.tag & AGAIN for outcome in sealed):
            flags += frames.AGAIN
        body = [
            struct.pack(f"<{len(seqs)}Q", *seqs),
            *self._wire.encode_batch(outcomes, bool(sealed)),
        ]
        ended, count = self._ended, len(seqs)
        frame = frames.encode(frames.ENDED, body, flags=flags, count=count)
        try:
            self._channel.send(frame)
        finally:
            if self._channel.taken is frame:
                del ended[:count]  # nothing is called here, so that no handler comes between


def _free_rows(page: Any, used: set[int]) -> list[int]:
    """The other rows of the slate, with nothing in them."""
    free = [row for row in ALL_ROWS if row not in used]
    for row in free:
        page[row] = 0
    return free


class Where:
    """Where in a loop something was raised, as its traceback tells, which begins in asyncio.

    ``lost``: between taking a callback off its queue and calling it, perhaps. ``ours``: that, or amid one of ours.
    """

    def __init__(self, trace: Any, stray: BaseException) -> None:
        last = None
        while trace is not None and _module(trace) == "asyncio":
            last, trace = trace, trace.tb_next
        self.lost = (
            last is not None
            and not _calls(last, trace is None and isinstance(stray, RecursionError))
            and (trace is None or _module(trace) != "selectors")
        )
        self.ours = self.lost or (trace is not None and _module(trace) == "millpond")


def _module(trace: Any) -> str:
    return str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0]


def _calls(trace: Any, too_deep: bool) -> bool:
    """Whether this is a callback's call; its end, where a handler came then."""
    code = trace.tb_frame.f_code
    if code is not asyncio.Handle._run.__code__ or too_deep:
        return False
    return str(opcode.opname[code.co_code[trace.tb_lasti]]).startswith("CALL")
