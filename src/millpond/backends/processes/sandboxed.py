"""What the parent believes of a sandboxed worker. Loaded only where a pool has a sandbox."""

from __future__ import annotations

import time
from collections.abc import Iterable

from millpond.backends.processes.child import Child
from millpond.errors import ProtocolError
from millpond.worker import fixed_codec, frames
from millpond.worker.frames import Frame
from millpond.worker.untrusted import laundered


def believed(child: Child, received: Iterable[Frame]) -> list[Frame]:
    """Its frames, made harmless, up to the first that no worker would send: then it is killed."""
    found: list[Frame] = []
    try:
        for frame in received:
            if child.broken is not None:
                break
            _check(child, frame)
            found.append(laundered(frame))
            child.heard += 1
    except ProtocolError as error:
        child.disown(error)
    return found


def _check(child: Child, frame: Frame) -> None:
    """What a frame says of the worker itself. Raises ProtocolError."""
    if frame.kind == frames.READY:
        applied = fixed_codec.decode(frame.body)
        if child.applied is not None or type(applied) is not dict:
            raise ProtocolError("a worker gets ready once, and says what it gave up")
        child.applied = applied
    elif child.applied is None and frame.kind not in (frames.FAILED, frames.LOG):
        raise ProtocolError("a worker answers before it is ready")
    elif frame.kind == frames.DONE:
        if not child.answered <= frame.seq <= frame.seq + frame.count <= child.next_seq:
            raise ProtocolError("a worker answers what it was not asked")
        child.answered = frame.seq + frame.count


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
