"""The coroutines of a worker process: they come and go as frames, which their event loop waits for, too."""

from __future__ import annotations

import os
import struct
from typing import Any

from millpond.worker import frames, raised
from millpond.worker.channel import ENDINGS, WorkerChannel
from millpond.worker.codec import GONE, Part
from millpond.worker.conduct import Conduct, Conducted
from millpond.worker.coroutines import Coroutines, abandon, wind_up
from millpond.worker.frames import Frame
from millpond.worker.outcome import (
    AGAIN,
    Sealed,
    Wire,
    asks_again,
    may_stand,
)
from millpond.worker.slate import recalled
from millpond.worker.stepping import Coroutine


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
        self.loop.add_reader(channel.fileno(), self._read)

    def hold(self, conducted: Conducted, part: Part, seq: int) -> None:
        """Take a part's tasks; ``seq`` is the first one's number."""
        page = self._page
        encoded = part.plain is None
        arguments = part.blobs if part.plain is None else part.plain
        for n, argument in enumerate(arguments or ()):
            if seq + n < self._held:
                continue  # it was interrupted here, and takes this part again
            self._held = seq + n + 1
            if not recalled(page, seq + n):
                given = GONE if encoded and argument is None else argument
                self.take(Coroutine(conducted, part.style, seq + n, part.first + n, given, encoded))

    def obey(self, frame: Frame) -> None:
        """Do what a frame says that brings no tasks."""
        if frame.kind == frames.CANCEL:
            self.cancel(frame.seq)
        elif frame.kind == frames.STOP:
            self.stopping = True

    def close(self) -> None:
        """All have ended."""
        self._finish_sending()
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
        self.run()
        failure, self._failure = self._failure, None
        if failure is not None:
            if issubclass(type(failure), ENDINGS):
                abandon(self.loop)
            raise failure
        received, self._frames = self._frames, []
        return received

    def _finish_sending(self) -> None:
        """Send what was not, since something was raised amid it."""
        self._channel.push()
        self.flush()

    def _read(self) -> None:
        try:
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
