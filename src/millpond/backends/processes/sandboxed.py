"""What the parent believes of a sandboxed worker. Loaded only where a pool has a sandbox."""

from __future__ import annotations

import codecs
import logging
import os
import struct
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from millpond.errors import ProtocolError, escape_lines
from millpond.worker import fixed_codec, frames
from millpond.worker.frames import Decoder, Frame
from millpond.worker.printed import Printed
from millpond.worker.untrusted import laundered
from millpond.worker.untrusted_records import packed

if TYPE_CHECKING:
    from millpond.backends.processes.child import Child
    from millpond.backends.processes.lookout import Lookout
    from millpond.worker.sandbox import Sandbox

_SPARE: Final = 1 << 20
"""Bytes that a frame may have beyond those of its answers."""
_SMALL: Final = 1 << 21
"""Bytes of a frame that brings no answers."""
_WITH_ANSWERS: Final = frozenset({frames.DONE, frames.ENDED})
_FROM_WORKERS: Final = _WITH_ANSWERS | {frames.READY, frames.FAILED, frames.LOG}

_RECORDS: Final = 5_000
"""Log records of a worker at once; as many as it has sent less come again, ``_PER_SECOND`` of them."""
_PER_SECOND: Final = 1_000
_BYTES: Final = 1 << 10
"""Of a record, that count as another one."""


class Outlet:
    """A pipe that a worker prints to: what comes out of it is shown, escaped, as this program's own."""

    def __init__(self, stream: str, doubt: Doubt) -> None:
        """``stream``: of ``sys``, ``"stdout"`` or ``"stderr"``. Raises OSError."""
        self._fd, self.writer = os.pipe()
        os.set_blocking(self._fd, False)
        self._stream = stream
        self._doubt = doubt
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode

    def fileno(self) -> int:
        return self._fd

    def receive(self, pid: int) -> Printed | bytes | None:
        """What worker ``pid`` printed, or the record that says that it is too much.

        Raises EOFError when nobody writes any more.
        """
        if self._fd < 0:
            return None
        try:
            data = os.read(self._fd, frames.PIECE)
        except BlockingIOError:
            return None
        if not data:
            raise EOFError
        if not self._doubt.admits(len(data)):
            return self._doubt.excess(pid)
        return Printed(self._stream, escape_lines(self._decode(data)))

    def close(self) -> None:
        """Nothing more is read."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def outlets(doubt: Doubt) -> tuple[Outlet, Outlet]:
    """For a worker's standard output and error. Raises OSError, and leaves nothing then."""
    first = Outlet("stdout", doubt)
    try:
        return first, Outlet("stderr", doubt)
    except OSError:
        os.close(first.writer)
        first.close()
        raise


class GuardedDecoder(Decoder):
    """Frames of a worker that may have been taken over: what no worker sends is refused at its header."""

    __slots__ = ()

    def __init__(self, largest: int) -> None:
        super().__init__(largest + _SPARE)

    def _header(self, data: bytes, at: int) -> tuple[tuple[int, int, int, int, float], int]:
        head, length = super()._header(data, at)
        if head[0] not in _FROM_WORKERS or (length > _SMALL and head[0] not in _WITH_ANSWERS):
            raise ProtocolError("a worker in a sandbox sends what none sends")
        return head, length


class Doubt:
    """What is kept of a worker to judge what it sends."""

    def __init__(self, orders: Sandbox) -> None:
        self.largest = orders.largest
        self._records = float(_RECORDS)  # that it may log now
        self._counted = time.monotonic()
        self._told = False

    def admits(self, length: int) -> bool:
        """Whether a record of so many bytes, or as much text, may be shown: that takes the program's time."""
        now = time.monotonic()
        self._records = min(_RECORDS, self._records + (now - self._counted) * _PER_SECOND)
        self._counted = now
        cost = 1 + length / _BYTES
        if self._records < cost:
            return False
        self._records -= cost
        self._told = self._told and self._records < _RECORDS / 2
        return True

    def excess(self, pid: int) -> bytes | None:
        """A record that says that some are left out; once, until it sends less."""
        if self._told:
            return None
        self._told = True
        said = f"worker {pid} logs or prints more than one in a sandbox may: the rest is left out"
        state = {
            "name": "millpond",
            "msg": said,
            "levelname": "WARNING",
            "levelno": logging.WARNING,
        }
        return packed(state)


def printed(child: Child, lookout: Lookout) -> list[Printed | bytes]:
    """What it has printed since, as bodies of frames."""
    found = []
    for outlet in child.outlets:
        try:
            found.append(outlet.receive(child.process.pid))
        except EOFError:
            lookout.unwatch(outlet.fileno())
            outlet.close()
    return [text for text in found if text is not None]


def believed(child: Child, received: Iterable[Frame]) -> list[Frame]:
    """Its frames, made harmless, up to the first that no worker would send: then it is killed."""
    found: list[Frame] = []
    try:
        for frame in received:
            if child.broken is not None:
                break
            _check(child, frame)
            if frame.kind == frames.LOG and not child.doubt.admits(len(frame.body)):
                excess = child.doubt.excess(child.process.pid)
                found += [] if excess is None else [frame._replace(body=excess)]
                continue
            found.append(laundered(frame, child.doubt.largest))
            # Records may come while a task runs for ever.
            child.heard += frame.kind in _WITH_ANSWERS
    except ProtocolError as error:
        child.disown(error)
    except Exception as failure:  # nothing that a stranger sends may end the program's loop
        child.disown(ProtocolError(f"a frame cannot be read: {type(failure).__name__}"))
    return found


def _check(child: Child, frame: Frame) -> None:
    """What a frame says of the worker itself. Raises ProtocolError."""
    if frame.kind == frames.READY:
        applied = fixed_codec.decode(frame.body)
        if child.applied is not None or type(applied) is not dict:
            raise ProtocolError("a worker gets ready once, and says what it gave up")
        child.applied = applied
    elif frame.kind == frames.FAILED:
        if child.applied is not None or child.failed is not None:
            raise ProtocolError("a worker that is ready says that it cannot get ready")
    elif child.applied is None and frame.kind != frames.LOG:
        raise ProtocolError("a worker answers before it is ready")
    elif frame.kind == frames.DONE:
        if not child.answered <= frame.seq <= frame.seq + frame.count <= child.next_seq:
            raise ProtocolError("a worker answers what it was not asked")
        child.answered = frame.seq + frame.count
    elif frame.kind == frames.ENDED:
        _check_coroutines(child, frame)


def _check_coroutines(child: Child, frame: Frame) -> None:
    """Each is named once. Whether it has them is known to the scheduler, which has it killed else."""
    if 8 * frame.count > len(frame.body):
        raise ProtocolError("a worker names fewer coroutines than it says")
    seqs = struct.unpack_from(f"<{frame.count}Q", frame.body)
    if len(set(seqs)) != len(seqs) or max(seqs, default=0) >= child.next_seq:
        raise ProtocolError("a worker answers what it was not asked")


def where(child: Child) -> tuple[int, int, int]:
    """The tasks that a dead worker was in, and the first coroutine not begun, if its slate can be true.

    A slate that says otherwise, or that it was in none of the tasks it has not answered, is not believed: then it
    may have been in any of them. Each is run again alone, or fails, so that an input that takes workers over ends.
    """
    first, stop, _ = child.slate.read()
    if child.answered <= first < stop <= child.next_seq:
        return first, stop, min(child.slate.unbegun(), child.next_seq)
    return 0, child.next_seq, child.next_seq


def hides(child: Child, patience: float) -> bool:
    """Whether it has not answered for so many seconds since it was first looked at for being late.

    What a slate says of the time could be a lie, with which a task outlives its limit.
    """
    now = time.monotonic()
    if child.suspected is None or child.suspected[0] != child.heard:
        child.suspected = child.heard, now
    return now - child.suspected[1] >= patience
