"""Outcomes of tasks on their way to the parent: those of short ones are gathered, and go in one frame."""

from __future__ import annotations

import os
import signal
import sys
from _signal import pthread_sigmask, valid_signals  # type: ignore[import-not-found]  # signal's wraps each answer in enums
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from millpond.worker import frames
from millpond.worker.outcome import AGAIN, SMALL, NotTogether, asks_again, may_stand

if TYPE_CHECKING:
    from types import FrameType

    from millpond.worker.channel import WorkerChannel
    from millpond.worker.frames import Buffer
    from millpond.worker.outcome import Sealed, Wire

SHORT: Final = 20_000
"""Nanoseconds. A task under this is shorter than sending its outcome."""
GATHER: Final = 1_000_000
"""Nanoseconds for which outcomes of short tasks are gathered."""
PRESS: Final = signal.SIGURG
"""Tells a worker to send what it has gathered, since the task that it is in takes long. Of all signals this one is
ignored where nobody asks for it, and sent by little else: a socket's urgent data, and Go's runtime to itself."""

_SIGNALS: Final = valid_signals()
_ROOM: Final = 50
"""Calls that sending may nest, and more."""


class Answers:
    """What has been gathered, in the order of the tasks.

    Each method does its work by one step that no signal's handler can come amid: ``next`` says what was done.
    """

    def __init__(self, channel: WorkerChannel, wire: Wire, *, at_once: bool) -> None:
        self._channel = channel
        self._wire = wire
        self._at_once = at_once
        self._pid = os.getpid()
        self.mask: Callable[..., Any] = pthread_sigmask  # simulated workers share a process
        self.first = 0  # the number of the first of those that are gathered
        self._outcomes: list[Any] = []
        self._encoded: list[Buffer] = []  # the same, if that was done already
        self._due: list[Buffer] | None = None  # a frame that is being handed to the channel
        self._mixed = False
        self._again = False  # one of them asks for another run
        self._spent = 0  # nanoseconds that they took
        self.amid: int | None = (
            None  # the number of the task that is the user's just now, if one is
        )

    @property
    def next(self) -> int:
        """The number of the task that is answered next."""
        return self.first + len(self._outcomes)

    def add(self, value: object) -> None:
        """A value that may stand in a batch as it is."""
        self._outcomes.append(value)

    def seal(self, value: object) -> None:
        """A value that may not."""
        self._mixed = True
        self._outcomes.append(self._wire.seal_value(value))

    def add_all(self, values: list[Any]) -> None:
        """Values each of which may stand in a batch as it is."""
        self._outcomes += values

    def seal_some(self, values: list[Any]) -> None:
        """Values some of which may not."""
        seal = self._wire.seal_value
        self._mixed = True
        self._outcomes += [value if may_stand(value) else seal(value) for value in values]

    def add_together(self, values: list[Any], seq: int) -> bool:
        """Make the values a batch of their own, if they can share a pickle and are small; say whether so."""
        self.flush(seq)
        try:
            encoded = self._wire.encode_together(values)
        except NotTogether:
            return False
        if len(encoded) > SMALL * len(values):
            return False
        self._outcomes, self._encoded = values, [encoded]
        return True

    def add_error(
        self,
        exception: BaseException,
        skip: int,
        retry_on: tuple[type[BaseException], ...],
        seq: int,
    ) -> None:
        """What a task raised, its traceback without ``skip`` frames that are ours."""
        if self._encoded:
            self.flush(seq)
        sealed = self._wire.seal_error(exception, skip)
        if asks_again(exception, retry_on):
            sealed.tag |= AGAIN
            self._again = True
        self.repeat(sealed, 1)

    def repeat(self, sealed: Sealed, count: int) -> None:
        """The same outcome for several tasks."""
        self._mixed = True
        self._outcomes += [sealed] * count

    def pace(self, took: int, seq: int) -> None:
        """The last of them took so many nanoseconds: send them, or gather more."""
        self._spent += took
        if took > SHORT or self._spent > GATHER or self._encoded or self._at_once:
            self.flush(seq)

    def press(self, _number: int, frame: FrameType | None) -> None:
        """The handler of PRESS. Between two tasks there is no need, and no right: there they are changed.

        What it leaves undone it is asked for again. Other handlers, which a task may have and which may raise,
        have to wait: a frame goes whole, and once.
        """
        seq, self.amid = self.amid, None  # in one step, as far as handlers are concerned
        try:
            if seq is None or os.getpid() != self._pid or self._channel.amid() or _deep(frame):
                return
            mask = self.mask(signal.SIG_BLOCK, ())
            try:
                self.mask(signal.SIG_BLOCK, _SIGNALS)
                self.flush(seq)
            except OSError:
                pass  # the parent is gone, which is met again soon
            finally:
                self.mask(signal.SIG_SETMASK, mask)
        finally:
            self.amid = seq

    def flush(self, seq: int) -> None:
        """Send what has been gathered."""
        if self._due is not None:
            self._hand_over()
        if self._outcomes:
            self._emit(len(self._outcomes))

    def _emit(self, count: int) -> None:
        """Send the first so many."""
        outcomes = self._outcomes if count == len(self._outcomes) else self._outcomes[:count]
        if os.getpid() != self._pid:
            os._exit(0)  # a copy that the task forked came back here: the original answers
        body = self._encoded or self._wire.encode_batch(outcomes, self._mixed)
        frame = frames.encode(
            frames.DONE,
            body,
            flags=frames.MIXED + self._again * frames.AGAIN if self._mixed else frames.PLAIN,
            count=count,
            seq=self.first,
            seconds=self._spent / 1e9,
        )
        # From here to the end nothing is called: a handler that raises comes before all of this, or after.
        self._due, self.first, self._spent, self._encoded = frame, self.first + count, 0, []
        self._outcomes = rest = self._outcomes[count:]
        if not rest:
            self._mixed = self._again = False
        self._hand_over()

    def _hand_over(self) -> None:
        """Have the channel send what is due, once: it says whether it has it already."""
        due = self._due
        assert due is not None
        if self._channel.taken is due:
            self._channel.push()
        else:
            self._channel.send(due)
        self._due = None


def _deep(frame: FrameType | None) -> bool:
    """Whether a task is so near to the limit of recursion that sending would fail."""
    left = sys.getrecursionlimit() - _ROOM
    while frame is not None and left > 0:
        frame = frame.f_back
        left -= 1
    return frame is not None
